/** A place among the guests that a home serves at once. */

import { textOf } from "./bytes.js";
import type { Connection } from "./connection.js";
import { RoomError, asRoomError } from "./errors.js";
import { type Place, readPlace } from "./manifest.js";

export type Purpose = "download" | "stream";

/** A lease on one connection. It lasts until it is released, the home ends it, or the connection is over. */
export class Lease {
  /** Resolves when the guest is served. Rejects with a RoomError if the lease ends before. */
  readonly admitted: Promise<void>;
  /** The last that is known of it. */
  place: Place | null = null;
  isOver = false;
  readonly #end = new AbortController();
  #admit!: () => void;
  #reject!: (error: RoomError) => void;

  constructor(connection: Connection, purpose: Purpose, onchange: () => void) {
    this.admitted = new Promise((resolve, reject) => {
      this.#admit = resolve;
      this.#reject = reject;
    });
    this.admitted.catch(() => undefined);
    void this.#hold(connection, purpose, onchange);
  }

  /** Gives the place up. */
  release(): void {
    this.#end.abort();
  }

  async #hold(connection: Connection, purpose: Purpose, onchange: () => void): Promise<void> {
    try {
      for await (const part of connection.ask({ do: "lease", item: purpose }, this.#end.signal)) {
        this.place = readPlace(JSON.parse(textOf(part)));
        if (this.place.position === 0) this.#admit();
        onchange();
      }
      this.#reject(new RoomError("busy", "the home ended the lease"));
    } catch (error) {
      this.#reject(asRoomError(error));
    } finally {
      this.isOver = true;
      this.place = null;
      onchange();
    }
  }
}
