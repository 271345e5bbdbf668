import { expect, test } from "vitest";
import { utf8 } from "../src/bytes.js";
import { FrameType, pack, packTaken, unpack } from "../src/frames.js";

test("a frame is its type, its request, and its payload", () => {
  const frame = pack(FrameType.ASK, 0x01020304, utf8("{}"));
  expect(Array.from(frame)).toEqual([5, 1, 2, 3, 4, 0x7b, 0x7d]);
  expect(unpack(frame.buffer)).toEqual({ type: 5, request: 0x01020304, payload: utf8("{}") });
});

test("a count has eight bytes", () => {
  expect(Array.from(packTaken(7, 2 ** 40 + 1))).toEqual([13, 0, 0, 0, 7, 0, 0, 1, 0, 0, 0, 0, 1]);
});

test("a message that is too short is no frame", () => {
  expect(() => unpack(new ArrayBuffer(4))).toThrow(RangeError);
});
