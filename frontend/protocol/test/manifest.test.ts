import { expect, test } from "vitest";
import { readManifest, readPlace } from "../src/manifest.js";
import { readRoom } from "../src/server.js";

const FILE = {
  item: "i1", name: "Film.mp4", folder: "", kind: "video", content_type: "video/mp4", size: 10, etag: "e", modified: 1.5,
  duration: 60, width: 1920, height: 1080, video_codec: "h264", audio_codec: null, has_thumbnail: true, available: true,
  subtitles: [{ index: 0, name: "English", language: null }, { name: "without an index" }],
};

test("a manifest is read", () => {
  const room = readManifest({ room: "Holiday", home: "Beach house", note: "", expires: null, files: [FILE], truncated: false });
  expect(room).toMatchObject({ room: "Holiday", home: "Beach house", expires: null, stream: true });
  expect(room.files[0]).toMatchObject({ name: "Film.mp4", videoCodec: "h264", audioCodec: null, hasThumbnail: true });
  expect(room.files[0]!.subtitles).toEqual([{ index: 0, name: "English", language: "" }]);
});

test.each([{ size: -1 }, { size: 1.5 }, { size: "10" }, { item: 7 }, { etag: null }, { kind: "program" }, { name: undefined }])(
  "a file with %j is left out",
  (change) => {
    expect(readManifest({ files: [{ ...FILE, ...change }, FILE, null, "x"] }).files).toHaveLength(1);
  },
);

test.each([null, [], "x", {}, { files: {} }])("%j is no manifest", (told) => {
  expect(() => readManifest(told)).toThrow("invalid");
});

test("a place is read", () => {
  expect(readPlace({ position: 2, waiting: 5, seconds: null })).toEqual({ position: 2, waiting: 5, seconds: null });
  expect(() => readPlace({ waiting: 5 })).toThrow("invalid");
});

test("of the server's STUN servers only STUN is used", () => {
  const told = { slug: "s", host: "A".repeat(28), password: false, stun: ["stun:a:1", "turn:b:1", 7, "stuns:c:1"] };
  expect(readRoom(told).stun).toEqual(["stun:a:1", "stuns:c:1"]);
  expect(readRoom({ ...told, stun: undefined }).stun).toEqual([]);
  expect(() => readRoom({ ...told, host: "elsewhere" })).toThrow("invalid");
});
