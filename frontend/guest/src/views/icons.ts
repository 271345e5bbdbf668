/** Icons, drawn in the colour of the text. They say nothing that a label does not say. */

import { type SVGTemplateResult, type TemplateResult, html, svg } from "lit";

function icon(paths: SVGTemplateResult): TemplateResult {
  return html`<svg class="icon" viewBox="0 0 24 24" aria-hidden="true">${paths}</svg>`;
}

export const play = icon(svg`<path d="M8 5.2v13.6a.8.8 0 0 0 1.2.7l10.6-6.8a.8.8 0 0 0 0-1.4L9.2 4.5a.8.8 0 0 0-1.2.7z" fill="currentColor" stroke="none"/>`);
export const download = icon(svg`<path d="M12 4v11m0 0 4.5-4.5M12 15l-4.5-4.5M5 19.5h14"/>`);
export const close = icon(svg`<path d="m6 6 12 12M18 6 6 18"/>`);
export const previous = icon(svg`<path class="flip" d="m14.5 5-7 7 7 7"/>`);
export const next = icon(svg`<path class="flip" d="m9.5 5 7 7-7 7"/>`);
export const check = icon(svg`<path d="m5 12.5 4.5 4.5L19 7.5"/>`);
export const video = icon(svg`<rect x="3.5" y="5.5" width="17" height="13" rx="2.5"/><path d="M10.5 9.2v5.6l4.6-2.8z" fill="currentColor"/>`);
export const music = icon(svg`<path d="M9.5 17.5V6.2l9-2v11"/><circle cx="7" cy="17.5" r="2.5"/><circle cx="16" cy="15.2" r="2.5"/>`);
export const photo = icon(svg`<rect x="3.5" y="5" width="17" height="14" rx="2.5"/><circle cx="9" cy="10" r="1.6"/><path d="m4.5 17.5 4.7-4.4 3 2.6 3.3-3.5 4.3 4.2"/>`);
export const file = icon(svg`<path d="M7 3.5h7l4.5 4.5v12a.5.5 0 0 1-.5.5H7a1.5 1.5 0 0 1-1.5-1.5V5A1.5 1.5 0 0 1 7 3.5zm7 0V8h4.5"/>`);
export const lock = icon(svg`<rect x="5" y="10.5" width="14" height="9.5" rx="2.2"/><path d="M8.5 10.5V8a3.5 3.5 0 0 1 7 0v2.5"/>`);
export const warning = icon(svg`<path d="M12 4.5 21 19.5H3zM12 10v4.5m0 2.2v.1"/>`);
export const broken = icon(svg`<path d="M9.5 14.5 8 16a3.5 3.5 0 0 1-5-5l2.5-2.5M14.5 9.5 16 8a3.5 3.5 0 0 1 5 5l-2.5 2.5M4 4l16 16"/>`);
export const clock = icon(svg`<circle cx="12" cy="12" r="8.5"/><path d="M12 7.5V12l3 2"/>`);
export const direct = icon(svg`<path d="M4 12h16m0 0-4.5-4.5M20 12l-4.5 4.5" class="flip"/>`);
export const relayed = icon(svg`<circle cx="12" cy="7" r="2.5"/><path d="m3.5 17 6.5-8.5M20.5 17 14 8.5"/><circle cx="3.8" cy="17.5" r="1.3"/><circle cx="20.2" cy="17.5" r="1.3"/>`);
export const home = svg`<rect width="32" height="32" rx="9" fill="var(--accent)"/><path d="M6.5 15.2 16 7l9.5 8.2v8.3a1.5 1.5 0 0 1-1.5 1.5H8a1.5 1.5 0 0 1-1.5-1.5z" fill="#fff"/><path d="M13.2 14.4v7.2l6-3.6z" fill="var(--accent)"/>`;
export const logo = html`<svg class="logo" viewBox="0 0 32 32" aria-hidden="true">${home}</svg>`;
