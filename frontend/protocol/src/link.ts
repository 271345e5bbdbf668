/** The secret link to a room: `https://SERVER/r/SLUG#SECRET`. What stands behind `#` is never sent. */

import { type Bytes, fromBase64url } from "./bytes.js";

/** Bytes of a secret. */
export const SECRET_SIZE = 16;

export interface RoomLink {
  /** Where the signalling server answers, with a slash at the end. */
  readonly server: URL;
  /** As it was written. */
  readonly slug: string;
  /** Empty if only the spoken code is known. */
  readonly secret: Bytes;
}

const PLACE = /^(.*\/)r\/([A-Za-z -]{1,64})$/;

/** Returns what an address says, or null if it is not that of a room, or was not copied whole. */
export function readLink(address: string): RoomLink | null {
  try {
    const url = new URL(address);
    const place = PLACE.exec(decodeURIComponent(url.pathname));
    const secret = fromBase64url(url.hash.slice(1));
    if (!place || (secret.length !== SECRET_SIZE && secret.length !== 0)) return null;
    return { server: new URL(place[1]!, url.origin), slug: place[2]!, secret };
  } catch {
    return null;
  }
}
