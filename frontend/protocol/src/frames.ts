/** The frames of a link: a byte for the type, four for the number of the request (big endian), and a payload. */

import { type Bytes, concat } from "./bytes.js";

export const FrameType = {
  HELLO: 1,
  BYE: 2,
  PING: 3,
  PONG: 4,
  ASK: 5,
  DATA: 6,
  END: 7,
  REFUSE: 8,
  CANCEL: 9,
  NOTE: 10,
  TAKEN: 13,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

export interface Frame {
  /** A number, since a later release may send types that this page does not know. */
  readonly type: number;
  readonly request: number;
  readonly payload: Bytes;
}

const HEAD_SIZE = 5;

/** Returns a frame as bytes. */
export function pack(type: FrameType, request = 0, payload: Bytes = new Uint8Array()): Bytes {
  const head = new Uint8Array(HEAD_SIZE);
  head[0] = type;
  new DataView(head.buffer).setUint32(1, request);
  return concat([head, payload]);
}

/** Returns the frame in a message. Throws a RangeError if it is too short for one. */
export function unpack(message: ArrayBuffer): Frame {
  if (message.byteLength < HEAD_SIZE) throw new RangeError("a frame is too short");
  const view = new DataView(message);
  return {
    type: view.getUint8(0),
    request: view.getUint32(1),
    payload: new Uint8Array(message, HEAD_SIZE),
  };
}

/** Returns a frame that acknowledges so many bytes of an answer. */
export function packTaken(request: number, count: number): Bytes {
  const payload = new Uint8Array(8);
  new DataView(payload.buffer).setBigUint64(0, BigInt(count));
  return pack(FrameType.TAKEN, request, payload);
}
