"""Clients of PeerServer's protocol by the hundred, for signaling.py.

    python benchmarks/signaling_load.py relay|paced|idle --port PORT... --pid PID... [--clients N] [--seconds S] [--rate N] [--cross]

Speaks to whatever listens at the port of this machine, and prints what it saw as JSON. `PID` is the server's process,
whose CPU time and memory are looked at around what is measured. With several ports, the two of a pair connect to the same
one, or with `--cross` to different ones.

- `relay`: pairs of clients send one message to and fro, as fast as it goes;
- `paced`: pairs of clients send messages at a given rate altogether, and look how long each is under way;
- `idle`: clients connect, so many at a time, and stay.
"""

from __future__ import annotations

import argparse
import asyncio
from base64 import b64encode
from collections.abc import Callable, Sequence
import json
import os
import resource
import select
import socket
import time

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
import psutil
import uvloop

MESSAGE = 1200
"""Bytes of a message: an offer of a browser with a few candidates has about as many."""
WARM_UP = 1.0
SETTLE = 3.0
OPENING = 128
"""Clients that connect at a time."""
STAMP = 20
"""Digits of a time in nanoseconds."""
PATIENCE = 60
ADDRESS = "127.0.0.1"
BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\nPragma: no-cache\r\n"
    "Cache-Control: no-cache\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
)
"""The rest of the head of a browser's request."""


def message(receiver: str) -> bytes:
    """Return a candidate's message for a receiver, with room for a time."""
    head = b'{"type":"CANDIDATE","payload":{"connectionId":"dc_4f0q5uu9a9","type":"data","at":"'
    rest = b'","sdp":"%b"},"dst":"' + receiver.encode() + b'"}'
    line = b"a=candidate:1467250027 1 udp 2122260223 192.0.2.7 54321 typ host generation 0\\r\\n"
    filling = (line * 20)[: MESSAGE - len(head) - len(rest) - STAMP + 2].rstrip(b"\\")
    return head + b"0" * STAMP + rest % filling


class Client(WSListener):
    """Somebody who has a partner."""

    def __init__(self, number: int, heard: Callable[[Client, WSFrame], None]) -> None:
        """Be the client of this number; its partner has the other number of the pair."""
        self.heard = heard
        self.name = f"client-{number:05}"
        self.words = message(f"client-{number ^ 1:05}")
        self.transport: WSTransport | None = None
        self.opened = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Keep the socket."""
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take OPEN, then messages."""
        if self.opened.done():
            self.heard(self, frame)
        elif b"OPEN" in frame.get_payload_as_bytes():
            self.opened.set_result(None)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Notice what must not happen."""
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("a client was hung up on"))

    def send(self, words: bytes) -> None:
        """Say something."""
        assert self.transport is not None
        self.transport.send(WSMsgType.TEXT, words)


async def connect(
    ports: Sequence[int],
    count: int,
    heard: Callable[[Client, WSFrame], None],
    *,
    cross: bool = False,
) -> list[Client]:
    """Return clients that have heard OPEN."""
    slots = asyncio.Semaphore(OPENING)

    async def one(number: int) -> Client:
        async with slots:
            client = Client(number, heard)
            port = ports[(number if cross else number // 2) % len(ports)]
            url = f"ws://{ADDRESS}:{port}/peerjs?key=peerjs&id={client.name}&token=token{number}"
            await ws_connect(lambda: client, url)
            await client.opened
            return client

    return list(await asyncio.gather(*(one(number) for number in range(count))))


def cpu_seconds(*processes: psutil.Process) -> float:
    """Return the CPU time that processes have taken."""
    times = [process.cpu_times() for process in processes]
    return float(sum(each.user + each.system for each in times))


async def relay(
    ports: Sequence[int],
    processes: Sequence[psutil.Process],
    clients: int,
    seconds: float,
    *,
    cross: bool = False,
) -> dict[str, float]:
    """Let every client answer each message with one."""
    count = 0

    def heard(client: Client, frame: WSFrame) -> None:
        nonlocal count
        count += 1
        client.send(client.words)

    everybody = await connect(ports, clients, heard, cross=cross)
    for client in everybody:
        client.send(client.words)
    await asyncio.sleep(WARM_UP)
    counted, cpu, began = count, cpu_seconds(*processes), time.perf_counter()
    await asyncio.sleep(seconds)
    counted, cpu, took = (
        count - counted,
        cpu_seconds(*processes) - cpu,
        time.perf_counter() - began,
    )
    return {
        "messages_per_s": counted / took,
        "messages_per_cpu_s": counted / cpu,
        "cpu": cpu / took,
    }


async def paced(
    port: int, process: psutil.Process, clients: int, seconds: float, rate: float
) -> dict[str, float]:
    """Send messages at a rate, and return how long they were under way, in milliseconds."""
    late: list[int] = []
    at = message("").index(b"0" * STAMP)

    def heard(client: Client, frame: WSFrame) -> None:
        words = frame.get_payload_as_bytes()
        start = words.index(b'"at":"') + 6
        late.append(time.perf_counter_ns() - int(words[start : start + STAMP]))

    everybody = await connect([port], clients, heard)
    loop = asyncio.get_running_loop()
    began = loop.time()
    sent, cpu = 0, 0.0
    warm = False
    while (now := loop.time()) < began + WARM_UP + seconds:
        if not warm and now >= began + WARM_UP:
            warm = True
            late.clear()
            cpu = cpu_seconds(process)
        # As many as are due; one by one, as they would come.
        while sent < (loop.time() - began) * rate:
            client = everybody[(sent * 7) % clients]
            words = (
                client.words[:at]
                + b"%020d" % time.perf_counter_ns()
                + client.words[at + STAMP :]
            )
            client.send(words)
            sent += 1
            if sent % 8 == 0:
                await asyncio.sleep(0)
        await asyncio.sleep(0.0005)
    cpu = cpu_seconds(process) - cpu
    await asyncio.sleep(0.5)
    late.sort()
    return {
        "p50_ms": late[len(late) // 2] / 1e6,
        "p99_ms": late[int(len(late) * 0.99)] / 1e6,
        "rate": len(late) / seconds,
        "cpu": cpu / seconds,
    }


class Crowd:
    """Clients that only connect. They take as little as can be, so that the server is what is measured."""

    def __init__(self, port: int, clients: int) -> None:
        """Be so many clients of a server."""
        self._port = port
        self._clients = clients
        self._poll = select.epoll()
        self._begun = 0
        self._waiting: dict[int, socket.socket] = {}
        self._open: list[socket.socket] = []

    def connect(self) -> None:
        """Connect all of them, `OPENING` at a time, and return when each has heard OPEN."""
        while len(self._open) < self._clients:
            while self._begun < self._clients and len(self._waiting) < OPENING:
                self._begin()
            for number, _ in self._poll.poll(PATIENCE) or [(-1, 0)]:
                if number < 0:
                    raise SystemExit("the server does not answer")
                self._hear(number)

    def _begin(self) -> None:
        client = socket.socket()
        client.connect((ADDRESS, self._port))
        client.sendall(
            (
                f"GET /peerjs?key=peerjs&id=client-{self._begun:05}&token=token{self._begun:05}&version=1.5.5 HTTP/1.1\r\n"
                f"Host: {ADDRESS}:{self._port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}\r\nOrigin: http://{ADDRESS}\r\n"
                + BROWSER
            ).encode()
        )
        self._begun += 1
        self._waiting[client.fileno()] = client
        # Told of each arrival once: the answer may come in pieces.
        self._poll.register(client, select.EPOLLIN | select.EPOLLET)

    def _hear(self, number: int) -> None:
        client = self._waiting[number]
        heard = client.recv(1000, socket.MSG_PEEK)
        if not heard:
            raise SystemExit("a client was hung up on")
        if b'"OPEN"' in heard:
            self._poll.unregister(client)
            self._open.append(self._waiting.pop(number))


async def idle(port: int, process: psutil.Process, clients: int) -> dict[str, float]:
    """Connect, and look what that costs the server."""
    before = process.memory_info().rss
    crowd = Crowd(port, clients)
    cpu, began = cpu_seconds(process), time.perf_counter()
    crowd.connect()
    took, cpu = time.perf_counter() - began, cpu_seconds(process) - cpu
    await asyncio.sleep(SETTLE)
    rss = process.memory_info().rss
    return {
        "connect_per_s": clients / took,
        "connect_per_cpu_s": clients / cpu,
        "rss_mb": rss / 2**20,
        "kb_per_socket": (rss - before) / clients / 1024,
    }


def main() -> None:
    """Do one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["relay", "paced", "idle"])
    parser.add_argument("--port", type=int, nargs="+", required=True)
    parser.add_argument("--pid", type=int, nargs="+", required=True)
    parser.add_argument("--cross", action="store_true")
    parser.add_argument("--clients", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rate", type=float, default=4000)
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    processes = [psutil.Process(pid) for pid in options.pid]
    port, process = options.port[0], processes[0]
    clients, seconds = options.clients, options.seconds
    work = {
        "relay": lambda: relay(
            options.port, processes, clients, seconds, cross=options.cross
        ),
        "paced": lambda: paced(port, process, clients, seconds, options.rate),
        "idle": lambda: idle(port, process, clients),
    }
    print(json.dumps(uvloop.run(work[options.part]())))


if __name__ == "__main__":
    main()
