"""An owner's home for tests: real files, a real session, and a session of somebody who fetches."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
import os
from pathlib import Path

from p2p.core import paths
from p2p.core.errors import EngineError, NotFound, Unavailable
from p2p.models import Counts, Item, Kind, LocalFile, ShareStatus
from p2p.torrent.file_lookup import BATCH, Many
from p2p.torrent.hashing import Hasher
from p2p.torrent.metainfo import Metainfo
from p2p.torrent.priority import Priority
from p2p.torrent.seeds import Seeds
from p2p.torrent.session import Session, SessionSettings, Torrent
from p2p.torrent.store import SwarmStore
from tests.patience import until

LONG_AGO = 1_600_000_000
LOCAL = SessionSettings(addresses=("127.0.0.1",), lan_exempt=False)


def item_id(name: str) -> str:
    """Return an id that goes with a name of a test."""
    return name.ljust(26, "z")


ANN, BOB, FILM = "A" * 28, "B" * 28, item_id("film")


class Quiet:
    """A listener that remembers how often it was called."""

    def __init__(self) -> None:
        self.finished: list[int] = []
        self.connected = 0
        self.lost = 0
        self.faults: list[str] = []

    def piece_finished(self, index: int) -> None:
        self.finished.append(index)

    def peer_connected(self) -> None:
        self.connected += 1

    def peer_lost(self) -> None:
        self.lost += 1

    def failed(self, message: str) -> None:
        self.faults.append(message)


class Folder:
    """A shared folder, as the library shows it to the swarm."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.root.mkdir()
        self.names: dict[str, str] = {}
        self.hanging = False
        self.waiting = 0
        """How many wait for a disk that hangs."""
        self.share = "share"
        """In which everything lies."""

    def put(
        self, item: str, name: str, size: int = 3_000_000, at: float = LONG_AGO
    ) -> Path:
        """Write a file of random bytes that has settled, as a new one under its name."""
        path = self.root / name
        fresh = self.root / f".{name}.new"
        fresh.write_bytes(os.urandom(size))
        os.utime(fresh, (at, at))
        fresh.rename(path)
        self.names[item] = name
        return path

    def path(self, item: str) -> Path:
        return self.root / self.names[item]

    async def file(self, item: str) -> LocalFile:
        """Return an item's file as it is now."""
        if self.hanging:
            self.waiting += 1
            await asyncio.Event().wait()
        if item not in self.names:
            raise NotFound("there is no such item")
        if not self.root.exists():
            raise Unavailable("the shared folder is not available at present")
        path = self.path(item)
        folder, _, name = self.names[item].rpartition("/")
        root = str(self.root)
        try:
            with paths.opened_root(root) as opened:
                found = paths.stat_file(opened, folder, name)
        except OSError:
            raise NotFound("the file is no longer there") from None
        return LocalFile.of(str(path), path.name, "video/mp4", found, root=root)

    @property
    def shares(self) -> tuple[ShareStatus, ...]:
        return (
            ShareStatus(id=self.share, available=True, scanning=False, counts=Counts()),
        )

    async def shares_of(self, items: Collection[str]) -> dict[str, str]:
        """Return where those of the items lie that there are."""
        return {item: self.share for item in items if item in self.names}

    async def item(self, item: str) -> Item:
        file = await self.file(item)
        return Item(
            id=item,
            share=self.share,
            kind=Kind.VIDEO,
            name=file.name,
            title=file.name,
            folder="",
            content_type=file.content_type,
            size=file.size,
            modified=file.mtime_ns / 1e9,
            added=0.0,
            available=True,
            etag=file.etag,
            duration=60.0,
        )


def one_by_one(file: Callable[[str], Awaitable[LocalFile]]) -> Many:
    """Return how to ask for many files where one can only ask for single ones."""

    async def many(items: Sequence[str]) -> Mapping[str, LocalFile | EngineError]:
        answers: dict[str, LocalFile | EngineError] = {}
        for item in items:
            try:
                answers[item] = await file(item)
            except EngineError as err:
                answers[item] = err
        return answers

    return many


class Owner:
    """The owner's side."""

    def __init__(
        self, folder: Folder, store: SwarmStore, session: Session, *, batches: bool
    ) -> None:
        self.folder = folder
        self.store = store
        self.session = session
        self.hasher = Hasher(store)
        self.seeded: list[tuple[str, str, Torrent]] = []
        self.seeds = Seeds(
            session,
            self.hasher,
            one_by_one(folder.file),
            batch=BATCH if batches else 1,
            on_seed=lambda *seed: self.seeded.append(seed),
        )

    async def meta(self, receiver: str = ANN, item: str = FILM) -> Metainfo:
        """Return what is served, as soon as it is served."""
        await until(lambda: self.seeds.served(receiver, item))
        served = self.seeds.served(receiver, item)
        assert served is not None
        return served.meta


@asynccontextmanager
async def owning(tmp_path: Path, *, batches: bool = False) -> AsyncIterator[Owner]:
    """Run an owner's side with a folder of its own, which is asked for many files at once if it takes `batches`."""
    (tmp_path / "data").mkdir(exist_ok=True)
    store = SwarmStore(tmp_path / "data" / "swarm.db")
    store.open()
    session = await Session.open(LOCAL)
    owner = Owner(Folder(tmp_path / "share"), store, session, batches=batches)
    try:
        owner.seeds.start()
        yield owner
    finally:
        await owner.seeds.stop()
        await owner.hasher.stop()
        await session.close()
        store.close()
    left = [task.get_name() for task in asyncio.all_tasks()]
    assert not [name for name in left if name.startswith(("seed", "hash"))]


class Fetcher:
    """Somebody who fetches."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session = session
        self._folder = folder
        self.torrents: list[Torrent] = []

    async def begin(self, meta: Metainfo, port: int) -> tuple[Torrent, Path, Quiet]:
        """Begin to fetch everything from a peer on this machine."""
        path = self._folder / f"fetched{len(self.torrents)}"
        path.touch()
        os.truncate(path, meta.size)
        listener = Quiet()
        torrent = await self.session.fetch(meta, path, "fetched", listener)
        torrent.want(dict.fromkeys(range(meta.piece_count), Priority.LATER))
        torrent.connect("127.0.0.1", port)
        self.torrents.append(torrent)
        return torrent, path, listener

    async def fetch(self, meta: Metainfo, port: int) -> bytes:
        """Return all that a torrent is about."""
        torrent, path, listener = await self.begin(meta, port)
        await until(lambda: len(set(listener.finished)) == meta.piece_count, 60)
        await torrent.remove()
        return path.read_bytes()

    async def whatever(self, meta: Metainfo, port: int, seconds: float = 3) -> bytes:
        """Return what somebody gets who knows the info-hash, right or wrong, once it is complete or something failed."""
        torrent, path, listener = await self.begin(meta, port)
        with suppress(TimeoutError):
            await until(
                lambda: (
                    len(set(listener.finished)) == meta.piece_count or listener.lost
                ),
                seconds,
            )
        await torrent.remove()
        return path.read_bytes()


@asynccontextmanager
async def fetching(tmp_path: Path) -> AsyncIterator[Fetcher]:
    """Run a session of somebody else."""
    folder = tmp_path / "elsewhere"
    folder.mkdir(exist_ok=True)
    session = await Session.open(LOCAL)
    try:
        yield Fetcher(session, folder)
    finally:
        await session.close()
