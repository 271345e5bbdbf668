/** The client of PeMuS's rooms: the link, the signalling server, the connection to the home, and what is asked of it. */

export { type Bytes, concat, fromBase64url, random, toBase64url, toHex, utf8 } from "./bytes.js";
export type { PathKind } from "./connection.js";
export { type Failure, RoomError, asRoomError } from "./errors.js";
export type { Purpose } from "./lease.js";
export { type RoomLink, readLink } from "./link.js";
export type { Kind, Manifest, Place, RoomFile, Subtitles } from "./manifest.js";
export { MAX_RANGE, type Phase, Session } from "./session.js";
export { within } from "./time.js";
