// npm's bittorrent-tracker, for WebSockets on loopback alone. Says its address in one line, and runs until its input ends.
//     node tracker.mjs NODE_MODULES
import { pathToFileURL } from "node:url";

const { default: Server } = await import(
  pathToFileURL(`${process.argv[2]}/bittorrent-tracker/server.js`)
);
const tracker = new Server({ http: false, udp: false, ws: true, stats: false });
// One that a peer sends, not one of the tracker's.
tracker.on("warning", () => {});
tracker.on("listening", () => {
  process.stdout.write(`ws://127.0.0.1:${tracker.ws.address().port}\n`);
});
tracker.listen(0, "127.0.0.1");
process.stdin.on("end", () => process.exit()).resume();
