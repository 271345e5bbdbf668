/**
 * How guest and home prove to each other that they have the secret of the link.
 *
 * Both authenticate what the connection is made of: slug, host, the nonces of both ends, and the fingerprints of both DTLS
 * certificates. A signalling server that changed any of it, or connected somebody else, is detected here.
 */

import { type Bytes, statement, utf8 } from "./bytes.js";

export interface Transcript {
  readonly slug: string;
  /** PeMuS ID of the home, without dashes. */
  readonly host: string;
  readonly connection: string;
  readonly guestNonce: Bytes;
  readonly homeNonce: Bytes;
  /** The session descriptions. */
  readonly offer: string;
  readonly answer: string;
}

export type Role = "guest" | "home";

/** Returns what one end sends to prove that it has the secret. */
export async function prove(secret: Bytes, role: Role, made: Transcript): Promise<Bytes> {
  const key = await roomKey(secret);
  return new Uint8Array(await crypto.subtle.sign("HMAC", key, await signed(role, made)));
}

/** Tells whether the other end has the secret. */
export async function isProven(
  secret: Bytes,
  role: Role,
  made: Transcript,
  proof: Bytes,
): Promise<boolean> {
  const key = await roomKey(secret);
  return crypto.subtle.verify("HMAC", key, proof, await signed(role, made));
}

/** Returns the fingerprints of a description's certificate in one normal form. Throws a SyntaxError without any. */
export function fingerprints(sdp: string): string {
  const found = Array.from(sdp.matchAll(/^a=fingerprint:(\S+) ([0-9A-Fa-f:]+)\s*$/gm), (line) =>
    `${line[1]!.toLowerCase()} ${line[2]!.toUpperCase()}`,
  ).sort();
  if (!found.some((each) => each.startsWith("sha-256 "))) {
    throw new SyntaxError("there is no fingerprint in the description");
  }
  return found.join("\n");
}

async function roomKey(secret: Bytes): Promise<CryptoKey> {
  const key = await crypto.subtle.digest("SHA-256", statement(utf8("pemus room key 1"), secret));
  return crypto.subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]);
}

async function signed(role: Role, made: Transcript): Promise<Bytes> {
  const digests = await Promise.all(
    [made.offer, made.answer].map(async (sdp) => new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(sdp)))),
  );
  return statement(
    utf8("pemus guest 1"),
    utf8(role),
    utf8(made.slug),
    utf8(made.host),
    utf8(made.connection),
    made.guestNonce,
    made.homeNonce,
    utf8(fingerprints(made.offer)),
    utf8(fingerprints(made.answer)),
    ...digests,
  );
}
