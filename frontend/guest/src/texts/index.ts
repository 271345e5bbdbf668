/** What the page says, in the languages that it has. */

import type { Format } from "../format.js";
import { german } from "./de.js";
import { english } from "./en.js";

export type Texts = ReturnType<typeof english>;

const LANGUAGES: Readonly<Record<string, (format: Format) => Texts>> = { en: english, de: german };

/** Returns the first of a person's languages that there are texts in, with its region for numbers and dates. */
export function pickLanguage(preferred: readonly string[]): string {
  return preferred.find((each) => each.split("-")[0]!.toLowerCase() in LANGUAGES) ?? "en";
}

export function textsOf(language: string, format: Format): Texts {
  return (LANGUAGES[language.split("-")[0]!.toLowerCase()] ?? english)(format);
}
