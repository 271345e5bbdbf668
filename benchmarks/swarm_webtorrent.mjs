// npm's webtorrent in Node as one end of a transfer over TCP, for swarm.py.
//     node swarm_webtorrent.mjs NODE_MODULES [SECURE]
// SECURE is webtorrent's option: 1, its default, encrypts the handshake alone, 2 encrypts all with RC4, as PeMuS does.
// Takes one JSON object per line and answers with one, like swarm_peer.py: `own`, `receive`, `play` and `usage`.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { default: WebTorrent } = await import(
  pathToFileURL(`${process.argv[2]}/webtorrent/index.js`)
);
const offline = { dht: false, lsd: false, natUpnp: false, natPmp: false, utPex: false, tracker: false, utp: false };
const secure = Number(process.argv[3] ?? 1);
const client = new WebTorrent({ ...offline, secure });
let folder = "";

client.on("error", (error) => {
  process.stderr.write(`${error}\n`);
  process.exit(1);
});

const work = {
  // The file must be called as the torrent calls it.
  own: (ask) =>
    new Promise((resolve) => {
      const torrent = client.add(Buffer.from(ask.torrent, "base64"), { path: ask.folder, skipVerify: true });
      torrent.on("ready", () => resolve({ port: client.torrentPort }));
    }),
  receive: async (ask) => {
    folder = ask.folder;
    return {};
  },
  play: (ask) =>
    new Promise((resolve) => {
      const start = performance.now();
      const torrent = client.add(Buffer.from(ask.torrent, "base64"), { path: folder, strategy: "sequential" });
      torrent.on("infoHash", () => torrent.addPeer(`127.0.0.1:${ask.port}`));
      torrent.on("done", () => resolve({ seconds: (performance.now() - start) / 1000 }));
    }),
  usage: async () => {
    const { user, system } = process.cpuUsage();
    const peak = /VmHWM:\s*(\d+)/.exec(readFileSync("/proc/self/status", "utf8"));
    return { cpu_s: (user + system) / 1e6, rss_mb: Number(peak[1]) / 1024 };
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("close", () => process.exit());
for await (const line of lines) {
  const ask = JSON.parse(line);
  process.stdout.write(`${JSON.stringify(await work[ask.do](ask))}\n`);
}
