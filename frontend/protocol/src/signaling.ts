/** One offer and its answer through the signalling server (PeerServer's protocol). */

import { random, toHex } from "./bytes.js";
import { RoomError } from "./errors.js";
import { isObject } from "./json.js";

/** Milliseconds for the server to accept the page, and for the home to answer. */
const OPEN_TIMEOUT = 10_000;
const ANSWER_TIMEOUT = 20_000;
const HEARTBEAT_INTERVAL = 5_000;
/** Milliseconds after which the offer is repeated: the home may have been connecting to the server. */
const OFFER_INTERVAL = 3_000;

/**
 * Sends an offer to a home and returns its answer. The socket is closed then: a page that is connected needs no server.
 *
 * Throws a RoomError.
 */
export async function exchange(
  server: URL,
  home: string,
  offer: object,
  isAnswer: (payload: Record<string, unknown>) => boolean,
): Promise<Record<string, unknown>> {
  const url = new URL("peerjs", server);
  url.protocol = url.protocol === "http:" ? "ws:" : "wss:";
  url.search = new URLSearchParams({
    key: "peerjs",
    id: `guest-${toHex(random(12))}`,
    token: toHex(random(12)),
  }).toString();
  const socket = new WebSocket(url);
  const call = (): void => socket.send(JSON.stringify({ type: "OFFER", dst: home, payload: offer }));
  const repeated: ReturnType<typeof setInterval>[] = [];
  let deadline: ReturnType<typeof setTimeout> | undefined;
  try {
    return await new Promise((resolve, reject) => {
      const expect = (milliseconds: number, error: RoomError): void => {
        clearTimeout(deadline);
        deadline = setTimeout(() => reject(error), milliseconds);
      };
      expect(OPEN_TIMEOUT, new RoomError("unreachable", "the server does not answer"));
      socket.onclose = (event) => reject(closed(event));
      socket.onmessage = (event) => {
        const message = read(event.data);
        switch (message?.type) {
          case "OPEN":
            call();
            repeated.push(
              setInterval(call, OFFER_INTERVAL),
              setInterval(() => socket.send('{"type":"HEARTBEAT"}'), HEARTBEAT_INTERVAL),
            );
            expect(ANSWER_TIMEOUT, new RoomError("away", "the home does not answer"));
            break;
          case "ANSWER":
            if (message.src === home && isObject(message.payload) && isAnswer(message.payload)) {
              resolve(message.payload);
            }
            break;
          case "EXPIRE":
            if (message.src === home) reject(new RoomError("away"));
            break;
          case "ERROR":
          case "ID-TAKEN":
            reject(new RoomError("unreachable", "the server rejects the page"));
        }
      };
    });
  } finally {
    clearTimeout(deadline);
    repeated.forEach(clearInterval);
    socket.onclose = socket.onmessage = null;
    socket.close();
  }
}

function closed(event: CloseEvent): RoomError {
  const isLimit = event.code === 1013 || event.code === 1008;
  return new RoomError(isLimit ? "rate_limited" : "unreachable", `the server closed (${event.code})`);
}

function read(data: unknown): Record<string, unknown> | null {
  if (typeof data !== "string") return null;
  try {
    const message: unknown = JSON.parse(data);
    return isObject(message) ? message : null;
  } catch {
    return null;
  }
}
