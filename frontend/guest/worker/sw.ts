/**
 * Answers requests for a room's files with what its page fetches from the home.
 *
 * An address is `{scope}SLUG/file/PAGE/TICKET/NAME`. The worker keeps nothing: it asks the room's open pages over a message
 * channel of its own, and the one that is called PAGE answers. So it works after the browser has ended and restarted it.
 */

const worker = globalThis as unknown as ServiceWorkerGlobalScope;

/** Milliseconds for the page to answer. */
const ANSWER_TIMEOUT = 10_000;

/** What the page sends: how to answer, then a part for each "more", and null at the end. */
type Head = { readonly status: number; readonly headers: Record<string, string> };

worker.addEventListener("install", () => void worker.skipWaiting());
worker.addEventListener("activate", (event) => event.waitUntil(worker.clients.claim()));
// A page that was loaded around the worker asks for it. Other messages only keep the browser from ending the worker.
worker.addEventListener("message", (event) => {
  if (event.data === "claim") event.waitUntil(worker.clients.claim());
});

worker.addEventListener("fetch", (event) => {
  const scope = new URL(worker.registration.scope);
  const url = new URL(event.request.url);
  if (url.origin !== scope.origin || !url.pathname.startsWith(scope.pathname)) return;
  const [slug, kind, page, ticket] = url.pathname.slice(scope.pathname.length).split("/");
  if (kind !== "file" || !slug || !page || !ticket) return;
  event.respondWith(answer(`${scope.pathname}${slug}`, page, ticket, event.request.headers.get("Range")));
});

async function answer(room: string, page: string, ticket: string, range: string | null): Promise<Response> {
  const windows = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
  const candidates = windows.filter((each) => new URL(each.url).pathname === room);
  const ports = candidates.map((client) => {
    const channel = new MessageChannel();
    client.postMessage({ kind: "fetch", page, ticket, range }, [channel.port2]);
    return channel.port1;
  });
  return new Promise((resolve) => {
    const deadline = setTimeout(() => resolve(new Response("The page is closed.", { status: 503 })), ANSWER_TIMEOUT);
    for (const port of ports) {
      port.onmessage = ({ data }: MessageEvent<Head>) => {
        clearTimeout(deadline);
        for (const other of ports) if (other !== port) other.close();
        const hasBody = data.status === 200 || data.status === 206;
        resolve(new Response(hasBody ? body(port) : null, data));
      };
    }
  });
}

/** Returns what the page sends, one part for each that is asked for: the reader's pace is the page's. */
function body(port: MessagePort): ReadableStream<Uint8Array> {
  return new ReadableStream(
    {
      pull(controller) {
        return new Promise<void>((resolve) => {
          port.onmessage = ({ data }: MessageEvent<Uint8Array | null | string>) => {
            if (data instanceof Uint8Array) {
              controller.enqueue(data);
            } else {
              if (data === null) controller.close();
              else controller.error(new Error(data));
              port.close();
            }
            resolve();
          };
          port.postMessage("more");
        });
      },
      cancel() {
        port.postMessage("cancel");
        port.close();
      },
    },
    { highWaterMark: 0 },
  );
}
