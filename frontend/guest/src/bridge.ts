/** The page's end of the service worker: gives files addresses that <video>, <img> and downloads can use. */

import { type Bytes, RoomError, random, toHex, within } from "@pemus/protocol";
import { type Range, readRange } from "./content.js";

/** Milliseconds for the worker to take over the page. */
const CONTROL_TIMEOUT = 8_000;
/** Milliseconds between messages that keep the worker alive while it serves something. A browser ends it after 30 s. */
const ALIVE_INTERVAL = 10_000;

/** Something that has an address. */
export interface Source {
  readonly name: string;
  readonly type: string;
  readonly size: number;
  /** Saved by the browser, in one piece; otherwise shown, in ranges. */
  readonly isDownload: boolean;
  readonly content: (range: Range, signal: AbortSignal) => AsyncIterable<Bytes>;
  /** Called when an answer ended: null if it was read to its end, "cancelled" if the reader left. */
  readonly onend?: (problem: unknown) => void;
}

interface Request {
  readonly kind: "fetch";
  readonly page: string;
  readonly ticket: string;
  readonly range: string | null;
}

export class Bridge {
  readonly #room: URL;
  /** Names this page among those that have the room open. */
  readonly #page = toHex(random(8));
  readonly #sources = new Map<string, Source>();
  #active = 0;

  private constructor(room: URL) {
    this.#room = room;
    navigator.serviceWorker.addEventListener("message", ({ data, ports }: MessageEvent<Request>) => {
      const port = ports[0];
      if (data?.kind === "fetch" && data.page === this.#page && port) void this.#answer(data, port);
    });
    navigator.serviceWorker.startMessages();
    setInterval(() => {
      if (this.#active > 0) navigator.serviceWorker.controller?.postMessage("alive");
    }, ALIVE_INTERVAL);
  }

  /** Starts the worker for the room at an address. Throws if this browser has none to offer, as in some private windows. */
  static async start(room: URL): Promise<Bridge> {
    if (!("serviceWorker" in navigator)) throw new Error("there are no service workers");
    await within(CONTROL_TIMEOUT, takeOver(room), new RoomError("aborted", "the service worker does not take over"));
    return new Bridge(room);
  }

  /** Returns an address for a source, and what to call when it is not needed any more. */
  add(source: Source): { readonly url: string; readonly remove: () => void } {
    const ticket = toHex(random(8));
    this.#sources.set(ticket, source);
    const path = `${this.#room.pathname}/file/${this.#page}/${ticket}/${encodeURIComponent(source.name)}`;
    return { url: new URL(path, this.#room).href, remove: () => this.#sources.delete(ticket) };
  }

  async #answer(request: Request, port: MessagePort): Promise<void> {
    const source = this.#sources.get(request.ticket);
    const head = answerHead(source ?? null, request.range);
    if (!source || !head.range) {
      port.postMessage({ status: head.status, headers: head.headers });
      return;
    }
    const stopping = new AbortController();
    const parts = source.content(head.range, stopping.signal)[Symbol.asyncIterator]();
    this.#active++;
    const end = (problem: unknown): void => {
      if (stopping.signal.aborted) return;
      stopping.abort();
      this.#active--;
      void parts.return?.();
      source.onend?.(problem);
    };
    port.onmessage = async ({ data }: MessageEvent<"more" | "cancel">) => {
      if (data === "cancel") return end("cancelled");
      try {
        const next = await parts.next();
        if (stopping.signal.aborted) return;
        if (next.done) {
          port.postMessage(null);
          end(null);
        } else {
          // Others may look at the same memory, unless it is this part's alone.
          const isWhole = next.value.byteLength === next.value.buffer.byteLength;
          port.postMessage(next.value, isWhole ? [next.value.buffer] : []);
        }
      } catch (error) {
        port.postMessage(String(error));
        end(error);
      }
    };
    port.postMessage({ status: head.status, headers: head.headers });
  }
}

/** Returns when the worker answers this page's requests. */
async function takeOver(room: URL): Promise<void> {
  const { serviceWorker } = navigator;
  await serviceWorker.register(new URL("sw.js", room), { scope: new URL(".", room).pathname, updateViaCache: "none" });
  const { active } = await serviceWorker.ready;
  if (serviceWorker.controller) return;
  await new Promise<void>((resolve) => {
    serviceWorker.addEventListener("controllerchange", () => resolve(), { once: true });
    active?.postMessage("claim");
  });
}

export interface Head {
  readonly status: number;
  readonly headers: Record<string, string>;
  /** What to send, null for nothing. */
  readonly range: Range | null;
}

/** Returns how to answer a request for a source, null if there is none. */
export function answerHead(source: Source | null, header: string | null): Head {
  if (!source) return { status: 404, headers: {}, range: null };
  const headers: Record<string, string> = {
    "Content-Type": source.type,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    // A file of somebody else must not act as a page of this server.
    "Content-Security-Policy": "default-src 'none'; sandbox",
  };
  const all = { start: 0, stop: source.size };
  if (source.isDownload) {
    headers["Content-Disposition"] = disposition(source.name);
    headers["Content-Length"] = String(source.size);
    return { status: 200, headers, range: all };
  }
  headers["Accept-Ranges"] = "bytes";
  const range = readRange(header, source.size);
  if (range === "unsatisfiable") {
    headers["Content-Range"] = `bytes */${source.size}`;
    return { status: 416, headers, range: null };
  }
  const { start, stop } = range ?? all;
  headers["Content-Length"] = String(stop - start);
  if (range) headers["Content-Range"] = `bytes ${start}-${stop - 1}/${source.size}`;
  return { status: range ? 206 : 200, headers, range: { start, stop } };
}

/** Returns a Content-Disposition that saves under a name (RFC 6266). */
export function disposition(name: string): string {
  const plain = name.replace(/[^\x20-\x7e]|["\\%]/g, "_");
  const exact = encodeURIComponent(name).replace(/['()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
  return `attachment; filename="${plain}"; filename*=UTF-8''${exact}`;
}
