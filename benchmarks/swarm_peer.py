"""One end of a transfer, in a process of its own: PeMuS's session, or plain libtorrent with the same encryption and disk.

    python swarm_peer.py ROLE

Runs in the engine's environment for `swarm.py`, which sends one JSON object per line and gets one for each. `own`
begins to seed, `receive` to be ready, `play` fetches a file from its begin to its end as a player would, `first` waits
for one byte here and there, `many` seeds lots of small files, `usage` tells what all that has cost. The process ends
with its input.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode, b64encode
from contextlib import suppress
from hashlib import sha1
import json
import os
from pathlib import Path
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import libtorrent as lt  # type: ignore[import-not-found,unused-ignore]

ROOT = Path(__file__).parent.parent

if TYPE_CHECKING:
    from custom_components.pemus.p2p.access.ticket import ItemFacts, Ticket
    from custom_components.pemus.p2p.core.descriptors import raise_limit
    from custom_components.pemus.p2p.home import resident_memory
    from custom_components.pemus.p2p.models import Kind
    from custom_components.pemus.p2p.torrent import metainfo
    from custom_components.pemus.p2p.torrent.session import Session, SessionSettings
    from custom_components.pemus.p2p.torrent.signaling_relay import SignalingRelays
    from custom_components.pemus.p2p.torrent.tracker import LoopbackTracker
    from custom_components.pemus.p2p.transfers.cache import Cache, CacheSettings
    from custom_components.pemus.p2p.transfers.downloads import Downloads
else:
    sys.path.insert(0, str(ROOT / ".venvs" / "engine-path"))

    from p2p.access.ticket import ItemFacts, Ticket
    from p2p.core.descriptors import raise_limit
    from p2p.home import resident_memory
    from p2p.models import Kind
    from p2p.torrent import metainfo
    from p2p.torrent.session import Session, SessionSettings
    from p2p.torrent.signaling_relay import SignalingRelays
    from p2p.torrent.tracker import LoopbackTracker
    from p2p.transfers.cache import Cache, CacheSettings
    from p2p.transfers.downloads import Downloads

OWNER, RECEIVER, ITEM = "0" * 28, "R" * 28, "i" * 26
"""Two PeMuS IDs, and the id of an item."""
HOST = "127.0.0.1"
LIMIT = 10_000_000
"""Bytes per second of what is called limited."""
PATIENCE = 600.0
_FRAME = 4
"""Bytes in front of each message of the channel: its length."""


class Silent:
    """A listener that wants to know nothing."""

    def piece_finished(self, index: int) -> None:
        """Do nothing."""

    def peer_connected(self) -> None:
        """Do nothing."""

    def peer_lost(self) -> None:
        """Do nothing."""

    def failed(self, message: str) -> None:
        """End: nothing can be measured any more."""
        raise SystemExit(message)


class Peer:
    """What the roles have in common: the channel to the other process."""

    def __init__(self) -> None:
        """Prepare nothing yet."""
        self.channels: SignalingRelays | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    async def meet(self, pipe: str, home: str, *, listen: bool) -> None:
        """Start a tracker whose offers and answers go to the other process through a socket."""
        tracker = LoopbackTracker()
        await tracker.start()
        self.channels = channels = SignalingRelays(tracker)

        async def connected(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            async def send(message: bytes) -> None:
                writer.write(len(message).to_bytes(_FRAME) + message)
                await writer.drain()

            channel = await channels.open(home, send)
            # Until the other process ends.
            with suppress(asyncio.IncompleteReadError, OSError):
                while size := int.from_bytes(await reader.readexactly(_FRAME)):
                    channel.receive(await reader.readexactly(size))

        if listen:
            await asyncio.start_unix_server(connected, pipe)
        else:
            ends = await asyncio.open_unix_connection(pipe)
            self.tasks.add(asyncio.create_task(connected(*ends)))


class PemusOwner(Peer):
    """Seeds with the engine's session."""

    async def own(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Seed a file."""
        self.session = await Session.open(
            SessionSettings(
                addresses=(HOST,),
                upload_limit=ask.get("limit", 0),
                lan_exempt=False,
            )
        )
        meta = metainfo.read(b64decode(ask["torrent"]), ask["size"])
        opened = os.open(ask["path"], os.O_RDONLY)
        torrent = await self.session.seed(meta, opened, "film", Silent())
        if ask.get("pipe"):
            await self.meet(ask["pipe"], RECEIVER, listen=True)
            assert self.channels is not None
            self.channels.seeded(RECEIVER, ITEM, torrent)
        return {"port": self.session.port}

    async def many(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Seed lots of small files, and look at what they cost while nothing happens."""
        raise_limit()
        files = sorted(Path(ask["folder"]).iterdir())
        self.session = await Session.open(SessionSettings(addresses=(HOST,)))
        described = []
        for path in files:
            content = path.read_bytes()
            described.append(
                metainfo.make(len(content), sha1(content).digest(), os.urandom(16))
            )
        start = time.perf_counter()
        seeds = await asyncio.gather(
            *(
                self.session.seed(meta, os.open(path, os.O_RDONLY), path.name, Silent())
                for meta, path in zip(described, files, strict=True)
            )
        )
        ready = time.perf_counter() - start
        await asyncio.sleep(ask["settle"])
        used, start = time.process_time(), time.perf_counter()
        await asyncio.sleep(ask["idle"])
        share = (time.process_time() - used) / (time.perf_counter() - start)
        assert len(seeds) == len(files)
        return {
            "engine_rss_mb": resident_memory() / 2**20,
            "ready_s": ready,
            "idle_cpu_pct": share * 100,
        }


class PemusReceiver(Peer):
    """Fetches as the engine does for a player."""

    async def receive(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Start all that a receiver has running before it gets a ticket."""
        self.session = await Session.open(SessionSettings(addresses=(HOST,)))
        if ask.get("pipe"):
            await self.meet(ask["pipe"], OWNER, listen=False)
        self.downloads = Downloads(
            self.session,
            Cache(Path(ask["folder"])),
            CacheSettings(quota=2**40, reserve=0),
            introducer=self.channels,
        )
        await self.downloads.start()
        return {}

    async def _accept(self, ask: dict[str, Any]) -> None:
        port = ask.get("port")
        await self.downloads.accept(
            Ticket(
                owner=OWNER,
                owner_name="Owner",
                receiver=RECEIVER,
                item=ItemFacts(
                    id=ITEM,
                    kind=Kind.VIDEO,
                    name="film.mp4",
                    title="Film",
                    content_type="video/mp4",
                    size=ask["size"],
                    etag='"1"',
                    modified=1.6e9,
                    bit_rate=80_000_000,
                ),
                torrent=ask["torrent"],
                endpoints=(f"{HOST}:{port}",) if port else (),
                expires=time.time() + 3600,
            )
        )

    async def first(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Return the seconds from the ticket to the first byte, and then to one far away."""
        start = time.perf_counter()
        await self._accept(ask)
        await self.downloads.wait(OWNER, ITEM, "player", 0, 1, PATIENCE)
        first = time.perf_counter() - start
        # A player shows something before somebody seeks.
        await asyncio.sleep(1)
        place = ask["size"] * 4 // 5
        start = time.perf_counter()
        await self.downloads.wait(OWNER, ITEM, "player", place, place + 1, PATIENCE)
        return {"offset0": first, "seek80": time.perf_counter() - start}

    async def play(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Return the seconds from the ticket to the last byte."""
        start = time.perf_counter()
        await self._accept(ask)
        at, size = 0, ask["size"]
        while at < size:
            # As the range view does for a player that asks for all from here on.
            at = await self.downloads.wait(OWNER, ITEM, "player", at, size, PATIENCE)
        return {"seconds": time.perf_counter() - start}


class Plain:
    """libtorrent as it comes, but for encryption and disk, and for what WebRTC through a local tracker needs."""

    encrypted = True

    def __init__(self) -> None:
        """Prepare nothing yet."""
        self.handle: lt.torrent_handle | None = None

    def _start(self, ask: dict[str, Any]) -> None:
        """Start a session: on loopback, unless it is told of an address, and of a STUN server."""
        parameters = lt.session_params()
        parameters.disk_io_constructor = "posix_disk_io_constructor"
        parameters.settings = {
            "listen_interfaces": f"{ask.get('address', HOST)}:0",
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": False,
            "enable_natpmp": False,
            "enable_outgoing_utp": False,
            "enable_incoming_utp": False,
            "in_enc_policy": 0,
            "out_enc_policy": 0,
            "allowed_enc_level": 2,
            "prefer_rc4": True,
            "allow_multiple_connections_per_ip": True,
            "webtorrent_stun_server": ask.get("stun", ""),
            "ssrf_mitigation": False,
        }
        if not self.encrypted:
            parameters.settings |= {"in_enc_policy": 2, "out_enc_policy": 2}
        self.session = lt.session(parameters)

    def _add(self, ask: dict[str, Any], folder: str, name: str, *, seed: bool) -> None:
        parameters = lt.add_torrent_params()
        parameters.ti = lt.torrent_info(b64decode(ask["torrent"]))
        parameters.save_path = folder
        parameters.renamed_files = {0: name}
        flags = lt.torrent_flags
        parameters.flags = flags.seed_mode if seed else flags.sequential_download
        if ask.get("tracker"):
            parameters.trackers = [ask["tracker"]]
        self.handle = self.session.add_torrent(parameters)

    async def own(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Seed a file."""
        self._start(ask)
        path = Path(ask["path"])
        self._add(ask, str(path.parent), path.name, seed=True)
        while not (port := self.session.listen_port()):
            await asyncio.sleep(0.05)
        return {"port": port}

    async def receive(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Start a session."""
        self._start(ask)
        self.folder = ask["folder"]
        return {}

    async def play(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Return the seconds from the torrent to the last byte, and the bytes per second from the first one on."""
        start = time.perf_counter()
        self._add(ask, self.folder, "film", seed=False)
        assert self.handle is not None
        if not ask.get("tracker"):
            self.handle.connect_peer((ask.get("owner", HOST), ask["port"]))
        first = 0.0, 0
        while not (status := self.handle.status()).is_seeding:
            if not first[1] and status.total_wanted_done:
                first = time.perf_counter(), status.total_wanted_done
            await asyncio.sleep(0.01)
        now = time.perf_counter()
        then, received = first
        return {
            "seconds": now - start,
            "rate": (ask["size"] - received) / (now - then) if received else 0.0,
        }


class Clear(Plain):
    """The same without encryption."""

    encrypted = False


ROLES = {
    "owner": PemusOwner,
    "receiver": PemusReceiver,
    "plain": Plain,
    "clear": Clear,
}


def usage() -> dict[str, float]:
    """Return what this process has used."""
    return {
        "cpu_s": time.process_time(),
        "rss_mb": peak_memory_kib() / 1024,
    }


def peak_memory_kib() -> int:
    """Return the most memory that this process had resident, in KiB.

    getrusage(2) would answer with that of the process that started this one, if that was more.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0])


async def serve(peer: object) -> None:
    """Have a peer do what is asked for, line after line."""
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        # In the end, everything at once: a session takes its time to say good-bye.
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        ask = json.loads(await lines.get())
        if ask["do"] == "usage":
            answer = usage()
        else:
            answer = await getattr(peer, ask["do"])(ask)
        print(json.dumps(answer), flush=True)


async def _main(role: str) -> None:
    await serve(ROLES[role]())


def describe(path: Path) -> str:
    """Return the metainfo of a file, in base64."""
    size = path.stat().st_size
    length = metainfo.piece_length_for(size)
    pieces = []
    with path.open("rb") as file:
        while piece := file.read(length):
            pieces.append(sha1(piece).digest())
    made = metainfo.make(size, b"".join(pieces), os.urandom(16))
    return b64encode(made.encode()).decode()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
