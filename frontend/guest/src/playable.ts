/** What this browser can play: asked with the types and codecs that a file really has. */

import type { RoomFile } from "@pemus/protocol";

/** FFmpeg's names of codecs, as browsers are asked for them (RFC 6381). An empty text is a codec that no browser has. */
const CODECS: Readonly<Record<string, string>> = {
  h264: "avc1.640028",
  hevc: "hvc1.1.6.L120.90",
  av1: "av01.0.08M.08",
  vp8: "vp8",
  vp9: "vp09.00.40.08",
  mpeg4: "mp4v.20.9",
  theora: "theora",
  aac: "mp4a.40.2",
  mp3: "mp3",
  opus: "opus",
  vorbis: "vorbis",
  flac: "flac",
  alac: "alac",
  ac3: "ac-3",
  eac3: "ec-3",
  dts: "dtsc",
  truehd: "mlpa",
  pcm_s16le: "1",
};
/** In MP4, MP3 has another name. */
const MP4_CODECS: Readonly<Record<string, string>> = { mp3: "mp4a.6B" };
/** Containers that browsers play under another name. */
const SAME_AS: Readonly<Record<string, string>> = {
  "video/quicktime": "video/mp4",
  "video/x-m4v": "video/mp4",
  "audio/x-m4a": "audio/mp4",
  "audio/m4a": "audio/mp4",
  "audio/x-flac": "audio/flac",
  "audio/x-wav": "audio/wav",
  "audio/mp3": "audio/mpeg",
};
/** Containers that hold one kind of sound, which needs no codec beside it. */
const PLAIN: ReadonlySet<string> = new Set(["audio/mpeg", "audio/aac", "audio/flac", "audio/wav"]);

/** How a browser says whether it plays a type: "" is no. */
export type CanPlay = (type: string) => string;

export type Playability =
  | { readonly plays: true; readonly type: string }
  | { readonly plays: false; readonly reason: "container" | "video" | "audio"; readonly name: string };

/** Tells whether a browser plays a film or a song. */
export function playability(file: RoomFile, canPlay: CanPlay): Playability {
  const given = file.contentType.toLowerCase();
  const type = SAME_AS[given] ?? given;
  const ask = (codecs: string[]): boolean => canPlay(codecs.length ? `${type}; codecs="${codecs.join(", ")}"` : type) !== "";
  const no = (reason: "container" | "video" | "audio", name: string): Playability => ({ plays: false, reason, name });
  if (!/^(video|audio)\//.test(type) || !ask([])) return no("container", extension(file.name) || given);
  const codecs: string[] = [];
  if (PLAIN.has(type)) return { plays: true, type };
  for (const [reason, name] of [["video", file.videoCodec], ["audio", file.audioCodec]] as const) {
    if (!name) continue;
    const codec = (type === "video/mp4" || type === "audio/mp4" ? MP4_CODECS[name] : undefined) ?? CODECS[name];
    if (!codec || !ask([codec])) return no(reason, codecName(name));
    codecs.push(codec);
  }
  return ask(codecs) ? { plays: true, type } : no("container", extension(file.name) || given);
}

function extension(name: string): string {
  return /\.([A-Za-z0-9]{1,5})$/.exec(name)?.[1]?.toUpperCase() ?? "";
}

function codecName(name: string): string {
  const names: Record<string, string> = { hevc: "H.265 (HEVC)", h264: "H.264", eac3: "E-AC-3", ac3: "AC-3", mpeg4: "MPEG-4" };
  return names[name] ?? name.toUpperCase();
}
