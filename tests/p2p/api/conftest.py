"""A served API with a small home behind it, and clients that speak to its socket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
import tempfile

import aiohttp
import pytest

from p2p.api import ApiServer
from p2p.core.errors import DiskFull, Gone, NoPicture, NotFound, Replaced, Unavailable
from p2p.core.news import News
from p2p.models import (
    API_VERSION,
    Counts,
    EngineConfig,
    Item,
    Kind,
    Listing,
    LocalFile,
    Node,
    NodeKind,
    ScanState,
    SearchQuery,
    SearchResult,
    Status,
    WaitQuery,
)
from p2p.models.transfers import TransferState, TransferStatus

ITEM_ID = "a" * 26
OWNER = "H" * 28
ITEM = Item(
    id=ITEM_ID,
    share="home",
    kind=Kind.VIDEO,
    name="Ärger #1 50%.mp4",
    title="Ärger",
    folder="",
    content_type="video/mp4",
    size=1,
    modified=1.0,
    added=1.0,
    available=True,
    etag='"1"',
)
FILE = LocalFile(
    path="/films/a.mp4",
    name="a.mp4",
    content_type="video/mp4",
    size=1,
    mtime_ns=2,
    inode=3,
    device=4,
    etag='"1"',
)


class SmallHome:
    """A home of one item, with one friend who has one, too. It stands in for all components; what a request does can be replaced."""

    def __init__(self) -> None:
        self.components = self.library = self.downloads = self.active_swarm = self
        self.friends = self.active_friends = SmallFriends(self)
        self.news = News()
        self.config: EngineConfig | None = None
        self.rescanned: list[str | None] = []
        self.asked: list[tuple[object, ...]] = []
        self.revision = 0
        self.statuses = 0
        """How often the state was put together."""
        self.on_item: Callable[[], Awaitable[object]] | None = None

    def status(self) -> Status:
        self.statuses += 1
        return Status(
            api_version=API_VERSION,
            version="0",
            pid=1,
            started=0.0,
            rss=0,
            scan_state=ScanState.IDLE,
            progress=None,
            revision=self.revision,
            counts=Counts(),
            shares=(),
            problems=(),
            capabilities={"av": None},
        )

    async def configure(self, config: EngineConfig) -> None:
        self.config = config

    def rescan(self, share: str | None) -> None:
        if share == "none":
            raise NotFound("there is no such share")
        self.rescanned.append(share)

    def streaming(self) -> None:
        self.asked.append(("streaming",))

    async def item(self, item_id: str) -> Item:
        if self.on_item is not None:
            await self.on_item()
        if item_id != ITEM_ID:
            raise NotFound("there is no such item")
        return ITEM

    async def file(self, *ids: str) -> LocalFile:
        """Return the file of an item, or of a friend's by its owner and its id."""
        if len(ids) == 1:
            raise Unavailable("the disk is unplugged")
        return replace(FILE, arriving=True)

    async def thumbnail(self, item_id: str) -> LocalFile:
        raise NoPicture("there is no picture")

    async def subtitles(self, item_id: str, index: int) -> LocalFile:
        self.asked.append((item_id, index))
        return FILE

    async def wait(
        self,
        owner: str,
        item_id: str,
        reader: str,
        start: int,
        stop: int,
        *,
        path: str | None,
    ) -> int:
        query = WaitQuery(reader=reader, start=start, stop=stop, path=path)
        self.asked.append((owner, item_id, query))
        if start == 1:
            raise DiskFull("there is no room")
        if start == 2:
            raise Gone("it was taken back")
        if start == 3:
            raise Replaced("it was evicted")
        return stop

    def release(self, owner: str, item_id: str, reader: str) -> None:
        self.asked.append((owner, item_id, reader))

    async def pin(self, owner: str, item_id: str) -> TransferStatus:
        return self._pin(owner, item_id, pinned=True)

    async def unpin(self, owner: str, item_id: str) -> TransferStatus:
        return self._pin(owner, item_id, pinned=False)

    def _pin(self, owner: str, item_id: str, *, pinned: bool) -> TransferStatus:
        self.asked.append(("pin", owner, item_id, pinned))
        return TransferStatus(
            owner=owner,
            owner_name="Bob",
            item=item_id,
            title="Film",
            kind=Kind.VIDEO,
            size=1,
            done=0,
            pinned=pinned,
            state=TransferState.WAITING,
        )

    async def browse(self, node: str) -> Listing:
        self.asked.append((node,))
        root = Node(id=node, kind=NodeKind.ROOT)
        return Listing(node=root, parents=(), children=(), revision=self.revision)

    async def search(self, query: SearchQuery) -> SearchResult:
        self.asked.append((query,))
        return SearchResult(items=(ITEM,), nodes=())


class SmallFriends:
    """One friend, whose library is a folder with one item."""

    def __init__(self, home: SmallHome) -> None:
        self.bob = SmallFriend(home)
        self.all = (self.bob,)

    def friend(self, owner: str) -> SmallFriend:
        if owner != OWNER:
            raise NotFound("there is no such home")
        return self.bob


class SmallFriend:
    """The friend, and what belongs to its item."""

    id = OWNER
    name = "Bob"
    is_online = False

    def __init__(self, home: SmallHome) -> None:
        self._home = home
        self.items = self.list = self.library = self
        self.count = 7

    async def item(self, item_id: str, online: bool) -> Item:
        self._home.asked.append((OWNER, item_id))
        return await self._home.item(item_id)

    async def prepare(self, item_id: str) -> None:
        self._home.asked.append(("prepare", OWNER, item_id))

    async def browse(self, node: str, online: bool) -> Listing:
        root = Node(id="", kind=NodeKind.ROOT)
        folder = Node(id="all/video/folders", kind=NodeKind.FOLDERS)
        item = Node(id=f"item/{ITEM_ID}", kind=NodeKind.ITEM)
        for place, parents, children in (
            (root, (), (folder,)),
            (folder, (root,), (item,)),
            (item, (root, folder), ()),
        ):
            if place.id == node:
                return Listing(
                    node=place, parents=parents, children=children, revision=1
                )
        raise NotFound("there is no such place")

    async def search(self, query: SearchQuery, online: bool) -> SearchResult:
        self._home.asked.append((OWNER, query))
        album = Node(id="all/music/albums/x", kind=NodeKind.ALBUM)
        return SearchResult(items=(ITEM,), nodes=(album,))


@pytest.fixture
def home() -> SmallHome:
    return SmallHome()


@pytest.fixture
async def socket_path() -> AsyncGenerator[Path]:
    # Not pytest's own folder: its path may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="pemus-") as folder:
        yield Path(folder, "engine.sock")


@pytest.fixture
async def server(home: SmallHome, socket_path: Path) -> AsyncGenerator[ApiServer]:
    served = ApiServer(home, socket_path)
    await served.start()
    yield served
    await served.stop()


@pytest.fixture
async def session(
    server: ApiServer, socket_path: Path
) -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        base_url="http://engine/v1/",
        connector=aiohttp.UnixConnector(str(socket_path)),
        timeout=aiohttp.ClientTimeout(total=10),
    ) as client:
        yield client
