/** Opens the room that the page's address names. */

import { App } from "./app.js";
import { Guest } from "./guest.js";

const app = new App(location.href, navigator.languages);
const page = new Guest();
page.app = app;
document.querySelector("#page")!.replaceWith(page);
app.start();
