/** Counts down to the next attempt. */

import { type TemplateResult, html, nothing } from "lit";
import type { App } from "../app.js";
import { PageElement } from "./element.js";

export class Countdown extends PageElement {
  app!: App;
  #timer: ReturnType<typeof setInterval> | undefined;

  override connectedCallback(): void {
    super.connectedCallback();
    this.#timer = setInterval(() => this.requestUpdate(), 1000);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    clearInterval(this.#timer);
  }

  override render(): TemplateResult | typeof nothing {
    const phase = this.app.session?.phase;
    if (phase?.kind !== "waiting") return nothing;
    const seconds = Math.max(1, Math.ceil((phase.retryAt - Date.now()) / 1000));
    // Not for screen readers: they would read it each second.
    return html`<small aria-hidden="true">${this.app.texts.retrying(this.app.format.seconds(seconds))}</small>`;
  }
}

customElements.define("pemus-countdown", Countdown);
