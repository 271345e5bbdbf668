import { expect, test } from "vitest";
import { fromBase64url, toBase64url } from "../src/bytes.js";
import { type Transcript, fingerprints, isProven, prove } from "../src/handshake.js";

const SECRET = Uint8Array.from({ length: 16 }, (_, index) => index);
const TRANSCRIPT: Transcript = {
  slug: "baku-timo-rosa-lufi",
  host: "A".repeat(28),
  connection: "c".repeat(32),
  guestNonce: new Uint8Array(16),
  homeNonce: new Uint8Array(16).fill(255),
  offer: "v=0\r\na=fingerprint:sha-256 AB:cd:EF\r\n",
  answer: "v=0\r\na=fingerprint:SHA-256 01:02:0a\r\na=fingerprint:sha-1 ff\r\n",
};
/** Computed by the rules of docs/protocol.md with Python's hmac and hashlib. */
const PROOFS = {
  guest: "DlbVnwbXhTVcFOeigGkPmunelUxkTXBQqfYjTlqpDGk",
  home: "ebYS71Vv-kCZLbj8GbNDt7CiBJWcKJr8b0jIvpyirlU",
} as const;

test.each(["guest", "home"] as const)("the proof of a %s is the one that others compute", async (role) => {
  expect(toBase64url(await prove(SECRET, role, TRANSCRIPT))).toBe(PROOFS[role]);
  expect(await isProven(SECRET, role, TRANSCRIPT, fromBase64url(PROOFS[role]))).toBe(true);
});

test("the proof of one end is not that of the other", async () => {
  expect(await isProven(SECRET, "home", TRANSCRIPT, fromBase64url(PROOFS.guest))).toBe(false);
});

test.each<Partial<Transcript>>([
  { slug: "baku-timo-rosa-lufa" },
  { host: "B".repeat(28) },
  { connection: "d".repeat(32) },
  { guestNonce: new Uint8Array(16).fill(1) },
  { homeNonce: new Uint8Array(16).fill(1) },
  { offer: TRANSCRIPT.offer.replace("AB", "AC") },
  { answer: TRANSCRIPT.answer.replace("01", "02") },
  { answer: `${TRANSCRIPT.answer}a=candidate:elsewhere\r\n` },
])("a proof is not good for a connection with %j", async (change) => {
  expect(await isProven(SECRET, "home", { ...TRANSCRIPT, ...change }, fromBase64url(PROOFS.home))).toBe(false);
});

test("another secret proves nothing", async () => {
  expect(await isProven(new Uint8Array(16), "home", TRANSCRIPT, fromBase64url(PROOFS.home))).toBe(false);
});

test("fingerprints have one form", () => {
  expect(fingerprints(TRANSCRIPT.answer)).toBe("sha-1 FF\nsha-256 01:02:0A");
  expect(() => fingerprints("a=fingerprint:sha-1 ff\r\n")).toThrow(SyntaxError);
});
