import type { RoomFile } from "@pemus/protocol";
import { expect, test } from "vitest";
import { playability } from "../src/playable.js";

/** A browser that plays H.264 with AAC or MP3 in MP4, VP9 in WebM, and MP3. */
function canPlay(type: string): string {
  const [container, codecs] = type.split(/; codecs=/);
  const known: Record<string, string[]> = {
    "video/mp4": ["avc1.640028", "mp4a.40.2", "mp4a.6B"],
    "video/webm": ["vp09.00.40.08", "opus"],
    "audio/mpeg": ["mp3"],
  };
  const have = known[container!];
  if (!have) return "";
  return (codecs?.replaceAll('"', "").split(", ") ?? []).every((each) => have.includes(each)) ? "probably" : "";
}

function file(contentType: string, videoCodec: string | null, audioCodec: string | null, name = "a.xyz"): RoomFile {
  return { name, contentType, videoCodec, audioCodec } as RoomFile;
}

test.each([
  [file("video/mp4", "h264", "aac"), "video/mp4"],
  [file("video/mp4", "h264", "mp3"), "video/mp4"],
  [file("video/mp4", "h264", null), "video/mp4"],
  [file("video/quicktime", "h264", "aac"), "video/mp4"],
  [file("video/webm", "vp9", "opus"), "video/webm"],
  [file("audio/mpeg", null, "mp3"), "audio/mpeg"],
])("plays %j as %s", (each, type) => {
  expect(playability(each, canPlay)).toEqual({ plays: true, type });
});

test.each([
  [file("video/x-matroska", "h264", "aac", "film.mkv"), "container", "MKV"],
  [file("video/mp4", "hevc", "aac"), "video", "H.265 (HEVC)"],
  [file("video/mp4", "h264", "ac3"), "audio", "AC-3"],
  [file("video/mp4", "prores", "aac"), "video", "PRORES"],
  [file("application/octet-stream", null, null, "noending"), "container", "application/octet-stream"],
])("does not play %j: %s", (each, reason, name) => {
  expect(playability(each, canPlay)).toEqual({ plays: false, reason, name });
});
