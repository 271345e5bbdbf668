/** The base of this page's elements: without a shadow root, so that one style sheet and all labels reach everywhere. */

import { LitElement } from "lit";

export abstract class PageElement extends LitElement {
  protected override createRenderRoot(): HTMLElement {
    return this;
  }
}
