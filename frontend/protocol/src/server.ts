/** What the signalling server tells a guest of a room, over HTTP. */

import { RoomError } from "./errors.js";
import { isObject } from "./json.js";

/** A room as the server knows it. It knows neither names nor files unless the home published them. */
export interface ServerRoom {
  /** In its canonical form. */
  readonly slug: string;
  /** PeMuS ID of the home, without dashes. */
  readonly host: string;
  /** Whether the home will ask for a password. */
  readonly password: boolean;
  /** URLs of STUN servers. */
  readonly stun: readonly string[];
}

const TIMEOUT = 10_000;
const MAX_STUN = 4;

/** Looks a room up. Throws a RoomError. */
export async function lookUp(server: URL, slug: string): Promise<ServerRoom> {
  let response: Response;
  try {
    response = await fetch(new URL(`room/${encodeURIComponent(slug)}`, server), {
      signal: AbortSignal.timeout(TIMEOUT),
      referrerPolicy: "no-referrer",
      credentials: "omit",
      cache: "no-store",
    });
  } catch (error) {
    throw new RoomError("unreachable", String(error));
  }
  if (!response.ok) throw refused(response);
  return readRoom(await response.json().catch(() => null));
}

/** Returns the room in the server's answer. Throws a RoomError if there is none. */
export function readRoom(told: unknown): ServerRoom {
  if (
    !isObject(told) ||
    typeof told.slug !== "string" ||
    typeof told.host !== "string" ||
    !/^[0-9A-Z]{28}$/.test(told.host) ||
    typeof told.password !== "boolean"
  ) {
    throw new RoomError("invalid", "the server's answer is no room");
  }
  const stun = Array.isArray(told.stun) ? told.stun : [];
  return {
    slug: told.slug,
    host: told.host,
    password: told.password,
    stun: stun.filter((url): url is string => typeof url === "string" && /^stuns?:/.test(url)).slice(0, MAX_STUN),
  };
}

function refused(response: Response): RoomError {
  const retryAfter = Number(response.headers.get("Retry-After")) || undefined;
  switch (response.status) {
    case 404:
      return new RoomError("not_found");
    case 410:
      return new RoomError("gone");
    case 429:
      return new RoomError("rate_limited", "", retryAfter);
    default:
      return new RoomError("unreachable", `HTTP ${response.status}`, retryAfter);
  }
}
