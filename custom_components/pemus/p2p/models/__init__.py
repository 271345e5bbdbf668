"""What crosses the boundary between the engine and Home Assistant.

Every request and answer of the engine's API is one of these frozen dataclasses in JSON. The engine makes them, the
integration reads them, and `codec` checks them once where they arrive. Sizes are bytes, times are seconds since the
Unix epoch, durations are seconds, unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
import os
from typing import Literal

from .homes import FriendConfig, PeersStatus
from .items import ItemRef

API_VERSION = 1
"""Raised whenever a change here would be misread by the other side; both sides compare it when they connect."""


class Kind(StrEnum):
    """The three kinds of media that are shared."""

    VIDEO = "video"
    MUSIC = "music"
    PHOTO = "photo"


class ScanState(StrEnum):
    """What the library is doing."""

    IDLE = "idle"
    SCANNING = "scanning"
    """Walking the folders: names, sizes and times."""
    READING = "reading"
    """Reading tags, dimensions and pictures out of new and changed files."""


class ProblemKey(StrEnum):
    """A lasting fault that the user can do something about; each has a repair issue of the same name."""

    INOTIFY_LIMIT = "inotify_limit"
    """The system's limit of watched folders is reached. Placeholders: `setting`, `limit`."""
    SHARE_UNAVAILABLE = "share_unavailable"
    """A share's root vanished, or cannot be read. Placeholders: `name`, `path`."""
    DISK_FULL = "disk_full"
    """The index or the thumbnails cannot be written. Placeholders: `path`."""
    CACHE_FULL = "cache_full"
    """There is no room for what is fetched from other homes. Placeholders: `path`."""
    IDENTITY_LOST = "identity_lost"
    """This home's key is missing or no use, and only the user knows what to do. Placeholders: `path`, `error`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareConfig:
    """A shared folder as the user configured it."""

    id: str
    """Opaque and stable for as long as the share exists."""
    path: str
    """Absolute path of the root folder."""
    name: str
    kinds: tuple[Kind, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmConfig:
    """How much the swarm may take of the connection and of the disk."""

    upload_limit: int = 2_000_000
    """Bytes per second for all receivers together; 0 for none. A home's uplink is easily flooded."""
    download_limit: int = 0
    """Bytes per second; 0 for none."""
    lan_exempt: bool = True
    """Whether the limits leave homes in the same local network alone."""
    connections: int = 200
    active_seeds: int = 500
    """Files that are served at the same time."""
    port: int = 0
    """TCP port for other homes; 0 lets the system choose."""
    port_mapping: bool = False
    """Whether to ask the router to let other homes in (UPnP, NAT-PMP)."""
    cache_quota: int = 20 * 1000**3
    """Bytes that files of other homes may take on the disk."""
    cache_reserve: int = 2 * 1000**3
    """Bytes of the disk that are left free, whatever the quota."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The whole configuration. The engine applies the differences to what it runs with."""

    home_name: str
    shares: tuple[ShareConfig, ...] = ()
    rescan_interval: int = 3600
    """Seconds between two full rescans, which find what a silent watcher missed."""
    swarm: SwarmConfig = SwarmConfig()
    friends: tuple[FriendConfig, ...] = ()
    servers: tuple[str, ...] = ()
    """URLs of signalling servers (`https://host/path`), this project's or any PeerServer."""
    lan_visible: bool = True
    """Whether homes in the local network may find this one, and it finds them. Otherwise it opens no port for them."""

    def shares_of(self, home: str) -> tuple[str, ...] | None:
        """Return the ids of the shares that a friend may see, None for a home that is no friend."""
        for friend in self.friends:
            if friend.id == home:
                return friend.shares
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many items there are of each kind, and how large they are together."""

    video: int = 0
    music: int = 0
    photo: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareStatus:
    """The state of one share."""

    id: str
    available: bool
    scanning: bool
    counts: Counts
    last_scan: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A lasting fault. One is gone when it is no longer listed in the status."""

    key: ProblemKey
    share: str | None = None
    placeholders: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmStatus:
    """What the swarm does."""

    port: int
    """TCP port that other homes connect to; 0 if there is none."""
    upload_rate: float
    """Bytes of files per second."""
    download_rate: float
    uploaded: int
    """Bytes since the engine began, by torrents and over links: it starts at 0 again with the engine."""
    downloaded: int
    peers: int
    active_seeds: int
    hashed: int
    """Bytes of shared files that can be served at once, because their hashes are known."""
    hashable: int
    """Bytes of all shared files."""
    cache_used: int
    cache_quota: int
    transfers: int
    """Remote files that are being fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of the engine."""

    api_version: int
    version: str
    """The release of PeMuS that the engine's code belongs to."""
    pid: int
    started: float
    rss: int
    """Resident memory of the engine process."""
    scan_state: ScanState
    progress: float | None
    """Share of the present scan or reading that is done, 0 to 100; None while idle or when not yet known."""
    revision: int
    """Grows with every change of the library: a listing with the same revision is still right."""
    counts: Counts
    shares: tuple[ShareStatus, ...]
    problems: tuple[Problem, ...]
    capabilities: dict[str, str | None]
    """Version of each optional library (`libtorrent`, `av`, `mutagen`, `PIL`, `pillow_heif`, `asyncinotify`, `pysubs2`), None when missing."""
    swarm: SwarmStatus | None = None
    """None where libtorrent is missing or does not run."""
    peers: PeersStatus | None = None
    """None while this home has no identity."""
    serial: int = 0
    """Of two that one engine told, the higher one is newer: what it tells by itself may arrive after a later answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtitle:
    """A subtitle file beside a video."""

    index: int
    name: str
    language: str | None = None
    """BCP 47 tag taken from the file's name, if it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A media file of the library. What is not known is None."""

    id: str
    """26 characters a-z, 2-7: random, kept for as long as the file lives, wherever it moves inside its share."""
    owner: str | None = None
    """PeMuS ID of the friend that owns it, None for this home."""
    share: str
    kind: Kind
    name: str
    """File name with its extension. For showing only: paths never come from outside."""
    title: str
    """The tagged title, or the file name without its extension."""
    folder: str
    """Path of the folder inside the share, "/" between names, "" for the root."""
    content_type: str
    size: int
    modified: float
    added: float
    available: bool
    etag: str
    """Strong entity tag with its quotes (RFC 9110 section 8.8.3)."""
    duration: float | None = None
    width: int | None = None
    height: int | None = None
    """Dimensions as shown, that is after the orientation was applied."""
    video_codec: str | None = None
    audio_codec: str | None = None
    bit_rate: int | None = None
    """Bits per second."""
    artist: str | None = None
    album: str | None = None
    album_artist: str | None = None
    genre: str | None = None
    track: int | None = None
    disc: int | None = None
    year: int | None = None
    taken: str | None = None
    """When a photo was taken: local time as ISO 8601 without a zone (`2024-07-14T18:03:22`)."""
    has_thumbnail: bool = False
    """Whether a picture is known or likely; asking for it may still answer that there is none."""
    subtitles: tuple[Subtitle, ...] = ()
    fault: str | None = None
    """Why the file could not be read in full, in plain English; None for a healthy file."""

    @property
    def ref(self) -> ItemRef:
        """What names the item."""
        return ItemRef(self.owner, self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A file on disk that the range view may send, and how to know that it is still the same one."""

    path: str
    name: str
    """The name a download should have."""
    content_type: str
    size: int
    mtime_ns: int
    inode: int
    device: int
    etag: str
    arriving: bool = False
    """Whether the file is fetched from another home: only what was waited for may be read. The times of the file on disk
    say nothing then, and `mtime_ns` is that of the owner's."""
    root: str = ""
    """Real path of the share's root: below it no link is followed. Empty for a file in the engine's own folders."""

    @classmethod
    def of(
        cls,
        path: str,
        name: str,
        content_type: str,
        stat: os.stat_result,
        *,
        root: str = "",
    ) -> LocalFile:
        """Describe the file that `stat` was taken of."""
        return cls(
            path=path,
            name=name,
            content_type=content_type,
            size=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            inode=stat.st_ino,
            device=stat.st_dev,
            etag=entity_tag(stat.st_size, stat.st_mtime_ns, stat.st_ino),
            root=root,
        )

    def is_still(self, stat: os.stat_result) -> bool:
        """Tell whether `stat`, taken of an open file, is of the very file that was described, unchanged."""
        return (
            stat.st_size == self.size
            and (self.arriving or stat.st_mtime_ns == self.mtime_ns)
            and stat.st_ino == self.inode
            and stat.st_dev == self.device
        )


def entity_tag(size: int, mtime_ns: int, inode: int) -> str:
    """Return the strong entity tag of a file: it changes whenever the content may have changed."""
    return f'"{inode:x}-{mtime_ns:x}-{size:x}"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """Which home the engine is."""

    id: str
    """PeMuS ID, without dashes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitQuery:
    """Which bytes of a remote item somebody is about to read."""

    reader: str
    """Names the one who reads; each has a place of its own in the file."""
    path: str
    """Of the file that is read: what arrives in another one is of no use. It is only compared."""
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """How much of what was waited for can be read."""

    stop: int
    """All bytes from the `start` that was asked for up to here are on disk, and right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The answer where there is nothing more to say."""

    done: bool = True


class NodeKind(StrEnum):
    """What a place in the library's tree is, from which the integration picks media class and translated title."""

    ROOT = "root"
    SHARE = "share"
    VIDEOS = "videos"
    MUSIC = "music"
    PHOTOS = "photos"
    RECENT = "recent"
    FOLDERS = "folders"
    FOLDER = "folder"
    ARTISTS = "artists"
    ARTIST = "artist"
    ALBUMS = "albums"
    ALBUM = "album"
    SONGS = "songs"
    YEARS = "years"
    YEAR = "year"
    MONTH = "month"
    PAGE = "page"
    """A part of a list that is too long to show at once."""
    HOME = "home"
    """A friend's home."""
    ITEM = "item"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A place in the library's tree."""

    id: str
    """Path of the node: segments of [a-z0-9_~-] joined by "/"; "" is the root; `item/<id>` is an item of this home, and
    `home/<owner>/<id>` one of another, whose other places are `home/<owner>/<id there>`."""
    kind: NodeKind
    title: str | None = None
    """The name as it is in the library; None where the kind alone (VIDEOS, ARTISTS, ...) names the place.
    The title of a MONTH is its number, 1 to 12; an unknown artist, album or year has the title None."""
    detail: str | None = None
    """A second line where it helps: an album's artist, a page's range."""
    media: Kind | None = None
    """Which kind of media lies here, if only one."""
    content_type: str | None = None
    """Of an ITEM."""
    thumbnail: str | None = None
    """Id of the item whose thumbnail stands for this node."""
    count: int | None = None
    """How many items lie below, where that is known cheaply."""
    available: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A node with what lies in it, in the order to show. Never more than PAGE_SIZE children."""

    node: Node
    parents: tuple[Node, ...]
    """From the root down to the node's parent."""
    children: tuple[Node, ...]
    revision: int


PAGE_SIZE = 200
"""Longer lists are divided into PAGE nodes, and those into PAGE nodes again where need be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    """What to look for."""

    text: str
    kinds: tuple[Kind, ...] = (Kind.VIDEO, Kind.MUSIC, Kind.PHOTO)
    below: str = ""
    """Node id: only what lies in this scope (the root, a share, a kind of a share)."""
    limit: int = 50
    """1 to 500."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What was found, best first."""

    items: tuple[Item, ...]
    nodes: tuple[Node, ...]
    """Artists and albums whose name matches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The first event on the WebSocket: who speaks, and the state."""

    type: Literal["hello"] = "hello"
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChanged:
    """The state changed; sent at most a few times a second."""

    type: Literal["status"] = "status"
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsChanged:
    """Items changed or went away: forget what was remembered of them. `items` is None when there were too many to name."""

    type: Literal["items"] = "items"
    revision: int
    items: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMedia:
    """A friend shares items that it did not share a moment ago."""

    type: Literal["new_media"] = "new_media"
    home: str
    name: str
    count: int
    titles: tuple[str, ...]
    """Of the first few."""


Event = Hello | StatusChanged | ItemsChanged | NewMedia


class ErrorKey(StrEnum):
    """Why the engine refused a request."""

    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    UNAVAILABLE = "unavailable"
    """The item is known but its share is not there at present."""
    NO_PICTURE = "no_picture"
    BUSY = "busy"
    GONE = "gone"
    """The owner took the item back, or has another version of it now."""
    REPLACED = "replaced"
    """The file on disk that was asked about has made room for another one."""
    DISK_FULL = "disk_full"
    """There is no room for what was to be fetched."""
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiError:
    """The body of every answer with a status of 400 or above."""

    error: ErrorKey
    message: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A listed file as the index knows it, without a look at the disk."""

    item: str
    size: int
    mtime_ns: int
    inode: int
