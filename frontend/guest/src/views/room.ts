/** A room that is open: what it is, and its files. */

import type { Manifest, Phase, RoomFile } from "@pemus/protocol";
import { type TemplateResult, html, nothing } from "lit";
import type { App } from "../app.js";
import * as icons from "./icons.js";
import { spoken } from "./states.js";

/** Seconds before its end in which a room says how long it is open, instead of until when. */
const SOON = 2 * 86400;

export function room(app: App, manifest: Manifest): TemplateResult {
  const { texts } = app;
  const phase = app.session?.phase;
  const [only] = manifest.files;
  return html`
    ${phase && phase.kind !== "open" && phase.kind !== "idle" ? banner(app, phase) : nothing}
    ${app.session?.isSpoken ? spoken(app) : nothing}
    ${app.hasWorker === false ? html`<aside class="notice warning">${icons.warning}<div><p>${texts.noWorker}</p></div></aside>` : nothing}
    <header class="room">
      <p class="overline">${texts.shares(manifest.home)}</p>
      <h1>${manifest.room}</h1>
      ${manifest.note ? html`<p class="note" dir="auto">${manifest.note}</p>` : nothing}
      ${facts(app, manifest)}
    </header>
    ${manifest.files.length === 0 || !only
      ? html`<section class="state"><span class="badge">${icons.file}</span><p>${texts.empty}</p></section>`
      : manifest.files.length === 1
        ? single(app, only)
        : html`${toolbar(app)} ${folders(app, manifest)}`}
    ${manifest.truncated ? html`<p class="hint">${texts.truncated}</p>` : nothing}
  `;
}

/** Says that the home is away at the moment, or that the room is over. */
function banner(app: App, phase: Phase): TemplateResult {
  const { texts } = app;
  let text = texts.lostBanner;
  if (phase.kind === "over") text = phase.failure === "gone" ? texts.overBanner : texts.failures[phase.failure]!.join(". ");
  const hurry = (): void => app.session?.hurry();
  return html`<aside class="notice warning" role="status">
    ${icons.warning}
    <div><p>${text}</p><pemus-countdown .app=${app}></pemus-countdown></div>
    ${phase.kind === "waiting" ? html`<button @click=${hurry}>${texts.retryNow}</button>` : nothing}
    ${phase.kind === "over" ? html`<button @click=${hurry}>${texts.tryAgain}</button>` : nothing}
  </aside>`;
}

function facts(app: App, manifest: Manifest): TemplateResult {
  const { texts, format, session } = app;
  const size = manifest.files.reduce((sum, file) => sum + file.size, 0);
  return html`<ul class="facts">
    ${manifest.files.length > 1 ? html`<li>${texts.files(manifest.files.length)} · ${format.size(size)}</li>` : nothing}
    <li>${icons.clock}${expiry(app, manifest.expires)}</li>
    ${session?.path
      ? html`<li title=${session.path === "direct" ? texts.directDetail : texts.relayedDetail}>
          ${session.path === "direct" ? icons.direct : icons.relayed}${texts[session.path]}
        </li>`
      : nothing}
  </ul>`;
}

function expiry({ texts, format }: App, expires: number | null): string {
  if (!expires) return texts.noExpiry;
  const now = Date.now() / 1000;
  return expires - now < SOON ? texts.expiresSoon(format.until(expires, now)) : texts.expires(format.date(expires));
}

function single(app: App, file: RoomFile): TemplateResult {
  const { texts } = app;
  const canShow = app.canShow(file);
  // The picture does the same as the first button, which is there for everybody.
  return html`<article class="single ${file.kind}">
    <button class="poster" tabindex="-1" aria-hidden="true" ?disabled=${!canShow} @click=${() => app.show(file)}>
      <pemus-thumbnail .app=${app} .file=${file}></pemus-thumbnail>
      ${canShow && file.kind !== "photo" ? html`<span class="big-play">${icons.play}</span>` : nothing}
    </button>
    <div class="body">
      <h2 dir="auto">${file.name}</h2>
      <p class="meta">${meta(app, file)}</p>
      ${reason(app, file)}
      <div class="actions">
        ${canShow
          ? html`<button class="primary" @click=${() => app.show(file)}>
              ${file.kind === "photo" ? icons.photo : icons.play}${file.kind === "photo" ? texts.view : texts.play}
            </button>`
          : nothing}
        <button class=${canShow ? "" : "primary"} ?disabled=${!file.available} @click=${() => app.download(file)}>
          ${icons.download}${texts.downloadOne(app.format.size(file.size))}
        </button>
      </div>
    </div>
  </article>`;
}

function toolbar(app: App): TemplateResult {
  const { texts, format } = app;
  const chosen = app.selectedFiles;
  const files = chosen.length ? chosen : app.downloadable;
  const size = format.size(files.reduce((sum, file) => sum + file.size, 0));
  return html`<div class="toolbar">
    <button class="primary" ?disabled=${files.length === 0} @click=${() => app.downloadZip(files)}>
      ${icons.download}${chosen.length ? texts.downloadSelected(chosen.length, size) : texts.downloadAll(size)}
    </button>
    ${files.length > 1 ? html`<span class="hint">${texts.asZip}</span>` : nothing}
    <button class="quiet" @click=${() => app.selectAll(chosen.length < app.downloadable.length)}>
      ${chosen.length < app.downloadable.length ? texts.selectAll : texts.selectNone}
    </button>
  </div>`;
}

function folders(app: App, manifest: Manifest): TemplateResult[] {
  const groups = new Map<string, RoomFile[]>();
  for (const file of manifest.files) {
    const group = groups.get(file.folder);
    if (group) group.push(file);
    else groups.set(file.folder, [file]);
  }
  return [...groups].map(([folder, files]) => {
    const photos = files.filter((file) => file.kind === "photo");
    const others = files.filter((file) => file.kind !== "photo");
    return html`<section class="folder">
      ${folder ? html`<h2 dir="auto">${folder.replaceAll("/", " / ")}</h2>` : nothing}
      ${others.length ? html`<ul class="files">${others.map((file) => row(app, file))}</ul>` : nothing}
      ${photos.length ? html`<ul class="photos">${photos.map((file) => tile(app, file))}</ul>` : nothing}
    </section>`;
  });
}

function row(app: App, file: RoomFile): TemplateResult {
  const canShow = app.canShow(file);
  const inside = html`<pemus-thumbnail class=${file.kind} .app=${app} .file=${file}></pemus-thumbnail>
    <span class="text"><span class="name" dir="auto">${file.name}</span><span class="meta">${meta(app, file)}</span>${reason(app, file)}</span>`;
  return html`<li class=${app.selected.has(file.item) ? "chosen" : ""}>
    ${checkbox(app, file)}
    ${canShow
      ? html`<button class="main" @click=${() => app.show(file)}><span class="unseen">${app.texts.play} </span>${inside}</button>`
      : html`<div class="main">${inside}</div>`}
    <button class="round" ?disabled=${!file.available} @click=${() => app.download(file)} aria-label=${app.texts.download(file.name)}
      title=${app.texts.download(file.name)}>${icons.download}</button>
  </li>`;
}

function tile(app: App, file: RoomFile): TemplateResult {
  return html`<li class=${app.selected.has(file.item) ? "chosen" : ""}>
    <button class="main" ?disabled=${!app.canShow(file)} @click=${() => app.show(file)} aria-label=${app.texts.viewFile(file.name)} title=${file.name}>
      <pemus-thumbnail class="photo" .app=${app} .file=${file}></pemus-thumbnail>
    </button>
    ${checkbox(app, file)}
  </li>`;
}

function checkbox(app: App, file: RoomFile): TemplateResult {
  return html`<label class="check">
    <input type="checkbox" .checked=${app.selected.has(file.item)} ?disabled=${!file.available} @change=${() => app.toggle(file)}
      aria-label=${app.texts.select(file.name)} />
    <span>${icons.check}</span>
  </label>`;
}

function meta({ format }: App, file: RoomFile): string {
  const parts = [
    // A film's is on its picture.
    file.kind === "music" && file.duration && format.duration(file.duration),
    file.width && file.height && (file.kind === "video" ? `${Math.min(file.width, file.height)}p` : `${file.width} × ${file.height}`),
    format.size(file.size),
  ];
  return parts.filter(Boolean).join(" · ");
}

/** Says why a file cannot be played or fetched. */
function reason(app: App, file: RoomFile): TemplateResult | typeof nothing {
  const { texts } = app;
  let text = "";
  if (!file.available) text = texts.unavailable;
  else if (app.manifest?.stream === false) text = file.kind === "photo" ? "" : texts.noStream;
  else if (file.kind !== "photo") {
    const play = app.playability(file);
    if (!play.plays) text = texts.cannotPlay[play.reason](play.name);
  }
  return text ? html`<span class="reason">${text}</span>` : nothing;
}
