/**
 * A guest's visit to a room: looks it up, connects, enters, and comes back by itself when the connection is lost.
 *
 * Whoever asks through it waits while it is away, and goes on where it was.
 */

import { type Bytes, textOf } from "./bytes.js";
import { Connection, type PathKind } from "./connection.js";
import { type Failure, RoomError, asRoomError } from "./errors.js";
import { Lease, type Purpose } from "./lease.js";
import type { RoomLink } from "./link.js";
import { type Manifest, type Place, type RoomFile, readManifest } from "./manifest.js";
import { lookUp } from "./server.js";
import { sleep, unlessAborted } from "./time.js";

/** Milliseconds until a lost connection is made again: at first, and at most. */
const FIRST_RETRY = 1_000;
const MAX_RETRY = 30_000;
/** Milliseconds until a request is tried again that the home could not serve at once. */
const BUSY_RETRY = 2_000;
/** Milliseconds for which a lease is kept after its last use: whoever presses Stop and Play again keeps the place. */
const LEASE_LINGER = 3_000;
/** Bytes of one range at most. */
export const MAX_RANGE = 4 * 1024 * 1024;

/** Failures that trying again does not mend. */
const FINAL: ReadonlySet<Failure> = new Set([
  "not_found",
  "gone",
  "used_up",
  "wrong_secret",
  "version",
  "disconnected",
  "aborted",
]);
/** Attempts in a row after which the page stops trying. */
const MAX_ATTEMPTS: Readonly<Partial<Record<Failure, number>>> = { invalid: 3, no_path: 3 };

export type Phase =
  | { readonly kind: "looking" }
  | { readonly kind: "connecting" }
  /** `retryAfter` is in seconds, null if a password may be tried now. */
  | { readonly kind: "password"; readonly isWrong: boolean; readonly isChecking: boolean; readonly retryAfter: number | null }
  | { readonly kind: "open" }
  /** The home closed the connection because nothing was asked. It is made again when something is. */
  | { readonly kind: "idle" }
  /** Tries again by itself at `retryAt` (milliseconds since 1970). */
  | { readonly kind: "waiting"; readonly failure: Failure; readonly retryAt: number }
  | { readonly kind: "over"; readonly failure: Failure };

export class Session {
  phase: Phase = { kind: "looking" };
  /** What is in the room, once it is known. */
  manifest: Manifest | null = null;
  path: PathKind | null = null;
  /** Called when anything that a page may show has changed. */
  onchange: () => void = () => undefined;
  readonly link: RoomLink;
  readonly #guest: string;
  #connection: Connection | null = null;
  #password = "";
  #giveAnswer: ((password: string) => void) | null = null;
  /** Ends a wait before the next attempt. */
  #hurry = new AbortController();
  #waiting: { resolve: (connection: Connection) => void; reject: (error: RoomError) => void }[] = [];
  readonly #leases = new Map<Purpose, { users: number; lease: Lease | null; connection: Connection | null }>();
  #isRunning = false;

  /** `guest` is a random name that this browser keeps for the room. */
  constructor(link: RoomLink, guest: string) {
    this.link = link;
    this.#guest = guest;
  }

  /** Whether the home's identity cannot be checked, because the link has no secret. */
  get isSpoken(): boolean {
    return this.link.secret.length === 0;
  }

  /** Connects, and stays connected until the room is over. Does nothing if it runs already. */
  async run(): Promise<void> {
    if (this.#isRunning) return;
    this.#isRunning = true;
    try {
      await this.#keepConnected();
    } finally {
      this.#isRunning = false;
    }
  }

  /** Tries again now if it waits for the next attempt. */
  hurry(): void {
    if (this.phase.kind === "over") void this.run();
    else this.#hurry.abort();
  }

  /** Answers the home's question for the password. */
  answer(password: string): void {
    this.#giveAnswer?.(password);
  }

  /** Says that something will be fetched. Returns what to call when it was. */
  hold(purpose: Purpose): () => void {
    const held = this.#held(purpose);
    held.users++;
    let isReleased = false;
    return () => {
      if (isReleased) return;
      isReleased = true;
      held.users--;
      setTimeout(() => {
        if (held.users > 0) return;
        held.lease?.release();
        held.lease = null;
      }, LEASE_LINGER);
    };
  }

  /** Returns this guest's place for a purpose, null while it wants none. */
  place(purpose: Purpose): Place | null {
    return this.#leases.get(purpose)?.lease?.place ?? null;
  }

  /**
   * Returns the bytes [start, stop) of a file, at most MAX_RANGE. Waits for a place, and for lost connections to come back.
   *
   * Throws a RoomError.
   */
  async range(file: RoomFile, start: number, stop: number, purpose: Purpose, signal?: AbortSignal): Promise<Bytes> {
    const ask = { do: "range", item: file.item, etag: file.etag, start, stop } as const;
    return this.#persist(signal, async (connection) => {
      await unlessAborted(this.#lease(purpose, connection).admitted, signal);
      const bytes = await connection.askWhole(ask, signal);
      if (bytes.length !== stop - start) throw new RoomError("changed", "the answer has another length");
      return bytes;
    });
  }

  /** Returns a picture of a file, as the bytes of an image. Throws a RoomError. */
  async thumbnail(file: RoomFile, signal?: AbortSignal): Promise<Bytes> {
    return this.#persist(signal, (connection) => connection.askWhole({ do: "thumbnail", item: file.item }, signal));
  }

  /** Returns subtitles as WebVTT. Throws a RoomError. */
  async subtitles(file: RoomFile, index: number, signal?: AbortSignal): Promise<Bytes> {
    return this.#persist(signal, (connection) => connection.askWhole({ do: "subtitles", item: file.item, index }, signal));
  }

  async #persist<T>(signal: AbortSignal | undefined, act: (connection: Connection) => Promise<T>): Promise<T> {
    for (;;) {
      const connection = await unlessAborted(this.#connected(), signal);
      try {
        return await act(connection);
      } catch (error) {
        const { failure } = asRoomError(error);
        if (failure === "busy") await sleep(BUSY_RETRY, signal);
        else if (this.#connection === connection && failure !== "lost") throw error;
        // The reason for which the connection ended is handled by the one who keeps it.
        else await sleep(0, signal);
      }
    }
  }

  #connected(): Promise<Connection> {
    if (this.#connection && this.phase.kind === "open") return Promise.resolve(this.#connection);
    if (this.phase.kind === "over") return Promise.reject(new RoomError(this.phase.failure));
    if (this.phase.kind === "idle") this.#hurry.abort();
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  #held(purpose: Purpose): { users: number; lease: Lease | null; connection: Connection | null } {
    let held = this.#leases.get(purpose);
    if (!held) this.#leases.set(purpose, (held = { users: 0, lease: null, connection: null }));
    return held;
  }

  #lease(purpose: Purpose, connection: Connection): Lease {
    const held = this.#held(purpose);
    if (!held.lease || held.lease.isOver || held.connection !== connection) {
      held.lease = new Lease(connection, purpose, () => this.onchange());
      held.connection = connection;
    }
    return held.lease;
  }

  async #keepConnected(): Promise<void> {
    let failures = 0;
    for (;;) {
      let error: RoomError;
      try {
        const connection = await this.#enter();
        failures = 0;
        error = await connection.ended;
      } catch (caught) {
        error = asRoomError(caught);
      }
      console.info("PeMuS:", error.message);
      this.#connection?.close();
      this.#connection = null;
      this.path = null;
      const { failure } = error;
      failures++;
      this.#hurry = new AbortController();
      if (FINAL.has(failure) || failures >= (MAX_ATTEMPTS[failure] ?? Infinity)) {
        this.#become({ kind: "over", failure });
        for (const { reject } of this.#waiting.splice(0)) reject(error);
        return;
      }
      if (failure === "idle" && this.#waiting.length === 0) {
        this.#become({ kind: "idle" });
        await sleep(2 ** 31 - 1, this.#hurry.signal).catch(() => undefined);
      } else {
        const backoff = Math.min(FIRST_RETRY * 2 ** (failures - 1), MAX_RETRY);
        const milliseconds = error.retryAfter ? error.retryAfter * 1_000 : backoff;
        this.#become({ kind: "waiting", failure, retryAt: Date.now() + milliseconds });
        await sleep(milliseconds, this.#hurry.signal).catch(() => undefined);
      }
    }
  }

  /** Connects, and returns the connection once the home let this guest in. Throws a RoomError. */
  async #enter(): Promise<Connection> {
    this.#become({ kind: "looking" });
    const room = await lookUp(this.link.server, this.link.slug);
    this.#become({ kind: "connecting" });
    const connection = await Connection.open({
      server: this.link.server,
      slug: room.slug,
      host: room.host,
      secret: this.link.secret,
      guest: this.#guest,
      stun: room.stun,
    });
    this.#connection = connection;
    this.manifest = await Promise.race([this.#askForRoom(connection), connection.ended.then((error) => Promise.reject(error))]);
    connection.onnote = (about) => {
      if (about === "room") void this.#refresh(connection);
    };
    this.#become({ kind: "open" });
    for (const { resolve } of this.#waiting.splice(0)) resolve(connection);
    this.path = await connection.path().catch(() => null);
    this.onchange();
    return connection;
  }

  async #askForRoom(connection: Connection): Promise<Manifest> {
    for (;;) {
      try {
        return await this.#room(connection);
      } catch (error) {
        const { failure, detail, retryAfter } = asRoomError(error);
        if (failure !== "password" && failure !== "rate_limited") throw error;
        const answered = new Promise<string>((resolve) => {
          this.#giveAnswer = resolve;
        });
        const isWrong = failure === "password" && detail === "wrong";
        this.#become({ kind: "password", isWrong, isChecking: false, retryAfter: retryAfter ?? null });
        this.#password = await answered;
        this.#become({ kind: "password", isWrong: false, isChecking: true, retryAfter: null });
      }
    }
  }

  async #room(connection: Connection): Promise<Manifest> {
    return readManifest(JSON.parse(textOf(await connection.askWhole({ do: "room", password: this.#password }))));
  }

  async #refresh(connection: Connection): Promise<void> {
    try {
      this.manifest = await this.#room(connection);
      this.onchange();
    } catch (error) {
      console.info("PeMuS: the room cannot be read again:", error);
    }
  }

  #become(phase: Phase): void {
    this.phase = phase;
    this.onchange();
  }
}
