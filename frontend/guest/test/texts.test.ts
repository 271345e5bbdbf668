import { expect, test } from "vitest";
import { Format } from "../src/format.js";
import { german } from "../src/texts/de.js";
import { english } from "../src/texts/en.js";
import { pickLanguage } from "../src/texts/index.js";
import { Transfer } from "../src/transfer.js";

const en = new Format("en");

function keys(value: unknown, path = ""): string[] {
  if (typeof value !== "object" || value === null) return [path];
  return Object.entries(value).flatMap(([key, each]) => keys(each, `${path}/${key}`));
}

test("every language says everything", () => {
  expect(keys(german(new Format("de")))).toEqual(keys(english(en)));
});

test("the first language that there are texts in is taken", () => {
  expect(pickLanguage(["fr-FR", "de-AT", "en"])).toBe("de-AT");
  expect(pickLanguage(["fr"])).toBe("en");
  expect(pickLanguage([])).toBe("en");
});

test("numbers are written as people write them", () => {
  expect(en.size(0)).toBe("0\u00a0bytes");
  expect(en.size(999_999)).toBe("1\u00a0MB");
  expect(en.size(1_430_000_000)).toBe("1.4\u00a0GB");
  expect(new Format("de").size(1_430_000_000)).toBe("1,4\u00a0GB");
  expect(en.duration(59.6)).toBe("1:00");
  expect(en.duration(3849)).toBe("1:04:09");
  expect(en.wait(0.4)).toBe("1 second");
  expect(en.wait(12)).toBe("10 seconds");
  expect(en.wait(90)).toBe("2 minutes");
  expect(en.wait(5400)).toBe("1.5 hours");
  expect(en.until(1000 + 3 * 86400, 1000)).toBe("in 3 days");
  expect(en.percent(0.9999)).toBe("99%");
});

test("a download knows its rate and the time that is left", () => {
  const transfer = new Transfer("a", 10_000);
  expect(transfer.secondsLeft(0)).toBeNull();
  for (let at = 0; at <= 2000; at += 500) transfer.took(500, at);
  expect(transfer.rate(2000)).toBe(1250);
  expect(transfer.secondsLeft(2000)).toBe(6);
  expect(transfer.rate(10_000)).toBe(0);
  transfer.end(null);
  transfer.end("cancelled");
  expect(transfer.state).toBe("done");
});
