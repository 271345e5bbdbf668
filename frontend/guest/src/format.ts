/** Numbers as people read them, in the page's language. */

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;

const NO_BREAK = "\u00a0";

/** Formats numbers for one language. */
export class Format {
  readonly #language: string;

  constructor(language: string) {
    this.#language = language;
  }

  /** Returns a number of bytes, for example "1.4 GB". */
  size(bytes: number): string {
    let value = bytes;
    let unit = 0;
    while (value >= 999.5 && unit < UNITS.length - 1) {
      value /= 1000;
      unit++;
    }
    const text = new Intl.NumberFormat(this.#language, {
      style: "unit",
      unit: UNITS[unit]!,
      unitDisplay: unit === 0 ? "long" : "short",
      maximumFractionDigits: unit === 0 || value >= 100 ? 0 : 1,
    }).format(value);
    return text.replace(" ", NO_BREAK);
  }

  /** Returns bytes per second. */
  rate(bytesPerSecond: number): string {
    return `${this.size(bytesPerSecond)}/s`;
  }

  /** Returns a length of a film or a song, for example "1:04:09". */
  duration(seconds: number): string {
    const whole = Math.round(seconds);
    const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    const two = (value: number): string => String(value).padStart(2, "0");
    return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
  }

  /** Returns a wait, rounded to what matters of it, for example "3 minutes". */
  wait(seconds: number): string {
    const [value, unit] =
      seconds < 55 ? [seconds < 10 ? Math.max(1, Math.round(seconds)) : Math.round(seconds / 5) * 5, "second"]
      : seconds < 3300 ? [Math.round(seconds / 60), "minute"]
      : [Math.round(seconds / 360) / 10, "hour"];
    return new Intl.NumberFormat(this.#language, {
      style: "unit",
      unit: unit as string,
      unitDisplay: "long",
      maximumFractionDigits: 1,
    }).format(value as number);
  }

  /** Returns how far away a time is, for example "in 3 days". */
  until(seconds: number, now: number): string {
    const left = seconds - now;
    const [value, unit] =
      left < 3600 ? [Math.max(1, Math.round(left / 60)), "minute"]
      : left < 2 * 86400 ? [Math.round(left / 3600), "hour"]
      : [Math.round(left / 86400), "day"];
    return new Intl.RelativeTimeFormat(this.#language).format(value as number, unit as Intl.RelativeTimeFormatUnit);
  }

  /** Returns a number of seconds in full, for a countdown. */
  seconds(value: number): string {
    return new Intl.NumberFormat(this.#language, { style: "unit", unit: "second", unitDisplay: "long" }).format(value);
  }

  /** Returns a day and a time. */
  date(seconds: number): string {
    return new Intl.DateTimeFormat(this.#language, { dateStyle: "medium", timeStyle: "short" }).format(seconds * 1000);
  }

  percent(share: number): string {
    return new Intl.NumberFormat(this.#language, { style: "percent", maximumFractionDigits: 0 }).format(Math.floor(share * 100) / 100);
  }

  number(value: number): string {
    return new Intl.NumberFormat(this.#language).format(value);
  }
}
