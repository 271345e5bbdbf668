/** The connection to a home: two data channels, over which the page asks for what is in the room. */

import { type Bytes, concat, fromBase64url, random, textOf, toBase64url, toHex, utf8 } from "./bytes.js";
import { Inbox, gathered } from "./channels.js";
import { type Failure, RoomError, asRoomError } from "./errors.js";
import { type Frame, FrameType, pack, packTaken, unpack } from "./frames.js";
import { type Transcript, isProven, prove } from "./handshake.js";
import { readObject } from "./json.js";
import { exchange } from "./signaling.js";
import { unlessAborted, within } from "./time.js";

/** Milliseconds for a connection to open once both ends agreed on it, and for the home to prove itself. */
const OPEN_TIMEOUT = 15_000;
/** Milliseconds without a byte of an answer after which the connection counts as lost. */
const ANSWER_TIMEOUT = 20_000;
/** Milliseconds between two pings, and without any message after which the home is gone: idle, and while it answers. */
const PING_INTERVAL = 8_000;
const PING_TIMEOUT = 25_000;
const BUSY_PING_INTERVAL = 2_000;
const BUSY_PING_TIMEOUT = 8_000;
/** Milliseconds for the last message to be sent. */
const CLOSE_DELAY = 100;
/** Bytes of an answer after which the home is told that they were processed. It sends 4 MiB ahead. */
const TAKEN_STEP = 1024 * 1024;
const NONCE_SIZE = 16;
const VERSIONS = [1];
const MAX_NAME = 200;

export type PathKind = "direct" | "relayed";

/** A request to the home. */
export interface Ask {
  readonly do: "room" | "lease" | "range" | "thumbnail" | "subtitles";
  readonly item?: string;
  readonly etag?: string;
  readonly start?: number;
  readonly stop?: number;
  readonly index?: number;
  readonly password?: string;
}

export interface Target {
  readonly server: URL;
  readonly slug: string;
  readonly host: string;
  /** Empty if only the spoken code is known. */
  readonly secret: Bytes;
  /** Counts this browser as one guest, however often it connects. */
  readonly guest: string;
  readonly stun: readonly string[];
}

interface Answer {
  readonly parts: Bytes[];
  done: boolean;
  error: RoomError | null;
  wake: () => void;
}

const REFUSALS: Readonly<Record<string, Failure>> = {
  not_found: "changed",
  gone: "changed",
  busy: "busy",
  // This guest has such a lease already: on a connection that the home has not given up yet, or in another tab.
  bad_request: "busy",
  unavailable: "unavailable",
  password: "password",
  rate_limited: "rate_limited",
};
/** The server knows the room. If the home does not, it has just closed it. */
const REFUSED_OFFERS: Readonly<Record<string, Failure>> = { not_found: "gone", gone: "gone", busy: "busy" };
const FAREWELLS: Readonly<Record<string, Failure>> = {
  gone: "gone",
  used_up: "used_up",
  idle: "idle",
  version: "version",
  unsigned: "wrong_secret",
  disconnected: "disconnected",
};

/** An open connection. Its home has proven that it has the secret, if this guest has one. */
export class Connection {
  /** Resolves when the connection is over, with the reason. */
  readonly ended: Promise<RoomError>;
  /** What the home calls itself. */
  readonly homeName: string;
  /** Called with what a note of the home is about. */
  onnote: (about: string) => void = () => undefined;
  readonly #peer: RTCPeerConnection;
  readonly #control: RTCDataChannel;
  readonly #answers = new Map<number, Answer>();
  #last = 0;
  #heardAt = performance.now();
  #pingedAt = performance.now();
  #busySince = 0;
  readonly #pinging: ReturnType<typeof setInterval>;
  #end!: (error: RoomError) => void;
  #reason: RoomError | null = null;

  private constructor(peer: RTCPeerConnection, control: RTCDataChannel, inbox: Inbox, homeName: string) {
    this.#peer = peer;
    this.#control = control;
    this.homeName = homeName;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    inbox.onclose = () => this.#fail(new RoomError("lost", "a channel closed"));
    inbox.read((message) => this.#receive(message));
    peer.onconnectionstatechange = () => {
      if (peer.connectionState === "failed" || peer.connectionState === "closed") this.#fail(new RoomError("lost"));
    };
    this.#pinging = setInterval(() => this.#ping(), BUSY_PING_INTERVAL);
  }

  /** Connects to the home of a room, and checks that it has the secret. Throws a RoomError. */
  static async open(target: Target, signal?: AbortSignal): Promise<Connection> {
    const peer = new RTCPeerConnection({ iceServers: target.stun.map((urls) => ({ urls })) });
    try {
      return await unlessAborted(Connection.#open(peer, target), signal);
    } catch (error) {
      peer.close();
      throw asRoomError(error);
    }
  }

  static async #open(peer: RTCPeerConnection, target: Target): Promise<Connection> {
    const control = peer.createDataChannel("control", { negotiated: true, id: 0 });
    const bulk = peer.createDataChannel("bulk", { negotiated: true, id: 1 });
    const inbox = new Inbox([control, bulk]);

    await peer.setLocalDescription(await peer.createOffer());
    await gathered(peer);
    const connection = toHex(random(NONCE_SIZE));
    const guestNonce = random(NONCE_SIZE);
    const offer = peer.localDescription!.sdp;
    const answer = await exchange(
      target.server,
      target.host,
      { guest: 1, room: target.slug, connection, nonce: toBase64url(guestNonce), sdp: offer },
      (payload) => payload.connection === connection,
    );
    if (typeof answer.refused === "string") throw new RoomError(REFUSED_OFFERS[answer.refused] ?? "unavailable");
    if (typeof answer.sdp !== "string" || typeof answer.nonce !== "string") throw new RoomError("invalid");
    await peer.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    await within(OPEN_TIMEOUT, inbox.opened, new RoomError("no_path"));

    const transcript: Transcript = {
      slug: target.slug,
      host: target.host,
      connection,
      guestNonce,
      homeNonce: fromBase64url(answer.nonce),
      offer,
      answer: answer.sdp,
    };
    const signature = toBase64url(await prove(target.secret, "guest", transcript));
    const hello = { versions: VERSIONS, release: "", name: "", instance: target.guest, signature };
    control.send(pack(FrameType.HELLO, 0, utf8(JSON.stringify(hello))));
    const first = await within(OPEN_TIMEOUT, inbox.first, new RoomError("lost", "the home does not say hello"));
    const name = await readHello(first, target.secret, transcript);
    if (name === null) {
      control.send(farewellFrame("unsigned"));
      await new Promise((resolve) => setTimeout(resolve, CLOSE_DELAY));
      throw new RoomError("wrong_secret");
    }
    return new Connection(peer, control, inbox, name);
  }

  /** Asks the home, and yields its answer in parts. Ends the request when the caller stops. Throws a RoomError. */
  async *ask(ask: Ask, signal?: AbortSignal): AsyncGenerator<Bytes, void, undefined> {
    if (this.#reason) throw this.#reason;
    this.#last = (this.#last + 1) % 2 ** 32;
    const request = this.#last;
    const answer: Answer = { parts: [], done: false, error: null, wake: () => undefined };
    if (this.#answers.size === 0) this.#busySince = performance.now();
    this.#answers.set(request, answer);
    let taken = 0;
    let acknowledged = 0;
    try {
      this.#send(pack(FrameType.ASK, request, utf8(JSON.stringify(ask))));
      for (;;) {
        const part = answer.parts.shift();
        if (part) {
          yield part;
          taken += part.length;
          if (taken - acknowledged >= TAKEN_STEP) {
            acknowledged = taken;
            this.#send(packTaken(request, taken));
          }
        } else if (answer.error) {
          throw answer.error;
        } else if (answer.done) {
          return;
        } else {
          await this.#more(answer, signal);
        }
      }
    } finally {
      this.#answers.delete(request);
      if (!answer.done) this.#send(pack(FrameType.CANCEL, request));
    }
  }

  /** Asks the home, and returns its whole answer. Throws a RoomError. */
  async askWhole(ask: Ask, signal?: AbortSignal): Promise<Bytes> {
    const parts: Bytes[] = [];
    for await (const part of this.ask(ask, signal)) parts.push(part);
    return concat(parts);
  }

  /** Returns how the bytes travel, null before that is known. */
  async path(): Promise<PathKind | null> {
    const stats = await this.#peer.getStats();
    for (const each of stats.values()) {
      if (each.type !== "candidate-pair" || each.state !== "succeeded" || !(each.nominated || each.selected)) continue;
      const ends = [each.localCandidateId, each.remoteCandidateId].map((id) => stats.get(id as string));
      return ends.some((end) => end?.candidateType === "relay") ? "relayed" : "direct";
    }
    return null;
  }

  /** Ends the connection. */
  close(): void {
    if (this.#reason) return;
    this.#send(farewellFrame("idle"));
    this.#fail(new RoomError("aborted"));
  }

  /** Waits for the next part of an answer, or its end. Throws a RoomError. */
  async #more(answer: Answer, signal: AbortSignal | undefined): Promise<void> {
    const woken = new Promise<void>((resolve) => {
      answer.wake = resolve;
    });
    const silent = new RoomError("lost", "the home does not answer");
    try {
      await unlessAborted(within(ANSWER_TIMEOUT, woken, silent), signal);
    } catch (error) {
      if (error === silent) this.#fail(silent);
      throw error;
    }
  }

  #receive(data: ArrayBuffer): void {
    this.#heardAt = performance.now();
    try {
      this.#handle(unpack(data));
    } catch (error) {
      this.#send(farewellFrame("invalid"));
      this.#fail(new RoomError("invalid", String(error)));
    }
  }

  #handle({ type, request, payload }: Frame): void {
    const answer = this.#answers.get(request);
    switch (type) {
      case FrameType.DATA:
        answer?.parts.push(payload);
        answer?.wake();
        return;
      case FrameType.END:
      case FrameType.REFUSE:
        if (!answer) return;
        answer.done = true;
        if (type === FrameType.REFUSE) answer.error = refusal(payload);
        answer.wake();
        return;
      case FrameType.PING:
        this.#send(pack(FrameType.PONG, request));
        return;
      case FrameType.NOTE: {
        const { about } = readObject(textOf(payload));
        if (typeof about === "string") this.onnote(about);
        return;
      }
      case FrameType.BYE:
        this.#fail(farewell(payload));
    }
  }

  #send(frame: Bytes): void {
    if (!this.#reason && this.#control.readyState === "open") this.#control.send(frame);
  }

  #ping(): void {
    const isBusy = this.#answers.size > 0;
    const now = performance.now();
    const silence = now - (isBusy ? Math.max(this.#heardAt, this.#busySince) : this.#heardAt);
    // A page that was frozen has heard nothing and said nothing: it asks once more before it gives the home up.
    const wasFrozen = now - this.#pingedAt > PING_TIMEOUT;
    if (silence > (isBusy ? BUSY_PING_TIMEOUT : PING_TIMEOUT) && !wasFrozen) {
      this.#fail(new RoomError("lost", "the home is silent"));
      return;
    }
    if (now - this.#pingedAt < (isBusy ? BUSY_PING_INTERVAL : PING_INTERVAL) - 100) return;
    this.#pingedAt = now;
    this.#send(pack(FrameType.PING));
  }

  #fail(reason: RoomError): void {
    if (this.#reason) return;
    this.#reason = reason;
    clearInterval(this.#pinging);
    for (const answer of this.#answers.values()) {
      answer.error ??= reason;
      answer.wake();
    }
    setTimeout(() => this.#peer.close(), CLOSE_DELAY);
    this.#end(reason);
  }
}

/** Returns the name of a home that proves the secret, null if it does not. Throws a RoomError. */
async function readHello(message: ArrayBuffer, secret: Bytes, transcript: Transcript): Promise<string | null> {
  const frame = unpack(message);
  if (frame.type === FrameType.BYE) throw farewell(frame.payload);
  if (frame.type !== FrameType.HELLO) throw new RoomError("invalid", "the home does not say hello");
  const { name, signature } = readObject(textOf(frame.payload));
  if (typeof signature !== "string") throw new RoomError("invalid", "the home proves nothing");
  // Who has only heard of the room cannot tell who answers. The page says so.
  const isGood = secret.length === 0 || (await isProven(secret, "home", transcript, fromBase64url(signature)));
  return isGood ? String(name ?? "").slice(0, MAX_NAME) : null;
}

function farewellFrame(reason: string): Bytes {
  return pack(FrameType.BYE, 0, utf8(JSON.stringify({ reason })));
}

function farewell(payload: Bytes): RoomError {
  const reason = String(readObject(textOf(payload)).reason);
  return new RoomError(FAREWELLS[reason] ?? "lost", reason);
}

function refusal(payload: Bytes): RoomError {
  const { error, message } = readObject(textOf(payload));
  const detail = String(message ?? "");
  const failure = REFUSALS[String(error)] ?? "unavailable";
  return new RoomError(failure, detail, failure === "rate_limited" ? Number(detail) || undefined : undefined);
}
