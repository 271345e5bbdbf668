/** A picture of a file, fetched when it comes into view. */

import type { RoomFile } from "@pemus/protocol";
import { type TemplateResult, html, nothing } from "lit";
import type { App } from "../app.js";
import { PageElement } from "./element.js";
import * as icons from "./icons.js";

/** Pixels around the screen in which pictures are fetched ahead. */
const MARGIN = "400px";

const KINDS = { video: icons.video, music: icons.music, photo: icons.photo };

export class Thumbnail extends PageElement {
  app!: App;
  #file!: RoomFile;
  #url = "";
  #observer: IntersectionObserver | null = null;

  get file(): RoomFile {
    return this.#file;
  }

  set file(file: RoomFile) {
    if (this.#file?.item === file.item && this.#file.etag === file.etag) return;
    this.#file = file;
    this.#url = "";
    this.requestUpdate();
    this.#observe();
  }

  override connectedCallback(): void {
    super.connectedCallback();
    this.#observe();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#observer?.disconnect();
  }

  override render(): TemplateResult {
    return html`${this.#url ? html`<img src=${this.#url} alt="" decoding="async" @error=${this.#drop} />` : nothing}
      <span class="kind">${KINDS[this.#file.kind]}</span>
      ${this.#file.kind === "video" && this.#file.duration
        ? html`<span class="length">${this.app.format.duration(this.#file.duration)}</span>`
        : nothing}`;
  }

  #observe(): void {
    this.#observer?.disconnect();
    if (!this.isConnected || !this.#file?.hasThumbnail || this.#url) return;
    this.#observer = new IntersectionObserver(
      (entries) => {
        if (!entries.some((entry) => entry.isIntersecting)) return;
        this.#observer?.disconnect();
        void this.#fetch(this.#file);
      },
      { rootMargin: MARGIN },
    );
    this.#observer.observe(this);
  }

  async #fetch(file: RoomFile): Promise<void> {
    // A file without a picture keeps its icon.
    const url = await this.app.thumbnail(file).catch(() => "");
    if (file !== this.#file) return;
    this.#url = url;
    this.requestUpdate();
  }

  #drop(): void {
    this.#url = "";
    this.requestUpdate();
  }
}

customElements.define("pemus-thumbnail", Thumbnail);
