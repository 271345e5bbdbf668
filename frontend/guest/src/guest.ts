/** The whole page. */

import { type TemplateResult, html, nothing } from "lit";
import type { App } from "./app.js";
import "./views/countdown.js";
import { PageElement } from "./views/element.js";
import * as icons from "./views/icons.js";
import { room } from "./views/room.js";
import { busy, failed, obstructed, password } from "./views/states.js";
import "./views/thumbnail.js";
import "./views/transfers.js";

export class Guest extends PageElement {
  /** Set before the element is shown. */
  app!: App;
  #isLoading = false;
  #hasViewer = false;
  #shownPhase = "";
  readonly #update = (): void => this.requestUpdate();

  override connectedCallback(): void {
    super.connectedCallback();
    this.app.listeners.add(this.#update);
    document.documentElement.lang = this.app.language;
    document.title = this.app.texts.title;
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.app.listeners.delete(this.#update);
  }

  override render(): TemplateResult {
    const { app } = this;
    if (app.shown && !this.#isLoading) void this.#loadViewer();
    return html`
      <main>${this.#content()}</main>
      <footer>
        <details>
          <summary>${icons.lock}${app.texts.safeTitle}</summary>
          <ul>${app.texts.safe.map((each) => html`<li>${each}</li>`)}</ul>
        </details>
        <p>${icons.logo}PeMuS</p>
      </footer>
      <pemus-transfers .app=${app}></pemus-transfers>
      ${this.#hasViewer ? html`<pemus-viewer .app=${app}></pemus-viewer>` : nothing}
    `;
  }

  override updated(): void {
    const { app } = this;
    if (app.manifest?.room) document.title = app.manifest.room;
    const phase = app.obstacle ?? `${app.session?.phase.kind} ${app.manifest !== null}`;
    if (phase === this.#shownPhase) return;
    this.#shownPhase = phase;
    if (app.session?.phase.kind === "password") this.querySelector<HTMLInputElement>("input[name=password]")?.select();
  }

  #content(): TemplateResult {
    const { app } = this;
    const { texts, session } = app;
    if (app.obstacle || !session) return obstructed(app);
    const { phase, manifest } = session;
    if (phase.kind === "password") return password(app, phase);
    if (manifest) return room(app, manifest);
    switch (phase.kind) {
      case "waiting":
        return failed(app, phase.failure, true);
      case "over":
        return failed(app, phase.failure, false);
      case "connecting":
      case "open":
        return busy(texts.connecting, texts.connectingDetail);
      default:
        return busy(texts.looking);
    }
  }

  async #loadViewer(): Promise<void> {
    this.#isLoading = true;
    try {
      await import("./views/viewer.js");
      this.#hasViewer = true;
    } catch (error) {
      // The server has another build now, or does not answer.
      console.warn("PeMuS:", error);
      this.app.show(null);
      this.#isLoading = false;
    }
    this.requestUpdate();
  }
}

customElements.define("pemus-guest", Guest);
