/** Bytes and the texts that stand for them in messages. */

/** Bytes that are not shared with another thread, as Web Crypto and data channels want them. */
export type Bytes = Uint8Array<ArrayBuffer>;

const ENCODER = new TextEncoder();
const DECODER = new TextDecoder("utf-8", { fatal: true });

/** Returns a text as UTF-8. */
export function utf8(text: string): Bytes {
  return ENCODER.encode(text);
}

/** Returns the text in UTF-8 bytes. Throws a TypeError if they are none. */
export function textOf(bytes: Bytes): string {
  return DECODER.decode(bytes);
}

/** Returns bytes as base64url without padding (RFC 4648 section 5). */
export function toBase64url(bytes: Bytes): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Returns the bytes in a base64url text without padding. Throws a SyntaxError if it is none. */
export function fromBase64url(text: string): Bytes {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) throw new SyntaxError("not base64url");
  let binary: string;
  try {
    binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  } catch {
    throw new SyntaxError("not base64url");
  }
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

/** Returns bytes as hexadecimal digits. */
export function toHex(bytes: Bytes): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Returns random bytes. */
export function random(size: number): Bytes {
  return crypto.getRandomValues(new Uint8Array(size));
}

/** Returns all parts one after the other, each after its length in four bytes (big endian). */
export function statement(...parts: readonly Bytes[]): Bytes {
  return concat(parts.flatMap((part) => [uint32(part.length), part]));
}

/** Returns parts as one array. */
export function concat(parts: readonly Bytes[]): Bytes {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function uint32(value: number): Bytes {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}
