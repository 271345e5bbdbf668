/** Shows a film, a song or a photo over the whole page. Loaded when it is needed. */

import type { RoomFile } from "@pemus/protocol";
import { type TemplateResult, html, nothing } from "lit";
import { repeat } from "lit/directives/repeat.js";
import type { App } from "../app.js";
import { PageElement } from "./element.js";
import * as icons from "./icons.js";
import { queuePlace } from "./transfers.js";

interface Track {
  readonly url: string;
  readonly label: string;
  readonly language: string;
}

export class Viewer extends PageElement {
  app!: App;
  #file: RoomFile | null = null;
  #url = "";
  #close: (() => void) | null = null;
  #tracks: Track[] = [];
  #isReady = false;
  #hasFailed = false;
  readonly #update = (): void => this.requestUpdate();

  override connectedCallback(): void {
    super.connectedCallback();
    this.app.tickListeners.add(this.#update);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.app.tickListeners.delete(this.#update);
    this.#stop();
  }

  override render(): TemplateResult {
    if (this.app.shown !== this.#file) this.#start(this.app.shown);
    const { texts } = this.app;
    const file = this.#file;
    const [before, after] = this.#neighbours();
    return html`<dialog class="viewer ${file?.kind ?? ""}" aria-label=${file?.name ?? ""} @close=${() => this.app.show(null)} @keydown=${this.#key}>
      ${file
        ? html`<header>
              <span class="name" dir="auto">${file.name}</span>
              <button class="round" @click=${() => this.app.download(file)} aria-label=${texts.download(file.name)}>${icons.download}</button>
              <button class="round" @click=${() => this.app.show(null)} aria-label=${texts.close}>${icons.close}</button>
            </header>
            <div class="stage">
              ${repeat([file], (each) => each.item, () => this.#media(file))} ${this.#notice(file)}
              ${before ? html`<button class="round step before" @click=${() => this.app.show(before)} aria-label=${texts.previous}>${icons.previous}</button>` : nothing}
              ${after ? html`<button class="round step after" @click=${() => this.app.show(after)} aria-label=${texts.next}>${icons.next}</button>` : nothing}
            </div>`
        : nothing}
    </dialog>`;
  }

  override updated(): void {
    const dialog = this.querySelector("dialog")!;
    if (this.#file && !dialog.open) dialog.showModal();
    else if (!this.#file && dialog.open) dialog.close();
  }

  #media(file: RoomFile): TemplateResult | typeof nothing {
    if (!this.#url || this.#hasFailed) return nothing;
    const ready = (): void => {
      this.#isReady = true;
      this.requestUpdate();
    };
    const fail = (): void => {
      this.#hasFailed = true;
      this.requestUpdate();
    };
    if (file.kind === "photo") return html`<img src=${this.#url} alt=${file.name} @load=${ready} @error=${fail} />`;
    if (file.kind === "music") {
      return html`<div class="song">
        <pemus-thumbnail class="music" .app=${this.app} .file=${file}></pemus-thumbnail>
        <audio controls autoplay src=${this.#url} @canplay=${ready} @error=${fail} @ended=${this.#playNext}></audio>
      </div>`;
    }
    return html`<video controls autoplay playsinline src=${this.#url} @canplay=${ready} @error=${fail}>
      ${this.#tracks.map((track) => html`<track kind="subtitles" src=${track.url} label=${track.label} srclang=${track.language || nothing} />`)}
    </video>`;
  }

  #notice(file: RoomFile): TemplateResult | typeof nothing {
    const { texts, session } = this.app;
    if (this.#hasFailed) {
      return html`<div class="curtain" role="alert">
        <p>${texts.cannotShow}</p>
        <button class="primary" @click=${() => this.app.download(file)}>${icons.download}${texts.downloadOne(this.app.format.size(file.size))}</button>
      </div>`;
    }
    const waits = session?.phase.kind === "waiting" || session?.phase.kind === "looking" || session?.phase.kind === "connecting";
    const queue = queuePlace(this.app, "stream");
    if (this.#isReady && !queue && !waits) return nothing;
    return html`<div class="curtain ${this.#isReady ? "slim" : ""}" role="status">
      <span class="spinner" aria-hidden="true"></span>
      <p>${waits ? texts.reconnecting : queue || texts.loading}</p>
    </div>`;
  }

  /** The files of the same kind before and after the one that is shown. */
  #neighbours(): [RoomFile | undefined, RoomFile | undefined] {
    const file = this.#file;
    if (!file) return [undefined, undefined];
    const all = this.app.manifest?.files.filter((each) => each.kind === file.kind && this.app.canShow(each)) ?? [];
    const at = all.findIndex((each) => each.item === file.item);
    return [all[at - 1], all[at + 1]];
  }

  readonly #playNext = (): void => {
    const [, after] = this.#neighbours();
    if (after) this.app.show(after);
  };

  readonly #key = (event: KeyboardEvent): void => {
    // In a film these keys seek.
    if (this.#file?.kind !== "photo") return;
    const isBack = event.key === (getComputedStyle(this).direction === "rtl" ? "ArrowRight" : "ArrowLeft");
    const [before, after] = this.#neighbours();
    const target = isBack ? before : after;
    if (target && /^Arrow(Left|Right)$/.test(event.key)) this.app.show(target);
  };

  #start(file: RoomFile | null): void {
    this.#stop();
    this.#file = file;
    this.#isReady = this.#hasFailed = false;
    if (file) void this.#open(file);
  }

  async #open(file: RoomFile): Promise<void> {
    try {
      const opened = await this.app.open(file);
      if (this.#file !== file || !this.isConnected) return opened.close();
      this.#close = opened.close;
      this.#url = opened.url;
      if ("mediaSession" in navigator && file.kind !== "photo") {
        navigator.mediaSession.metadata = new MediaMetadata({ title: file.name, artist: this.app.manifest?.home ?? "" });
      }
      this.requestUpdate();
      for (const each of file.subtitles) {
        const url = await this.app.subtitles(file, each.index);
        if (this.#file !== file) return URL.revokeObjectURL(url);
        this.#tracks = [...this.#tracks, { url, label: each.name || each.language || String(each.index), language: each.language }];
        this.requestUpdate();
      }
    } catch (error) {
      console.warn("PeMuS:", error);
      if (this.#file !== file || this.#url) return;
      this.#hasFailed = true;
      this.requestUpdate();
    }
  }

  #stop(): void {
    // An element that is thrown away goes on loading until it is collected.
    for (const media of this.querySelectorAll<HTMLMediaElement>("video, audio")) {
      media.removeAttribute("src");
      media.load();
    }
    this.#close?.();
    this.#close = null;
    this.#url = "";
    for (const { url } of this.#tracks) URL.revokeObjectURL(url);
    this.#tracks = [];
  }
}

customElements.define("pemus-viewer", Viewer);
