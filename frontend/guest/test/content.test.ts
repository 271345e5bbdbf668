import { type Bytes, type RoomFile, concat } from "@pemus/protocol";
import { expect, test } from "vitest";
import { read, readRange } from "../src/content.js";

const MIB = 1024 * 1024;
const FILE = { item: "i", etag: "e", size: 20 * MIB } as RoomFile;

test.each([
  [null, null],
  ["bytes=0-", { start: 0, stop: 100 }],
  ["bytes=10-19", { start: 10, stop: 20 }],
  ["bytes=90-500", { start: 90, stop: 100 }],
  ["bytes=-10", { start: 90, stop: 100 }],
  ["bytes=-500", { start: 0, stop: 100 }],
  ["bytes=100-", "unsatisfiable"],
  ["bytes=-0", "unsatisfiable"],
  ["bytes=0-1,5-6", null],
  ["pages=0-1", null],
  ["bytes=-", null],
])("Range: %s", (header, range) => {
  expect(readRange(header, 100)).toEqual(range);
});

/** Answers requests like a home, and remembers them. */
class Home {
  readonly asked: [number, number][] = [];
  underWay = 0;
  most = 0;
  gaveUp = 0;

  readonly fetch = async (_: RoomFile, start: number, stop: number, signal: AbortSignal): Promise<Bytes> => {
    this.asked.push([start, stop]);
    this.most = Math.max(this.most, ++this.underWay);
    signal.addEventListener("abort", () => this.gaveUp++);
    await new Promise((resolve) => setTimeout(resolve));
    this.underWay--;
    return Uint8Array.from({ length: stop - start }, (_, index) => (start + index) % 251);
  };
}

test("a file is read in order, in requests of 1 MiB at most, of which four are under way", async () => {
  const home = new Home();
  const parts: Bytes[] = [];
  for await (const part of read(home.fetch, FILE, 5, 10 * MIB + 7)) parts.push(part);
  const whole = concat(parts);
  expect(whole.length).toBe(10 * MIB + 2);
  expect(whole[0]).toBe(5);
  expect(whole.at(-1)).toBe((10 * MIB + 6) % 251);
  expect(home.asked[0]).toEqual([5, 5 + 256 * 1024]);
  expect(Math.max(...home.asked.map(([start, stop]) => stop - start))).toBe(MIB);
  expect(home.most).toBe(4);
});

test("a reader who stops gives up what is under way, and no more is asked", async () => {
  const home = new Home();
  for await (const _ of read(home.fetch, FILE, 0, FILE.size)) break;
  expect(home.gaveUp).toBe(home.asked.length);
  expect(home.asked.length).toBe(4);
});

test("a reader who does not read on has at most four requests ahead", async () => {
  const home = new Home();
  const parts = read(home.fetch, FILE, 0, FILE.size);
  await parts.next();
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(home.asked.length).toBe(4);
  await parts.return();
});

test("an empty file has no content", async () => {
  expect(await read(new Home().fetch, FILE, 0, 0).next()).toEqual({ done: true, value: undefined });
});
