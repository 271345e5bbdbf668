/**
 * All states of the page without a home, to work on their looks: `npm run dev --workspace guest`, then
 * /fixtures.html?state=room. Is not part of the build.
 */

import { type Manifest, type Phase, type RoomFile } from "@pemus/protocol";
import { App } from "../src/app.js";
import { Guest } from "../src/guest.js";
import { Transfer } from "../src/transfer.js";

const GB = 1e9;
const DAY = 86400;

function file(name: string, change: Partial<RoomFile> = {}): RoomFile {
  return {
    item: name, name, folder: "", kind: "video", contentType: "video/mp4", size: 1.4 * GB, etag: "e", modified: 1.7e9, duration: 5423,
    width: 1920, height: 1080, videoCodec: "h264", audioCodec: "aac", hasThumbnail: true, available: true, subtitles: [], ...change,
  };
}

function photo(index: number): RoomFile {
  return file(`IMG_${4200 + index}.jpg`, { kind: "photo", contentType: "image/jpeg", size: 3.1e6 + index * 1e5, duration: null, width: 4032, height: 3024, folder: "Photos" });
}

const FILES = [
  file("Summer at the lake.mp4"),
  file("A very long name of a film that nobody shortened before it was shared with everybody else (2024, restored version).mkv", { contentType: "video/x-matroska", videoCodec: "hevc", size: 8.3 * GB }),
  file("Ocean drive.mp3", { kind: "music", contentType: "audio/mpeg", size: 8.2e6, duration: 214, width: null, height: null, videoCodec: null, audioCodec: "mp3" }),
  file("Not here.mp4", { available: false, hasThumbnail: false }),
  ...Array.from({ length: 9 }, (_, index) => photo(index)),
];

function manifest(files: readonly RoomFile[], change: Partial<Manifest> = {}): Manifest {
  return {
    room: "Summer holiday", home: "Beach house", note: "Have fun with these!\nThe film is from the last evening.",
    expires: Date.now() / 1000 + 6 * DAY, stream: true, files, truncated: false, ...change,
  };
}

/** Returns a picture that looks like one. */
async function painted(name: string): Promise<string> {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [320, 240];
  const context = canvas.getContext("2d")!;
  const hue = [...name].reduce((sum, character) => sum + character.charCodeAt(0) * 7, 0) % 360;
  const sky = context.createLinearGradient(0, 0, 0, 240);
  sky.addColorStop(0, `hsl(${hue} 70% 45%)`);
  sky.addColorStop(0.6, `hsl(${(hue + 40) % 360} 80% 75%)`);
  sky.addColorStop(0.6, `hsl(${(hue + 150) % 360} 40% 35%)`);
  sky.addColorStop(1, `hsl(${(hue + 170) % 360} 50% 20%)`);
  context.fillStyle = sky;
  context.fillRect(0, 0, 320, 240);
  context.fillStyle = "#fffc";
  context.beginPath();
  context.arc(60 + (hue % 200), 80, 26, 0, 7);
  context.fill();
  return canvas.toDataURL("image/jpeg");
}

const query = new URLSearchParams(location.search);
const state = query.get("state") ?? "room";
const secret = state === "spoken" ? "" : "#AAECAwQFBgcICQoLDA0ODw";
const app = new App(state === "bad_link" ? "http://localhost/r/x" : `http://localhost/r/baku-timo-rosa-lufi${secret}`, [query.get("language") ?? "en"]);
const session = app.session;

function at(phase: Phase, room: Manifest | null = null): void {
  if (!session) return;
  session.phase = phase;
  session.manifest = room;
  session.path = phase.kind === "open" ? "direct" : null;
}

function transfers(): void {
  const running = new Transfer("Summer holiday.zip", 9.7 * GB);
  const now = performance.now();
  running.took(3.1 * GB, now - 60_000);
  for (let index = 0; index < 10; index++) running.took(9e6, now - 450 * (10 - index));
  const done = new Transfer("Ocean drive.mp3", 8.2e6);
  done.took(8.2e6, now);
  done.end(null);
  const failed = new Transfer("IMG_4201.jpg", 3.2e6);
  failed.end("changed");
  app.transfers.push(running, done, failed);
}

const OPEN = { kind: "open" } as const;
const STATES: Record<string, () => void> = {
  looking: () => at({ kind: "looking" }),
  connecting: () => at({ kind: "connecting" }),
  password: () => at({ kind: "password", isWrong: false, isChecking: false, retryAfter: null }),
  wrong: () => at({ kind: "password", isWrong: true, isChecking: false, retryAfter: null }),
  limited: () => at({ kind: "password", isWrong: false, isChecking: false, retryAfter: 120 }),
  room: () => at(OPEN, manifest(FILES)),
  single: () => at(OPEN, manifest(FILES.slice(0, 1), { note: "", expires: Date.now() / 1000 + DAY })),
  song: () => at(OPEN, manifest(FILES.slice(2, 3))),
  refused: () => at(OPEN, manifest(FILES.slice(1, 2))),
  empty: () => at(OPEN, manifest([])),
  spoken: () => at(OPEN, manifest(FILES.slice(0, 1))),
  bad_link: () => undefined,
  transfers: () => {
    at(OPEN, manifest(FILES));
    transfers();
  },
  no_worker: () => at(OPEN, manifest(FILES)),
  selected: () => {
    at(OPEN, manifest(FILES));
    for (const each of [FILES[0]!, FILES[5]!, FILES[6]!]) app.selected.add(each.item);
  },
  lost: () => {
    at({ kind: "waiting", failure: "lost", retryAt: Date.now() + 9_000 }, manifest(FILES));
    transfers();
  },
  closed: () => at({ kind: "over", failure: "gone" }, manifest(FILES)),
};
if (STATES[state]) STATES[state]();
else if (state === "away") at({ kind: "waiting", failure: "away", retryAt: Date.now() + 9_000 });
else at({ kind: "over", failure: state as never });

app.thumbnail = (each) => painted(each.name);
app.hasWorker = state !== "no_worker";
document.documentElement.dir = query.get("direction") ?? "ltr";
const page = new Guest();
page.app = app;
document.body.append(page);
