/**
 * A ZIP archive that is made while it is read: stored, not compressed, since films and photos are compressed already.
 *
 * Its length is known before it is made. Follows PKWARE's APPNOTE 6.3: sizes and checksums stand behind each file (4.3.9),
 * names are UTF-8 (appendix D), large files and archives use ZIP64 (4.5.3).
 */

import { type Bytes, concat, utf8 } from "@pemus/protocol";

export interface Entry {
  /** With slashes between folders. */
  readonly name: string;
  readonly size: number;
  /** Seconds since 1970. */
  readonly modified: number | null;
  readonly content: () => AsyncIterable<Bytes>;
}

const MAX_32 = 0xffffffff;
const MAX_16 = 0xffff;
/** Sizes behind the file, UTF-8 names. */
const FLAGS = 0x0808;
const LOCAL = 0x04034b50;
const DESCRIPTOR = 0x08074b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const END_64 = 0x06064b50;
const LOCATOR_64 = 0x07064b50;
const VERSION = 20;
const VERSION_64 = 45;
/** "Made by" Unix, so that names are read as UTF-8 everywhere. */
const MADE_BY = 3 << 8;
const MODE = 0o100644 << 16;

/** Returns the length of the archive of some entries, in bytes. */
export function zipSize(entries: readonly Entry[]): number {
  let at = 0;
  let central = 0;
  for (const entry of entries) {
    const name = utf8(entry.name).length;
    const big = isBig(entry);
    central += 46 + name + centralExtra(entry, at).length;
    at += 30 + name + (big ? 20 : 0) + entry.size + (big ? 24 : 16);
  }
  return at + central + (needsEnd64(entries.length, at, central) ? 76 : 0) + 22;
}

/** Yields the archive in parts, which the caller may take the memory of. Throws a RangeError if an entry does not have its size. */
export async function* zip(entries: readonly Entry[]): AsyncGenerator<Bytes, void, undefined> {
  const directory: Bytes[] = [];
  let at = 0;
  for (const entry of entries) {
    const name = utf8(entry.name);
    const big = isBig(entry);
    const version = big ? VERSION_64 : VERSION;
    const stamp = dosTime(entry.modified);
    const extra = big ? fields([1, 2], [16, 2], [0, 8], [0, 8]) : new Uint8Array();
    const local = fields([LOCAL, 4], [version, 2], [FLAGS, 2], [0, 2], [stamp, 4], [0, 4], [big ? MAX_32 : 0, 4], [big ? MAX_32 : 0, 4], [name.length, 2], [big ? 20 : 0, 2]);
    yield concat([local, name, extra]);

    let checksum = 0;
    let size = 0;
    for await (const part of entry.content()) {
      checksum = crc32(part, checksum);
      size += part.length;
      yield part;
    }
    if (size !== entry.size) throw new RangeError(`${entry.name} has ${size} bytes instead of ${entry.size}`);

    const width = big ? 8 : 4;
    yield fields([DESCRIPTOR, 4], [checksum, 4], [size, width], [size, width]);
    const large = centralExtra(entry, at);
    const isFar = at >= MAX_32;
    directory.push(
      fields(
        [CENTRAL, 4], [MADE_BY | (large.length ? VERSION_64 : VERSION), 2], [large.length ? VERSION_64 : VERSION, 2], [FLAGS, 2], [0, 2], [stamp, 4],
        [checksum, 4], [big ? MAX_32 : size, 4], [big ? MAX_32 : size, 4], [name.length, 2], [large.length, 2], [0, 2], [0, 2], [0, 2],
        [MODE >>> 0, 4], [isFar ? MAX_32 : at, 4],
      ),
      name,
      large,
    );
    at += local.length + name.length + extra.length + size + 8 + 2 * width;
  }
  const central = concat(directory);
  yield concat([central, end(entries.length, at, central.length)]);
}

/** Returns names without two that are equal, for example "a.jpg" and "a (2).jpg". */
export function distinct(names: readonly string[]): string[] {
  const taken = new Set<string>();
  return names.map((name) => {
    const dot = name.lastIndexOf(".") > name.lastIndexOf("/") + 1 ? name.lastIndexOf(".") : name.length;
    let chosen = name;
    for (let count = 2; taken.has(chosen.toLowerCase()); count++) {
      chosen = `${name.slice(0, dot)} (${count})${name.slice(dot)}`;
    }
    taken.add(chosen.toLowerCase());
    return chosen;
  });
}

function isBig(entry: Entry): boolean {
  return entry.size >= MAX_32;
}

function needsEnd64(count: number, at: number, central: number): boolean {
  return count >= MAX_16 || at >= MAX_32 || central >= MAX_32;
}

/** Returns what stands behind the directory. */
function end(count: number, at: number, size: number): Bytes {
  const few = Math.min(count, MAX_16);
  const plain = fields([END, 4], [0, 2], [0, 2], [few, 2], [few, 2], [Math.min(size, MAX_32), 4], [Math.min(at, MAX_32), 4], [0, 2]);
  if (!needsEnd64(count, at, size)) return plain;
  return concat([
    fields([END_64, 4], [44, 8], [MADE_BY | VERSION_64, 2], [VERSION_64, 2], [0, 4], [0, 4], [count, 8], [count, 8], [size, 8], [at, 8]),
    fields([LOCATOR_64, 4], [0, 4], [at + size, 8], [1, 4]),
    plain,
  ]);
}

/** Returns what a directory's entry has beside its 32 bits: both sizes, and where the file begins. */
function centralExtra(entry: Entry, at: number): Bytes {
  const values: [number, number][] = [];
  if (isBig(entry)) values.push([entry.size, 8], [entry.size, 8]);
  if (at >= MAX_32) values.push([at, 8]);
  return values.length ? fields([1, 2], [8 * values.length, 2], ...values) : new Uint8Array();
}

/** Returns numbers as bytes, each with its width, little endian. */
function fields(...values: readonly (readonly [number, number])[]): Bytes {
  const bytes = new Uint8Array(values.reduce((size, [, width]) => size + width, 0));
  let at = 0;
  for (const [value, width] of values) {
    let rest = value;
    for (let index = 0; index < width; index++) {
      bytes[at++] = rest % 256;
      rest = Math.floor(rest / 256);
    }
  }
  return bytes;
}

/** Returns a time as MS-DOS writes it, in this browser's time zone. */
function dosTime(seconds: number | null): number {
  const time = new Date((seconds ?? 0) * 1000);
  const year = Math.min(Math.max(time.getFullYear(), 1980), 2107);
  if (time.getFullYear() < 1980) return 0x00210000;
  const date = ((year - 1980) << 9) | ((time.getMonth() + 1) << 5) | time.getDate();
  return ((date << 16) | (time.getHours() << 11) | (time.getMinutes() << 5) | (time.getSeconds() >> 1)) >>> 0;
}

/** Remainders of each byte, and of each byte that up to seven more follow. */
const TABLES = Array.from({ length: 8 }, () => new Int32Array(256));
for (let byte = 0; byte < 256; byte++) {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  TABLES[0]![byte] = value;
}
for (let byte = 0; byte < 256; byte++) {
  for (let table = 1; table < 8; table++) {
    const before = TABLES[table - 1]![byte]!;
    TABLES[table]![byte] = TABLES[0]![before & 255]! ^ (before >>> 8);
  }
}

/** Returns the CRC-32 of what had `before`, and these bytes behind it. */
export function crc32(bytes: Bytes, before = 0): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES as [Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array];
  let value = ~before;
  let at = 0;
  for (const end = bytes.length - 7; at < end; at += 8) {
    const low = value ^ (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24));
    value =
      t7[low & 255]! ^ t6[(low >>> 8) & 255]! ^ t5[(low >>> 16) & 255]! ^ t4[low >>> 24]! ^
      t3[bytes[at + 4]!]! ^ t2[bytes[at + 5]!]! ^ t1[bytes[at + 6]!]! ^ t0[bytes[at + 7]!]!;
  }
  for (; at < bytes.length; at++) value = (value >>> 8) ^ t0[(value ^ bytes[at]!) & 255]!;
  return ~value >>> 0;
}
