/** What the page shows before a room is open, and when it will not be. */

import type { Phase } from "@pemus/protocol";
import { type TemplateResult, html, nothing } from "lit";
import type { App } from "../app.js";
import * as icons from "./icons.js";

export function busy(title: string, detail = ""): TemplateResult {
  return html`<section class="state" role="status">
    <span class="spinner" aria-hidden="true"></span>
    <h1>${title}</h1>
    ${detail ? html`<p>${detail}</p>` : nothing}
  </section>`;
}

/** Shows why there is no room, and what to do next. */
export function failed(app: App, failure: string, isTrying: boolean): TemplateResult {
  const [title, next] = app.texts.failures[failure] ?? app.texts.failures.invalid!;
  return html`<section class="state" role="alert">
    <span class="badge">${failure === "gone" || failure === "used_up" ? icons.clock : icons.broken}</span>
    <h1>${title}</h1>
    <p>${next}</p>
    ${isTrying ? html`<pemus-countdown .app=${app}></pemus-countdown>` : nothing}
    <button class="primary" @click=${() => again(app, failure)}>
      ${failure === "version" ? app.texts.reload : isTrying ? app.texts.retryNow : app.texts.tryAgain}
    </button>
  </section>`;
}

function again(app: App, failure: string): void {
  if (failure === "version") location.reload();
  else app.session?.hurry();
}

/** Shows why this browser, or this address, cannot open a room. */
export function obstructed(app: App): TemplateResult {
  const [title, next] = app.texts.obstacles[app.obstacle!];
  return html`<section class="state" role="alert">
    <span class="badge">${app.obstacle === "insecure" ? icons.lock : icons.broken}</span>
    <h1>${title}</h1>
    <p>${next}</p>
    ${app.obstacle === "insecure" ? html`<a class="button primary" href=${app.secureAddress}>${app.texts.openSecure}</a>` : nothing}
  </section>`;
}

/** Asks for the password. */
export function password(app: App, phase: Extract<Phase, { kind: "password" }>): TemplateResult {
  const { texts, format } = app;
  const problem = phase.retryAfter ? texts.limited(format.wait(phase.retryAfter)) : phase.isWrong ? texts.wrongPassword : "";
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    const input = (event.currentTarget as HTMLFormElement).elements.namedItem("password") as HTMLInputElement;
    if (input.value && !phase.isChecking) app.session?.answer(input.value);
  };
  return html`<form class="state" @submit=${submit}>
    <span class="badge">${icons.lock}</span>
    <h1>${texts.passwordTitle}</h1>
    <p>${texts.passwordDetail}</p>
    ${app.session?.isSpoken ? spoken(app) : nothing}
    <label class="field">
      <span>${texts.password}</span>
      <input name="password" type="password" autocomplete="off" autocapitalize="off" spellcheck="false" required
        aria-describedby="problem" aria-invalid=${problem ? "true" : "false"} ?readonly=${phase.isChecking} />
    </label>
    <p id="problem" class="problem" role="alert">${problem}</p>
    <button class="primary" ?disabled=${phase.isChecking}>${phase.isChecking ? texts.checking : texts.enter}</button>
  </form>`;
}

/** Warns that nobody has proven to be the right home. */
export function spoken(app: App): TemplateResult {
  return html`<aside class="notice warning">
    ${icons.warning}
    <div><strong>${app.texts.spokenTitle}</strong><p>${app.texts.spoken}</p></div>
  </aside>`;
}
