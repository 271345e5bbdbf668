"""Measures the signalling server's tracker beside npm's bittorrent-tracker: the same announces, in turns.

    python benchmarks/signaling_tracker.py --json FILE [--rounds N] [--announces N]

Runs in the signalling server's environment; `signaling.py` does the same within its own run. Both servers are processes
of their own. One load generator, this process, has many sockets open, each a peer in a swarm of `SWARM`, and always
`UNDER_WAY` announces without a reply; every announce brings offers, which the server hands to as many other peers. A
generator fills a core before a good server does, so what counts is the server's own CPU time.

- `tracker_responses_per_cpu_s`: replies to announces, each with its offers delivered, by CPU second of the server;
- `tracker_offers_per_announce`: how many offers were delivered, to tell that both have done the same work.

Each is given for 500 sockets with 10 offers an announce, and with `_2000` for 2,000 sockets with 5. Figures are medians of
the rounds. PeMuS checks a token for each socket; npm's server has nothing of the kind.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
import json
from pathlib import Path
import random
import resource
import statistics
import sys
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
import orjson
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
import psutil
import uvloop

from pemus_signaling.rooms.tokens import ANNOUNCE, RoomToken

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.signaling.signing import sign  # noqa: E402

NPM = ROOT / ".venvs" / "npm"
STOCK = ROOT / "tests" / "e2e" / "webtorrent" / "tracker.mjs"
SWARM = 50
"""Peers of a swarm: a well attended room."""
UNDER_WAY = 64
OPENING = 100
"""Sockets that are being opened at a time."""
PATIENCE = 300
SMALL = 300
"""Bytes: a reply has fewer, an offer more."""
INTERVAL = 5
"""Seconds between announces that the server asks for: the shortest that it may, so that nobody is held to offer too often."""
SDP = (
    "v=0\r\no=- {number} 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=extmap-allow-mixed\r\n"
    "a=msid-semantic: WMS\r\nm=application 54321 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 192.0.2.7\r\n"
    "a=candidate:1467250027 1 udp 2122260223 192.0.2.7 54321 typ host generation 0 network-id 1\r\n"
    "a=candidate:842163049 1 udp 1677729535 198.51.100.9 54321 typ srflx raddr 192.0.2.7 rport 54321 generation 0\r\n"
    "a=ice-ufrag:4ZcD\r\na=ice-pwd:2/1muCWoOi3uLifh0NuRHlcn\r\na=ice-options:trickle\r\n"
    "a=fingerprint:sha-256 75:74:5A:A6:A4:E5:52:F4:A7:67:4C:01:C7:EE:91:3F:21:3D:A2:E3:53:7B:6F:30:86:F2:30:AA:65:FB:04:24"
    "\r\na=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n"
)


@dataclass(frozen=True, slots=True)
class Case:
    """How many peers, and what each announces."""

    suffix: str
    sockets: int
    offers: int


CASES = (Case("", 500, 10), Case("_2000", 2000, 5))


@dataclass(frozen=True, slots=True)
class Server:
    """A tracker in a process of its own."""

    process: psutil.Process
    url: Callable[[], str]
    """The address for one more peer."""

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


class Load:
    """The peers, and what they got."""

    def __init__(self, announces: int) -> None:
        """Begin so many announces altogether."""
        self.replies = 0
        self.offers = 0
        self.done = asyncio.Event()
        self._begun = 0
        self._announces = announces
        self._peers: list[Peer] = []

    def enter(self, peer: Peer) -> None:
        """Take a peer in."""
        self._peers.append(peer)

    def begin(self) -> None:
        """Announce, as many peers as may be under way."""
        random.shuffle(self._peers)
        for _ in range(UNDER_WAY):
            self._next()

    def replied(self) -> None:
        """Let another peer announce."""
        self.replies += 1
        if self.replies == self._announces:
            self.done.set()
        self._next()

    def _next(self) -> None:
        if self._begun < self._announces:
            peer = self._peers[self._begun % len(self._peers)]
            self._begun += 1
            peer.announce()


class Peer(WSListener):  # type: ignore[misc, unused-ignore]
    """A socket."""

    def __init__(self, load: Load, message: bytes) -> None:
        """Announce with `message`."""
        self._load = load
        self._message = message
        self._transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Be ready."""
        self._transport = transport
        self._load.enter(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Count what was got."""
        if frame.msg_type is not WSMsgType.TEXT:
            raise SystemExit(f"the server hung up: {frame}")
        if frame.payload_size < SMALL:
            message = frame.get_payload_as_bytes()
            if b"failure" in message:
                raise SystemExit(f"the server refused: {message!r}")
            self._load.replied()
        else:
            self._load.offers += 1

    def announce(self) -> None:
        """Say that this peer is here."""
        assert self._transport is not None
        self._transport.send(WSMsgType.TEXT, self._message)

    def hang_up(self) -> None:
        """End."""
        assert self._transport is not None
        self._transport.disconnect(False)


def binary(source: random.Random) -> str:
    """Return 20 bytes as WebTorrent writes them."""
    return source.randbytes(20).decode("latin-1")


def announce(source: random.Random, info_hash: str, offers: int) -> bytes:
    """Return what a peer says."""
    return orjson.dumps(
        {
            "numwant": offers,
            "uploaded": 0,
            "downloaded": 0,
            "left": source.randrange(1, 10**9),
            "event": "started",
            "action": "announce",
            "info_hash": info_hash,
            "peer_id": binary(source),
            "offers": [
                {
                    "offer": {
                        "type": "offer",
                        "sdp": SDP.format(number=source.randrange(10**18)),
                    },
                    "offer_id": binary(source),
                }
                for _ in range(offers)
            ],
        }
    )


@asynccontextmanager
async def started(*command: object) -> AsyncIterator[tuple[psutil.Process, str]]:
    """Run a server, and give the line that it says."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin and process.stdout
    try:
        async with asyncio.timeout(PATIENCE):
            said = await process.stdout.readline()
        if not said:
            raise SystemExit(f"{command[0]} did not start")
        yield psutil.Process(process.pid), said.decode().strip()
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@asynccontextmanager
async def pemus() -> AsyncIterator[Server]:
    """Run PeMuS's server. Each peer has a token of its own."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    async with started(sys.executable, __file__, "--serve") as (process, url):

        def address() -> str:
            token = RoomToken(
                public,
                "room",
                f"{random.getrandbits(64):x}",
                int(time.time()) + 3600,
                frozenset((ANNOUNCE,)),
            )
            return f"{url}?token={sign(key, token)}"

        yield Server(process, address)


@asynccontextmanager
async def bittorrent_tracker() -> AsyncIterator[Server]:
    """Run npm's bittorrent-tracker."""
    modules = NPM / "node_modules"
    async with started(NPM / "node", STOCK, modules) as (process, url):
        yield Server(process, lambda: url)


SERVERS = {"pemus": pemus, "bittorrent_tracker": bittorrent_tracker}


async def announced(
    server: Server, case: Case, announces: int, seed: int
) -> tuple[float, float]:
    """Return replies by CPU second of the server, and offers that were delivered by announce."""
    source = random.Random(seed)
    swarms = [binary(source) for _ in range(case.sockets // SWARM)]
    # Once each, so that all are in their swarms; then what is measured.
    warm = Load(case.sockets)
    messages = [
        announce(source, swarms[number % len(swarms)], case.offers)
        for number in range(case.sockets)
    ]
    peers: list[Peer] = []
    slots = asyncio.Semaphore(OPENING)

    async def connect(message: bytes) -> None:
        peer = Peer(warm, message)
        async with slots:
            await ws_connect(lambda: peer, server.url(), websocket_handshake_timeout=60)
        peers.append(peer)

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*map(connect, messages))
        warm.begin()
        await warm.done.wait()
        load = Load(announces)
        for peer in peers:
            peer._load = load  # noqa: SLF001
            load.enter(peer)
        await asyncio.sleep(0.5)
        load.offers = 0
        before = server.cpu_s()
        load.begin()
        await load.done.wait()
        # The last offers are still on their way.
        while True:
            known = load.offers
            await asyncio.sleep(0.2)
            if load.offers == known:
                break
        spent = server.cpu_s() - before
    for peer in peers:
        peer.hang_up()
    return announces / spent, load.offers / announces


async def measure(rounds: int, announces: int) -> dict[str, dict[str, float]]:
    """Return the figures."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    figures: dict[str, dict[str, float]] = {}
    for case in CASES:
        rates: dict[str, list[float]] = {name: [] for name in SERVERS}
        offers: dict[str, list[float]] = {name: [] for name in SERVERS}
        for number in range(rounds):
            for name, start in SERVERS.items():
                async with start() as server:
                    rate, delivered = await announced(server, case, announces, number)
                rates[name].append(rate)
                offers[name].append(delivered)
                print(
                    f"tracker, {case.sockets} sockets, {name}: {rate:.0f} replies by CPU second, {delivered:.2f} offers each",
                    file=sys.stderr,
                )
        figures[f"tracker_responses_per_cpu_s{case.suffix}"] = {
            name: round(statistics.median(found), 1) for name, found in rates.items()
        }
        figures[f"tracker_offers_per_announce{case.suffix}"] = {
            name: round(statistics.median(found), 2) for name, found in offers.items()
        }
    return figures


async def serve() -> None:
    """Run PeMuS's server with limits that one load generator in one place does not reach, until the input ends."""
    from pemus_signaling.server import Server as Program
    from pemus_signaling.settings import Settings

    program = Program(
        Settings(
            host="127.0.0.1",
            port=0,
            retry_after=0,
            messages_per_second=1_000_000,
            sockets_per_address=100_000,
            offers_per_announce=200,
            announce_interval=INTERVAL,
        )
    )
    await program.start()
    print(f"ws://127.0.0.1:{program.port}/announce", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await program.stop()


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--announces", type=int, default=20_000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        uvloop.run(serve())
        return
    figures: dict[str, Any] = uvloop.run(measure(arguments.rounds, arguments.announces))
    text = json.dumps(figures, indent=2)
    if arguments.json is None:
        print(text)
    else:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
