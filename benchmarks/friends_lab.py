"""Three pairs of homes in the network lab, one for each path, and what is measured between them, beside plain peers.

- `lan`: both homes in one network;
- `nat_direct`: each behind a router of its own, with a port-restricted NAT;
- `turn`: each behind a symmetric NAT, so that a TURN server has to relay.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
import hmac
import itertools
import json
from pathlib import Path
import random
import secrets
import shutil
import sys
import time
from typing import Any, Final
from uuid import uuid4

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import av  # noqa: E402
from PIL import Image  # noqa: E402
from swarm import Process, running  # noqa: E402
from swarm_peer import describe  # noqa: E402

from tests.lab.engine_home import EngineHome  # noqa: E402
from tests.lab.netlab import (  # noqa: E402
    Host,
    Internet,
    Lab,
    Namespace,
    Nat,
    Router,
    SignalingServer,
)

HERE: Final = Path(__file__).parent
PYTHON: Final = Path(sys.executable)
LINE: Final = 20_000_000
"""Bits per second of a line that is shaped."""
FRAME: Final = 256 * 1024
"""Bytes that a player reads before it shows something."""
LOOK: Final = 0.01
IDLE_PATIENCE: Final = 300.0
"""Seconds for links that nobody uses to be closed."""
ATTEMPTS: Final = 5
CHANNEL_PATIENCE: Final = 60.0
"""Seconds for a film over a plain channel."""
HASH_PATIENCE: Final = 300.0
SETTLE: Final = 2.0
"""Seconds after which what was begun is over: what runs beside a measurement should be nothing."""
AGE: Final = 3600
"""Seconds since a film's last change: what is new is left to settle first."""
_RATE: Final = 1_000_000
"""Bytes per second of play of a film."""
_PICTURES_PER_SECOND: Final = 4
_TURN_PORT: Final = 3478


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A film, of which every home shares any number of copies."""

    path: Path
    size: int
    digest: str
    torrent: str
    """Its metainfo, in base64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """How a film came."""

    seconds: float
    """From the question to the last byte."""
    rate: float
    """Bytes per second, from the first byte on."""


class Couple:
    """Two homes at the two ends of a path: an owner and a receiver."""

    def __init__(
        self, name: str, path: str, owner: Host, receiver: Host, line: Line, film: Film
    ) -> None:
        """Prepare. The link is to take `path`, and whole films are measured with `film`."""
        self.name = name
        self.path = path
        self.film = film
        self.line = line
        self.owner_host, self.receiver_host = owner, receiver
        self.owner: EngineHome
        self.receiver: EngineHome
        self._items: dict[str, str] = {}

    async def move_in(self, stack: AsyncExitStack, folder: Path, *urls: str) -> None:
        """Start both engines, which find each other at signalling servers, and in their network if it is one."""
        self.owner, self.receiver = [
            await stack.enter_async_context(
                EngineHome(
                    folder / self.name / name,
                    python=PYTHON,
                    name=f"{name} {self.name}",
                    log_level="debug",
                    prefix=host.prefix,
                )
            )
            for name, host in (
                ("Owner", self.owner_host),
                ("Receiver", self.receiver_host),
            )
        ]
        for home in (self.owner, self.receiver):
            home.look = LOOK
            await home.configure(servers=list(urls))
        if self.path == "lan":
            await self.owner.sees(self.receiver, address=self.receiver_host.address)
            await self.receiver.sees(self.owner, address=self.owner_host.address)

    async def open_shop(self, folder: Path) -> None:
        """Share a folder of films, and wait until all are hashed."""
        await self.owner.share(folder, upload_limit=0)
        await self.receiver.configure(swarm={"upload_limit": 0})
        expected = sum(each.stat().st_size for each in folder.iterdir())

        async def hashed() -> bool:
            swarm = (await self.owner.ask("GET", "status"))["swarm"]
            return bool(swarm["hashed"] == expected)

        await self.owner.until(hashed, "that all films are hashed", HASH_PATIENCE)

        async def connected() -> bool:
            for home in (self.owner, self.receiver):
                servers = (await home.peers())["servers"]
                if not all(each["connected"] for each in servers):
                    return False
            return True

        await self.owner.until(connected, "that the signalling server is there")

    async def part(self) -> None:
        """Be friends no longer."""

        async def strangers() -> bool:
            for home in (self.owner, self.receiver):
                peers = await home.peers()
                if peers["friends"] or peers["pairings"]:
                    return False
            return True

        for home in (self.owner, self.receiver):
            await home.configure(friends=[])
        await self.owner.until(strangers, "the end of a friendship")
        self._items = {}

    async def pair(self) -> None:
        """Be friends."""
        await self.receiver.pair(self.owner)

    async def first_frame(self, title: str) -> None:
        """Look for a film, and read as much of it as a player does before it shows something."""
        await self.receiver.play(self.owner, await self._item(title), 0, FRAME)

    async def first_byte(self, title: str) -> float:
        """Return the seconds until a byte of a film may be read, as the range view asks for it."""
        receiver, path = self.receiver, f"items/{self.owner.id}"
        path = f"{path}/{await self._item(title)}"
        reader = uuid4().hex
        start = time.perf_counter()
        file = await receiver.ask("GET", f"{path}/file")
        query = {"reader": reader, "path": file["path"], "start": 0}
        query["stop"] = file["size"]
        await receiver.ask("POST", f"{path}/wait", query)
        took = time.perf_counter() - start
        await receiver.ask("DELETE", f"{path}/readers/{reader}")
        await self._check_path()
        return took

    async def play(self, title: str, film: Film) -> Transfer:
        """Read a copy of a film from its begin to its end. What was read has to be the film."""
        item = await self._item(title)
        first = 0.0, 0

        def count(size: int) -> None:
            nonlocal first
            if not first[1]:
                first = time.perf_counter(), size

        start = time.perf_counter()
        digest = await self.receiver.play(self.owner, item, on_bytes=count)
        now = time.perf_counter()
        if digest != film.digest:
            raise SystemExit(f"{self.name}: what was played is not the film")
        await self._check_path()
        then, received = first
        rate = (film.size - received) / (now - then)
        return Transfer(seconds=now - start, rate=rate)

    async def until_unlinked(self) -> None:
        """Wait until the link is closed, since nobody uses it."""

        async def unlinked() -> bool:
            return (await self.receiver.friend(self.owner))["path"] is None and (
                await self.owner.friend(self.receiver)
            )["path"] is None

        self.receiver.look = 1.0
        await self.receiver.until(unlinked, "the end of a link", IDLE_PATIENCE)
        self.receiver.look = LOOK

    async def _item(self, title: str) -> str:
        """Return the id of a film."""
        if title not in self._items:
            found = await self.receiver.listed(self.owner)
            self._items = {title: item for item, title in found.items()}
        return self._items[title]

    async def _check_path(self) -> None:
        path = (await self.receiver.friend(self.owner))["path"]
        if path != self.path:
            raise SystemExit(f"{self.name}: the link takes the path {path}")


class Line:
    """What all packets between two homes pass."""

    def __init__(self, namespace: Namespace, *devices: str) -> None:
        """Know where: these devices send everything that goes from one to the other, either way."""
        self._namespace = namespace
        self._devices = devices

    @contextmanager
    def shaped(self) -> Iterator[None]:
        """Let no more than `LINE` pass, each way."""
        try:
            for device in self._devices:
                self._namespace.run(
                    *("tc", "qdisc", "replace", "dev", device, "root", "tbf"),
                    *("rate", f"{LINE}bit", "burst", "64kb", "latency", "100ms"),
                )
            yield
        finally:
            for device in self._devices:
                self._namespace.run("tc", "qdisc", "del", "dev", device, "root")


class Town:
    """All couples, the signalling server between them, and plain peers where they live."""

    def __init__(
        self,
        folder: Path,
        server: SignalingServer,
        secret: str,
        couples: Sequence[Couple],
    ) -> None:
        """Know where everything is."""
        self.couples = couples
        self._folder = folder
        self._server = server
        self._secret = secret
        self._host = server.url.removeprefix("http://").partition(":")[0]
        self._count = itertools.count()

    async def plain(self, couple: Couple, film: Film) -> Transfer:
        """Move a film between the hosts of a couple without PeMuS: by libtorrent, or through TURN by aiortc."""
        if couple.path == "relayed":
            found = await self._by_channel(couple, film)
        else:
            found = await self._by_torrent(couple, film)
        return Transfer(seconds=found["seconds"], rate=found["rate"])

    async def _by_torrent(self, couple: Couple, film: Film) -> dict[str, float]:
        folder = self._folder / f"plain-{next(self._count)}"
        folder.mkdir()
        more: dict[str, Any] = {}
        if couple.path != "lan":
            more["tracker"] = f"{self._server.url.replace('http', 'ws', 1)}announce"
            more["stun"] = f"{self._host}:{_TURN_PORT}"
        facts = {"torrent": film.torrent, "size": film.size}
        async with _at(couple, "swarm_peer.py", "plain") as (giving, taking):
            seed = await giving.ask(
                "own",
                address=couple.owner_host.address,
                path=str(film.path),
                **facts,
                **more,
            )
            await taking.ask(
                "receive",
                address=couple.receiver_host.address,
                folder=str(folder),
                **more,
            )
            # Until the seed has announced.
            await asyncio.sleep(SETTLE)
            if couple.path == "lan":
                more |= {"owner": couple.owner_host.address, "port": seed["port"]}
            found = await taking.ask("play", **facts, **more)
        shutil.rmtree(folder)
        return found

    async def _by_channel(self, couple: Couple, film: Film) -> dict[str, float]:
        """Try until it works: the ends of plain aiortc may choose different paths, and then never hear each other."""
        for _ in range(ATTEMPTS):
            with suppress(TimeoutError):
                async with asyncio.timeout(CHANNEL_PATIENCE):
                    return await self._by_one_channel(couple, film)
        raise SystemExit(f"{couple.name}: there is no plain channel")

    async def _by_one_channel(self, couple: Couple, film: Film) -> dict[str, float]:
        servers = self._ice_servers()
        async with _at(couple, "friends_channel.py") as (giving, taking):
            offer = await taking.ask("offer", servers=servers)
            answer = await giving.ask("answer", servers=servers, **offer)
            if not (await taking.ask("connect", **answer))["is_relayed"]:
                raise SystemExit(f"{couple.name}: the plain channel is not relayed")
            await giving.ask("give", path=str(film.path))
            await asyncio.sleep(SETTLE)
            return await taking.ask("take", size=film.size)

    def _ice_servers(self) -> list[dict[str, str]]:
        """Return STUN and TURN servers as a home gets them, with credentials as coturn computes them.

        Without STUN nobody could be relayed to: coturn sends nothing to its own machine, which is where all its relays are.
        """
        place = f"{self._host}:{_TURN_PORT}"
        name = f"{int(time.time()) + 3600}:plain"
        password = hmac.digest(self._secret.encode(), name.encode(), "sha1")
        relay = {
            "urls": f"turn:{place}?transport=udp",
            "username": name,
            "credential": b64encode(password).decode(),
        }
        return [{"urls": f"stun:{place}"}, relay]


@asynccontextmanager
async def _at(couple: Couple, *command: str) -> AsyncIterator[tuple[Process, Process]]:
    """Run a program on the hosts of an owner and of a receiver."""
    program, *arguments = command
    async with AsyncExitStack() as stack:
        ends = [
            await stack.enter_async_context(
                running(*host.prefix, PYTHON, HERE / program, *arguments)
            )
            for host in (couple.owner_host, couple.receiver_host)
        ]
        yield ends[0], ends[1]


@asynccontextmanager
async def town(
    folder: Path, shop: Path, film: Film, relayed: Film
) -> AsyncIterator[Town]:
    """Build the lab, and let everybody move in, whose owners share a folder; nobody is friends yet.

    Whole films are measured with `film`, and with `relayed` where they have to be relayed. Raises LabError.
    """
    with Lab() as lab:
        internet = Internet(lab)
        secret = secrets.token_hex(16)
        server = SignalingServer(
            *(lab, internet, folder),
            *("--open-tracker", "--turn-secret", secret),
        )
        server.start()
        near = Router(lab, internet)
        owner, receiver = near.host(), near.host()
        couples = [
            Couple("lan", "lan", owner, receiver, _line_within(near), film),
            _apart(lab, internet, "nat_direct", "direct", film),
            _apart(lab, internet, "turn", "relayed", relayed),
        ]
        async with AsyncExitStack() as stack:
            for couple in couples:
                await couple.move_in(stack, folder, server.url)
            for couple in couples:
                await couple.open_shop(shop)
            yield Town(folder, server, secret, couples)


def _apart(lab: Lab, internet: Internet, name: str, path: str, film: Film) -> Couple:
    """Return homes that are behind a router each."""
    nat = Nat.SYMMETRIC if path == "relayed" else Nat.PORT_RESTRICTED
    routers = Router(lab, internet, nat), Router(lab, internet, nat)
    line = Line(routers[0].namespace, "lan", "wan")
    return Couple(name, path, routers[0].host(), routers[1].host(), line, film)


def _line_within(router: Router) -> Line:
    """Return what is between the hosts of one network: the ports of their switch."""
    said = router.namespace.ip("-j", "link", "show", "master", "lan")
    return Line(router.namespace, *(port["ifname"] for port in json.loads(said)))


def make_film(path: Path, size: int) -> Film:
    """Write a film of about so many bytes: of noise, with its index first, and 8 Mbit/s."""
    numbers = random.Random(size)
    written = 0
    with av.open(
        str(path), "w", format="mp4", options={"movflags": "faststart"}
    ) as container:
        stream = container.add_stream("mjpeg", rate=_PICTURES_PER_SECOND)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuvj420p"
        stream.options = {"qmin": "1", "q": "1"}
        stream.bit_rate = _RATE * 8
        while written < size:
            noise = numbers.randbytes(640 * 360 * 3)
            picture = Image.frombytes("RGB", (640, 360), noise)
            frame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]
            for packet in stream.encode(frame):
                written += packet.size
                container.mux(packet)
        container.mux(stream.encode(None))
    digest = sha256(path.read_bytes()).hexdigest()
    return Film(
        path=path, size=path.stat().st_size, digest=digest, torrent=describe(path)
    )
