/** What arrives over the data channels of a connection, kept until somebody reads it. */

import { RoomError } from "./errors.js";

/** Milliseconds for candidates to be found before the offer is sent with those that there are. */
const GATHER_TIMEOUT = 3_000;

export class Inbox {
  /** Resolves when all channels are open. */
  readonly opened: Promise<unknown>;
  /** The first message, which is not read again. */
  readonly first: Promise<ArrayBuffer>;
  onclose: () => void = () => undefined;
  readonly #waiting: ArrayBuffer[] = [];
  #handle: ((message: ArrayBuffer) => void) | null = null;

  constructor(channels: readonly RTCDataChannel[]) {
    let takeFirst: ((message: ArrayBuffer) => void) | null = null;
    this.first = new Promise((resolve) => {
      takeFirst = resolve;
    });
    const opened = channels.map(
      (channel) =>
        new Promise<void>((resolve, reject) => {
          channel.binaryType = "arraybuffer";
          channel.onopen = () => resolve();
          channel.onclose = () => {
            reject(new RoomError("no_path"));
            this.onclose();
          };
          channel.onmessage = (event) => {
            const message = event.data as ArrayBuffer;
            if (takeFirst) takeFirst(message);
            else if (this.#handle) this.#handle(message);
            else this.#waiting.push(message);
            takeFirst = null;
          };
        }),
    );
    this.opened = Promise.all(opened);
    // Perhaps nobody waits yet for it to fail.
    this.opened.catch(() => undefined);
  }

  /** Passes on everything after the first message, and all that arrives from now on. */
  read(handle: (message: ArrayBuffer) => void): void {
    this.#handle = handle;
    for (const message of this.#waiting.splice(0)) handle(message);
  }
}

/** Waits until all candidates are in the local description, or long enough. */
export function gathered(peer: RTCPeerConnection): Promise<void> {
  return new Promise((resolve) => {
    const check = (): void => {
      if (peer.iceGatheringState !== "complete") return;
      clearTimeout(deadline);
      resolve();
    };
    const deadline = setTimeout(resolve, GATHER_TIMEOUT);
    peer.addEventListener("icegatheringstatechange", check);
    check();
  });
}
