// npm's webtorrent in Node as one peer. Takes one JSON object per line and answers with one, until its input ends.
//     node peer.mjs NODE_MODULES
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import path from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { default: WebTorrent } = await import(pathToFileURL(`${process.argv[2]}/webtorrent/index.js`));
const client = new WebTorrent({
  dht: false,
  lsd: false,
  natUpnp: false,
  natPmp: false,
  utPex: false,
  utp: false,
  tracker: { rtcConfig: { iceServers: [] } },
});
const faults = [];
let torrent;

client.on("error", (error) => faults.push(String(error)));

const work = {
  add: (ask) =>
    new Promise((resolve) => {
      torrent = client.add(Buffer.from(ask.torrent, "base64"), { path: ask.folder, announce: [ask.tracker] });
      torrent.on("warning", (warning) => faults.push(String(warning)));
      torrent.on("ready", () => resolve({}));
    }),
  state: async () => ({ done: torrent.done, peers: torrent.numPeers, faults }),
  hash: async () => {
    const file = torrent.files[0];
    const content = await readFile(path.join(torrent.path, file.path));
    return { sha256: createHash("sha256").update(content).digest("hex") };
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("close", () => process.exit());
process.stdout.write("{}\n");
for await (const line of lines) {
  const ask = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await work[ask.do](ask))}\n`);
}
