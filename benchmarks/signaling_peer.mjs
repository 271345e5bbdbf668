// npm's PeerServer on a free port of this machine, for signaling.py.
//     node signaling_peer.mjs NODE_MODULES
// Prints the port. No limit of its own is reached.
import { pathToFileURL } from "node:url";

const { PeerServer } = await import(pathToFileURL(`${process.argv[2]}/peer/dist/module.mjs`));
PeerServer({ host: "127.0.0.1", port: 0, path: "/", concurrent_limit: 100000 }, (server) => {
  process.stdout.write(`${server.address().port}\n`);
});
