/** The bytes of a room's files, fetched ahead of their reader within a bounded memory. */

import type { Bytes, RoomFile } from "@pemus/protocol";

/** Bytes of the first request and of later ones. The first is small, so that a picture comes soon after a seek. */
const FIRST_RANGE = 256 * 1024;
const RANGE = 1024 * 1024;
/** Requests that are under way at a time. */
const AHEAD = 4;

export type Fetch = (file: RoomFile, start: number, stop: number, signal: AbortSignal) => Promise<Bytes>;

/** Yields the bytes [start, stop) of a file, in order. Gives up what is under way when the caller stops. */
export async function* read(
  fetch: Fetch,
  file: RoomFile,
  start: number,
  stop: number,
  signal?: AbortSignal,
): AsyncGenerator<Bytes, void, undefined> {
  const stopping = new AbortController();
  const signals = AbortSignal.any([stopping.signal, ...(signal ? [signal] : [])]);
  const queue: Promise<Bytes>[] = [];
  let next = start;
  let size = FIRST_RANGE;
  try {
    while (next < stop || queue.length > 0) {
      while (next < stop && queue.length < AHEAD) {
        const end = Math.min(next + size, stop);
        const part = fetch(file, next, end, signals);
        // It is waited for later.
        part.catch(() => undefined);
        queue.push(part);
        next = end;
        size = Math.min(size * 2, RANGE);
      }
      yield await queue.shift()!;
    }
  } finally {
    stopping.abort();
  }
}

export interface Range {
  readonly start: number;
  /** The byte behind the last. */
  readonly stop: number;
}

/** Returns the part that a Range header (RFC 9110 section 14.2) asks for, null for the whole, "unsatisfiable" if there is none. */
export function readRange(header: string | null, size: number): Range | null | "unsatisfiable" {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? "");
  if (!match || (!match[1] && !match[2])) return null;
  const [, first, last] = match;
  const start = first ? Number(first) : Math.max(0, size - Number(last));
  const stop = first && last ? Math.min(Number(last) + 1, size) : size;
  return start < stop ? { start, stop } : "unsatisfiable";
}
