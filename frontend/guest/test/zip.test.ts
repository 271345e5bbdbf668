import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32 as reference } from "node:zlib";
import { type Bytes, concat, utf8 } from "@pemus/protocol";
import { expect, test } from "vitest";
import { type Entry, crc32, distinct, zip, zipSize } from "../src/zip.js";

function entry(name: string, ...parts: string[]): Entry {
  const bytes = parts.map(utf8);
  return {
    name,
    size: bytes.reduce((sum, part) => sum + part.length, 0),
    modified: Date.UTC(2026, 4, 6, 12) / 1000,
    async *content() {
      for (const part of bytes) yield part.slice();
    },
  };
}

async function made(entries: Entry[]): Promise<Bytes> {
  const parts: Bytes[] = [];
  for await (const part of zip(entries)) {
    parts.push(part.slice());
    // As when it is handed to the service worker: the memory is gone.
    structuredClone(part.buffer, { transfer: [part.buffer] });
  }
  return concat(parts);
}

test("an archive has the size that was foretold, and other programs read it", async () => {
  const entries = [entry("Ü/a.txt", "first ", "file"), entry("empty"), entry("b.bin", "x".repeat(100_000))];
  const archive = await made(entries);
  expect(archive.length).toBe(zipSize(entries));
  const folder = mkdtempSync(join(tmpdir(), "pemus-zip-"));
  try {
    writeFileSync(join(folder, "a.zip"), archive);
    const script = "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1]); assert z.testzip() is None; print([(i.filename, i.file_size) for i in z.infolist()])";
    const told = execFileSync("python3", ["-c", script, join(folder, "a.zip")], { encoding: "utf8" });
    expect(told.trim()).toBe("[('Ü/a.txt', 10), ('empty', 0), ('b.bin', 100000)]");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("large files and archives are foretold with 64 bits", () => {
  const large = { ...entry("large"), size: 5 * 2 ** 30 };
  const small = { ...entry("small"), size: 1 };
  // Header, name, extra, content, descriptor; directory; the end in both widths.
  const before = 30 + 5 + 20 + large.size + 24 + (30 + 5 + 1 + 16);
  const directory = 46 + 5 + 20 + (46 + 5 + 12);
  expect(zipSize([large, small])).toBe(before + directory + 76 + 22);
});

test("a file that has another size than was said breaks the archive off", async () => {
  await expect(made([{ ...entry("a", "abc"), size: 4 }])).rejects.toThrow("3 bytes instead of 4");
});

test("checksums are those of zlib, in one part or in several", () => {
  const bytes = Uint8Array.from({ length: 1003 }, (_, index) => (index * 37 + 11) % 256);
  expect(crc32(bytes)).toBe(reference(bytes));
  expect(crc32(bytes.subarray(13) as Bytes, crc32(bytes.subarray(0, 13) as Bytes))).toBe(reference(bytes));
  expect(crc32(new Uint8Array())).toBe(0);
});

test("equal names become different ones", () => {
  expect(distinct(["a.jpg", "A.jpg", "a.jpg", "x/.b", "x/.b"])).toEqual(["a.jpg", "A (2).jpg", "a (3).jpg", "x/.b", "x/.b (2)"]);
});
