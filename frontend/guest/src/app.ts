/** What the page knows and does. What it looks like is in views/. */

import {
  type Bytes,
  type Manifest,
  type Purpose,
  RoomError,
  type RoomFile,
  Session,
  asRoomError,
  concat,
  random,
  readLink,
  toHex,
} from "@pemus/protocol";
import { Bridge, type Source } from "./bridge.js";
import { type Range, read } from "./content.js";
import { Format } from "./format.js";
import { type Playability, playability } from "./playable.js";
import { type Texts, pickLanguage, textsOf } from "./texts/index.js";
import { Transfer } from "./transfer.js";
import { distinct, zip, zipSize } from "./zip.js";

/** Bytes of a file that is kept in memory where a browser cannot save it while it arrives. */
const MAX_IN_MEMORY = 256 * 1024 * 1024;
/** Milliseconds for the browser to begin a download. */
const BEGIN_TIMEOUT = 15_000;
/** Milliseconds between two looks at rates. */
const TICK = 500;
/** Pictures that are fetched at a time. */
const PICTURES_AT_ONCE = 4;

/** Why the page cannot begin at all. */
export type Obstacle = "insecure" | "bad_link" | "no_webrtc";

export class App {
  readonly session: Session | null;
  readonly obstacle: Obstacle | null;
  readonly language: string;
  readonly texts: Texts;
  readonly format: Format;
  readonly transfers: Transfer[] = [];
  readonly selected = new Set<string>();
  /** The film, song or photo that is shown. */
  shown: RoomFile | null = null;
  /** Whether files can be streamed and saved while they arrive; null while that is not known. */
  hasWorker: boolean | null = null;
  /** Called when anything that is shown has changed. */
  readonly listeners = new Set<() => void>();
  /** Called when only the rates of transfers have changed. */
  readonly tickListeners = new Set<() => void>();
  readonly #playable = new Map<string, Playability>();
  #bridge: Promise<Bridge> | null = null;
  readonly #address: URL;
  readonly #pictures = new Map<string, Promise<string>>();
  #fetching = 0;
  readonly #fetchers: (() => void)[] = [];
  #wakeLock: { release: () => Promise<void> } | null = null;
  #ticking: ReturnType<typeof setInterval> | undefined;

  constructor(address: string, languages: readonly string[]) {
    this.#address = new URL(address);
    this.language = pickLanguage(languages);
    this.format = new Format(this.language);
    this.texts = textsOf(this.language, this.format);
    const link = readLink(address);
    this.obstacle = !globalThis.isSecureContext ? "insecure" : !link ? "bad_link" : !("RTCPeerConnection" in globalThis) ? "no_webrtc" : null;
    this.session = this.obstacle || !link ? null : new Session(link, guestName(link.slug));
    if (this.session) this.session.onchange = () => this.#changed();
  }

  /** The address of the same room over https. */
  get secureAddress(): string {
    const secure = new URL(this.#address);
    secure.protocol = "https:";
    return secure.href;
  }

  get manifest(): Manifest | null {
    return this.session?.manifest ?? null;
  }

  /** Connects to the room. */
  start(): void {
    if (!this.session) return;
    void this.session.run();
    const address = new URL(this.#address);
    address.hash = "";
    this.#bridge = Bridge.start(address);
    this.#bridge.then(
      () => this.#knowWorker(true),
      (error: unknown) => {
        console.warn("PeMuS: no service worker:", error);
        this.#knowWorker(false);
      },
    );
    // A page that comes back to the front, or a network that comes back, does not wait for the next attempt.
    const hurry = (): void => {
      if (this.session?.phase.kind === "waiting" && document.visibilityState === "visible") this.session.hurry();
    };
    addEventListener("online", hurry);
    document.addEventListener("visibilitychange", () => {
      hurry();
      void this.#keepAwake();
    });
    addEventListener("beforeunload", (event) => {
      if (this.isTransferring) event.preventDefault();
    });
  }

  get isTransferring(): boolean {
    return this.transfers.some((each) => each.isActive);
  }

  // What is chosen.

  toggle(file: RoomFile): void {
    if (!this.selected.delete(file.item)) this.selected.add(file.item);
    this.#changed();
  }

  selectAll(isChosen: boolean): void {
    this.selected.clear();
    if (isChosen) for (const file of this.downloadable) this.selected.add(file.item);
    this.#changed();
  }

  get downloadable(): readonly RoomFile[] {
    return this.manifest?.files.filter((file) => file.available) ?? [];
  }

  get selectedFiles(): readonly RoomFile[] {
    return this.downloadable.filter((file) => this.selected.has(file.item));
  }

  // Downloads.

  /** Saves one file. */
  download(file: RoomFile): void {
    this.#save(file.name, file.size, (_, signal) => this.#read(file, { start: 0, stop: file.size }, "download", signal));
  }

  /** Saves several files as one archive. */
  downloadZip(files: readonly RoomFile[]): void {
    const only = files[0];
    if (files.length === 1 && only) return this.download(only);
    const names = distinct(files.map((file) => [file.folder, file.name].filter(Boolean).map(safePath).join("/")));
    const entriesFor = (signal: AbortSignal | undefined) =>
      files.map((file, index) => ({
        name: names[index]!,
        size: file.size,
        modified: file.modified,
        content: () => this.#read(file, { start: 0, stop: file.size }, "download", signal),
      }));
    const size = zipSize(entriesFor(undefined));
    this.#save(`${safeName(this.manifest?.room || "files")}.zip`, size, (_, signal) => zip(entriesFor(signal)));
  }

  /** Takes a finished download off the list. */
  dismiss(transfer: Transfer): void {
    this.transfers.splice(this.transfers.indexOf(transfer), 1);
    this.#changed();
  }

  #save(name: string, size: number, content: Source["content"]): void {
    const transfer = new Transfer(name, size);
    this.transfers.unshift(transfer);
    this.#changed();
    void this.#keepAwake();
    this.#ticking ??= setInterval(() => this.#tick(), TICK);
    const release = this.session?.hold("download") ?? (() => undefined);
    const stopping = new AbortController();
    const counted = async function* (range: Range, signal: AbortSignal): AsyncGenerator<Bytes> {
      const signals = AbortSignal.any([signal, stopping.signal]);
      for await (const part of content(range, signals)) {
        const { length } = part;
        yield part;
        // The browser asked for the next: it took this one.
        transfer.took(length, performance.now());
      }
    };
    const end = (problem: unknown): void => {
      transfer.end(asProblem(problem));
      release();
      void this.#keepAwake();
      this.#changed();
    };
    transfer.cancel = () => {
      end("cancelled");
      stopping.abort();
    };
    const type = "application/octet-stream";
    this.#saveWith({ name, type, size, isDownload: true, content: counted, onend: end }, transfer).catch(end);
  }

  async #saveWith(source: Source, transfer: Transfer): Promise<void> {
    const bridge = await this.#bridge?.catch(() => null);
    if (!bridge) return saveInMemory(source);
    let hasBegun = false;
    const frame = document.createElement("iframe");
    const { url, remove } = bridge.add({
      ...source,
      content: (range, signal) => {
        hasBegun = true;
        return source.content(range, signal);
      },
      onend: (problem) => {
        source.onend?.(problem);
        remove();
        // The browser has the last part before the frame goes.
        setTimeout(() => frame.remove(), 10_000);
      },
    });
    frame.hidden = true;
    frame.src = url;
    document.body.append(frame);
    setTimeout(() => {
      if (!hasBegun && transfer.isActive) source.onend?.(new Error("not_begun"));
    }, BEGIN_TIMEOUT);
  }

  // What is shown.

  playability(file: RoomFile): Playability {
    const key = `${file.item} ${file.etag}`;
    let known = this.#playable.get(key);
    if (!known) {
      const probe = document.createElement(file.kind === "music" ? "audio" : "video");
      this.#playable.set(key, (known = playability(file, (type) => probe.canPlayType(type))));
    }
    return known;
  }

  /** Tells whether a file can be shown here. */
  canShow(file: RoomFile): boolean {
    if (!file.available || this.hasWorker === false || this.manifest?.stream === false) return false;
    return file.kind === "photo" || this.playability(file).plays;
  }

  /** Shows a file, null to show none. */
  show(file: RoomFile | null): void {
    this.shown = file;
    this.#changed();
  }

  /** Returns an address to show a file from, and what to call when it is not shown any more. Throws without a worker. */
  async open(file: RoomFile): Promise<{ readonly url: string; readonly close: () => void }> {
    if (!this.#bridge) throw new Error("there is no service worker");
    const bridge = await this.#bridge;
    const release = this.session?.hold("stream") ?? (() => undefined);
    const play = file.kind === "photo" ? null : this.playability(file);
    const { url, remove } = bridge.add({
      name: file.name,
      type: play?.plays ? play.type : /^image\/(?!svg)/.test(file.contentType) ? file.contentType : "application/octet-stream",
      size: file.size,
      isDownload: false,
      content: (range, signal) => this.#read(file, range, "stream", signal),
    });
    const close = (): void => {
      remove();
      release();
    };
    return { url, close };
  }

  /** Returns the address of subtitles. */
  async subtitles(file: RoomFile, index: number): Promise<string> {
    if (!this.session) throw new RoomError("aborted");
    return URL.createObjectURL(new Blob([await this.session.subtitles(file, index)], { type: "text/vtt" }));
  }

  /** Returns the address of a file's picture. */
  thumbnail(file: RoomFile): Promise<string> {
    const key = `${file.item} ${file.etag}`;
    let picture = this.#pictures.get(key);
    if (!picture) {
      picture = this.#fetchPicture(file);
      this.#pictures.set(key, picture);
      picture.catch(() => this.#pictures.delete(key));
    }
    return picture;
  }

  async #fetchPicture(file: RoomFile): Promise<string> {
    if (!this.session) throw new RoomError("aborted");
    if (this.#fetching >= PICTURES_AT_ONCE) await new Promise<void>((resolve) => this.#fetchers.push(resolve));
    this.#fetching++;
    try {
      return URL.createObjectURL(new Blob([await this.session.thumbnail(file)], { type: "image/*" }));
    } finally {
      this.#fetching--;
      this.#fetchers.shift()?.();
    }
  }

  #read(file: RoomFile, { start, stop }: Range, purpose: Purpose, signal?: AbortSignal): AsyncGenerator<Bytes, void, undefined> {
    const { session } = this;
    if (!session) throw new RoomError("aborted");
    return read((...ask) => session.range(ask[0], ask[1], ask[2], purpose, ask[3]), file, start, stop, signal);
  }

  #tick(): void {
    for (const listener of this.tickListeners) listener();
    if (this.isTransferring) return;
    clearInterval(this.#ticking);
    this.#ticking = undefined;
  }

  /** Keeps the screen on while something is downloaded: a phone that locks freezes the page. */
  async #keepAwake(): Promise<void> {
    const wanted = this.isTransferring && document.visibilityState === "visible";
    if (!wanted) {
      await this.#wakeLock?.release().catch(() => undefined);
      this.#wakeLock = null;
    } else if ("wakeLock" in navigator) {
      this.#wakeLock = await navigator.wakeLock.request("screen").catch(() => null);
    }
  }

  #knowWorker(hasWorker: boolean): void {
    this.hasWorker = hasWorker;
    this.#changed();
  }

  #changed(): void {
    for (const listener of [...this.listeners, ...this.tickListeners]) listener();
  }
}

async function saveInMemory(source: Source): Promise<void> {
  if (source.size > MAX_IN_MEMORY) throw new Error("too_big_for_memory");
  const parts: Bytes[] = [];
  for await (const part of source.content({ start: 0, stop: source.size }, new AbortController().signal)) parts.push(part);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([concat(parts)]));
  link.download = source.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  source.onend?.(null);
}

function asProblem(problem: unknown): unknown {
  if (problem === null || problem === "cancelled") return problem;
  const { failure } = asRoomError(problem);
  return failure === "aborted" ? "cancelled" : failure === "invalid" && problem instanceof Error ? problem.message : failure;
}

/** Returns the random name of this browser in a room. */
function guestName(slug: string): string {
  const key = `pemus guest ${slug.toLowerCase().replace(/[^a-z]/g, "")}`;
  try {
    const known = localStorage.getItem(key);
    if (known && /^[0-9a-f]{32}$/.test(known)) return known;
    const name = toHex(random(16));
    localStorage.setItem(key, name);
    return name;
  } catch {
    // Some private windows keep nothing.
    return toHex(random(16));
  }
}

/** Returns a path without parts that leave its folder, or that Windows does not take. */
function safePath(path: string): string {
  return path.split("/").filter((part) => part && part !== "." && part !== "..").map(safeName).join("/");
}

function safeName(name: string): string {
  return name.replace(/[\x00-\x1f<>:"/\\|?*]/g, "_").replace(/[. ]+$/, "_") || "_";
}
