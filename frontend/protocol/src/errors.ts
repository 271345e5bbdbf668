/** Why something failed, as a key that the page has a sentence and a next step for. */
export type Failure =
  /** The signalling server does not answer. */
  | "unreachable"
  /** There is no such room. */
  | "not_found"
  /** The room was closed, or has expired. */
  | "gone"
  /** The room was downloaded from as often as it may be. */
  | "used_up"
  /** Too many requests, or too many wrong passwords. */
  | "rate_limited"
  /** The home is not connected to the signalling server. */
  | "away"
  /** The home serves as many guests as it can at present, or this guest has no lease. */
  | "busy"
  /** Neither a direct path nor a relay leads to the home. */
  | "no_path"
  /** The secret of the link is not that of the room: the link was not copied whole, or somebody is in between. */
  | "wrong_secret"
  /** The room needs a password, or another one. */
  | "password"
  /** Home and page have no version of the protocol in common. */
  | "version"
  /** The owner of the room sent this guest away. */
  | "disconnected"
  /** The connection was closed because nothing was asked for a while. */
  | "idle"
  /** The connection to the home ended. */
  | "lost"
  /** The file changed, or is not there any more. */
  | "changed"
  /** The home cannot read the file at present. */
  | "unavailable"
  /** This page gave up a request itself. */
  | "aborted"
  /** Something arrived that does not follow the protocol. */
  | "invalid";

/** A failure that the page knows how to explain. */
export class RoomError extends Error {
  readonly failure: Failure;
  /** What the other end said, for programs and for the console. */
  readonly detail: string;
  /** Seconds after which to try again, if known. */
  readonly retryAfter: number | undefined;

  constructor(failure: Failure, detail = "", retryAfter?: number) {
    super(detail ? `${failure}: ${detail}` : failure);
    this.name = "RoomError";
    this.failure = failure;
    this.detail = detail;
    this.retryAfter = retryAfter;
  }
}

/** Returns an error as a RoomError. */
export function asRoomError(error: unknown): RoomError {
  return error instanceof RoomError ? error : new RoomError("invalid", String(error));
}
