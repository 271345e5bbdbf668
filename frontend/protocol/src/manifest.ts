/** What is in a room: the home's answer, checked once. */

import { RoomError } from "./errors.js";
import { isObject } from "./json.js";

export type Kind = "video" | "music" | "photo";

export interface Subtitles {
  readonly index: number;
  readonly name: string;
  readonly language: string;
}

export interface RoomFile {
  readonly item: string;
  readonly name: string;
  /** Where it lies in the room, with slashes; empty at the top. */
  readonly folder: string;
  readonly kind: Kind;
  readonly contentType: string;
  /** Bytes. */
  readonly size: number;
  readonly etag: string;
  /** Seconds since 1970. */
  readonly modified: number | null;
  /** Seconds. */
  readonly duration: number | null;
  readonly width: number | null;
  readonly height: number | null;
  /** As FFmpeg names them. */
  readonly videoCodec: string | null;
  readonly audioCodec: string | null;
  readonly hasThumbnail: boolean;
  readonly available: boolean;
  readonly subtitles: readonly Subtitles[];
}

export interface Manifest {
  /** Name of the room. */
  readonly room: string;
  readonly home: string;
  readonly note: string;
  /** Seconds since 1970. */
  readonly expires: number | null;
  /** Whether files may be streamed. */
  readonly stream: boolean;
  readonly files: readonly RoomFile[];
  /** Whether the room has more files than it shows. */
  readonly truncated: boolean;
}

/** A guest's place among those who are served. */
export interface Place {
  /** 0 once it is served, 1 for the next one. */
  readonly position: number;
  readonly waiting: number;
  /** Estimated time until it is served; null if nothing is known. */
  readonly seconds: number | null;
}

/** Returns the manifest in an answer. Files that make no sense are left out. Throws a RoomError if nothing does. */
export function readManifest(told: unknown): Manifest {
  if (!isObject(told) || !Array.isArray(told.files)) throw new RoomError("invalid", "the home's answer is no room");
  return {
    room: text(told.room),
    home: text(told.home),
    note: text(told.note),
    expires: number(told.expires),
    stream: told.stream !== false,
    files: told.files.map(readFile).filter((file) => file !== null),
    truncated: told.truncated === true,
  };
}

/** Returns the place in a part of a lease. Throws a RoomError. */
export function readPlace(told: unknown): Place {
  const position = isObject(told) ? number(told.position) : null;
  if (!isObject(told) || position === null) throw new RoomError("invalid", "the home's answer is no place");
  return { position, waiting: number(told.waiting) ?? 0, seconds: number(told.seconds) };
}

function readFile(told: unknown): RoomFile | null {
  if (!isObject(told)) return null;
  const { item, name, etag, size, kind } = told;
  const isWhole =
    typeof item === "string" &&
    typeof name === "string" &&
    typeof etag === "string" &&
    Number.isSafeInteger(size) &&
    (size as number) >= 0 &&
    (kind === "video" || kind === "music" || kind === "photo");
  if (!isWhole) return null;
  return {
    item,
    name,
    etag,
    kind,
    size: size as number,
    folder: text(told.folder),
    contentType: text(told.content_type),
    modified: number(told.modified),
    duration: number(told.duration),
    width: number(told.width),
    height: number(told.height),
    videoCodec: text(told.video_codec) || null,
    audioCodec: text(told.audio_codec) || null,
    hasThumbnail: told.has_thumbnail === true,
    available: told.available !== false,
    subtitles: Array.isArray(told.subtitles) ? told.subtitles.map(readSubtitles).filter((each) => each !== null) : [],
  };
}

function readSubtitles(told: unknown): Subtitles | null {
  const index = isObject(told) ? number(told.index) : null;
  if (!isObject(told) || index === null) return null;
  return { index, name: text(told.name), language: text(told.language) };
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

function number(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
