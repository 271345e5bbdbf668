/** The downloads of this visit: how far they are, and what they wait for. */

import { type TemplateResult, html, nothing } from "lit";
import type { App } from "../app.js";
import type { Transfer } from "../transfer.js";
import { PageElement } from "./element.js";
import * as icons from "./icons.js";

export class Transfers extends PageElement {
  app!: App;
  readonly #update = (): void => this.requestUpdate();

  override connectedCallback(): void {
    super.connectedCallback();
    this.app.tickListeners.add(this.#update);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.app.tickListeners.delete(this.#update);
  }

  override render(): TemplateResult | typeof nothing {
    const { app } = this;
    if (app.transfers.length === 0) return nothing;
    const isDone = app.transfers.every((each) => each.state === "done");
    return html`<section class="transfers" aria-label=${app.texts.transfers}>
      <ul>${app.transfers.map((transfer) => this.#row(transfer))}</ul>
      <p class="hint" role="status">${app.isTransferring ? app.texts.keepOpen : isDone ? app.texts.mayClose : nothing}</p>
    </section>`;
  }

  #row(transfer: Transfer): TemplateResult {
    const { texts, format } = this.app;
    return html`<li class=${transfer.state}>
      <div class="line">
        <span class="name" dir="auto">${transfer.name}</span>
        ${transfer.isActive
          ? html`<button class="round small" @click=${() => transfer.cancel()} aria-label=${texts.cancel(transfer.name)}>${icons.close}</button>`
          : html`<button class="round small" @click=${() => this.app.dismiss(transfer)} aria-label=${texts.dismiss(transfer.name)}>
              ${transfer.state === "done" ? icons.check : icons.close}
            </button>`}
      </div>
      ${transfer.isActive ? html`<progress max="1" .value=${transfer.share} aria-label=${transfer.name}></progress>` : nothing}
      <div class="meta">
        <span>${describe(this.app, transfer)}</span>
        ${transfer.isActive && transfer.received ? html`<span>${format.percent(transfer.share)}</span>` : nothing}
      </div>
    </li>`;
  }
}

function describe(app: App, transfer: Transfer): string {
  const { texts, format, session } = app;
  switch (transfer.state) {
    case "done":
      return texts.done(format.size(transfer.size));
    case "cancelled":
      return texts.cancelled;
    case "failed": {
      const key = String(transfer.problem);
      return texts.problems[key] ?? texts.failures[key]?.join(". ") ?? texts.problems.other!;
    }
  }
  if (session?.phase.kind !== "open" && session?.phase.kind !== "idle") return texts.reconnecting;
  const place = queuePlace(app, "download");
  if (place) return place;
  if (transfer.state === "starting") return texts.starting;
  const now = performance.now();
  const left = transfer.secondsLeft(now);
  return [
    texts.progress(format.size(transfer.received), format.size(transfer.size)),
    format.rate(transfer.rate(now)),
    left === null ? "" : texts.left(format.wait(left)),
    session.path ? texts[session.path] : "",
  ]
    .filter(Boolean)
    .join(" · ");
}

/** Returns what to say to somebody who waits for a place, empty if there is nothing to wait for. */
export function queuePlace({ session, texts, format }: App, purpose: "download" | "stream"): string {
  const place = session?.place(purpose);
  if (!place || place.position === 0) return "";
  const when = place.seconds === null ? texts.queueUnknown : texts.queueSoon(format.wait(place.seconds));
  return `${texts.queue(place.position, place.waiting)} ${when}`;
}

customElements.define("pemus-transfers", Transfers);
