"""The messages between the engine and Home Assistant.

Every request and answer of the engine's API is one of these frozen dataclasses as JSON. `codec` validates each message
once, where it arrives. Sizes are bytes, times are seconds since the
Unix epoch, durations are seconds, unless a name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
import os
from typing import Literal

from .homes import FriendConfig, PeersStatus
from .items import ItemRef
from .rooms import RoomConfig, RoomEvent, RoomStatus

API_VERSION = 1
"""Increased with every change that the other side would misread. Both sides compare it when they connect."""


class Kind(StrEnum):
    """The kinds of media that are shared."""

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
    """A lasting fault that the user can fix. Each has a repair issue of the same name."""

    INOTIFY_LIMIT = "inotify_limit"
    """The system's limit of watched folders is reached. Placeholders: `setting`, `limit`."""
    SHARE_UNAVAILABLE = "share_unavailable"
    """A share's root vanished, or cannot be read. Placeholders: `name`, `path`."""
    DISK_FULL = "disk_full"
    """The index or the thumbnails cannot be written. Placeholders: `path`."""
    CACHE_FULL = "cache_full"
    """The disk has no room for what is fetched from friends. Placeholders: `path`."""
    IDENTITY_LOST = "identity_lost"
    """This home's key is missing or unusable, and the user must decide. Placeholders: `path`, `error`."""


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
    """Bytes per second for all receivers together; 0 for no limit. It is easy to flood a home's uplink."""
    download_limit: int = 0
    """Bytes per second; 0 for no limit."""
    lan_exempt: bool = True
    """Whether homes in the same local network are exempt from the limits."""
    connections: int = 200
    active_seeds: int = 500
    """Files that are served at the same time."""
    port: int = 0
    """TCP port for other homes; 0 lets the system choose."""
    port_mapping: bool = False
    """Whether to ask the router to forward the port (UPnP, NAT-PMP)."""
    cache_quota: int = 20 * 1000**3
    """Bytes that friends' files may take on the disk."""
    cache_reserve: int = 2 * 1000**3
    """Bytes of the disk that stay free, whatever the quota."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The whole configuration. The engine applies what differs from the present one."""

    home_name: str
    shares: tuple[ShareConfig, ...] = ()
    rescan_interval: int = 3600
    """Seconds between two full rescans, which find changes that the watcher missed."""
    swarm: SwarmConfig = SwarmConfig()
    friends: tuple[FriendConfig, ...] = ()
    servers: tuple[str, ...] = ()
    """URLs of signalling servers (`https://host/path`), this project's or any PeerServer."""
    lan_visible: bool = True
    """Whether this home and others in the local network find each other. Otherwise no port is open for them."""
    rooms: tuple[RoomConfig, ...] = ()

    def shares_of(self, home: str) -> tuple[str, ...] | None:
        """Return the ids of the shares that a friend may see, None for a home that is no friend."""
        for friend in self.friends:
            if friend.id == home:
                return friend.shares
        return None

    def room(self, room: str) -> RoomConfig | None:
        """Return a room, None for what is none."""
        return next((each for each in self.rooms if each.id == room), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Number of items of each kind, and their total size."""

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
    """A lasting fault. It is fixed when the status does not list it any more."""

    key: ProblemKey
    share: str | None = None
    placeholders: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmStatus:
    """What moves between homes."""

    port: int = 0
    """TCP port that friends' torrents connect to; 0 if there is none."""
    upload_rate: float = 0.0
    """Bytes of files per second."""
    download_rate: float = 0.0
    uploaded: int = 0
    """Bytes since the engine started, by torrents and over links."""
    downloaded: int = 0
    peers: int = 0
    active_seeds: int = 0
    hashed: int = 0
    """Bytes of shared files whose hashes are known, so that they can be served at once."""
    hashable: int = 0
    """Bytes of all shared files."""
    cache_used: int = 0
    cache_quota: int = 0
    transfers: int = 0
    """Friends' files that are being fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of the engine."""

    api_version: int
    version: str
    """PeMuS release of the engine's code."""
    pid: int
    started: float
    rss: int
    """Resident memory of the engine process."""
    scan_state: ScanState
    progress: float | None
    """Percentage of the present scan or reading that is done; None while idle or not yet known."""
    revision: int
    """Grows with every change of the library. A listing with the same revision is still valid."""
    counts: Counts
    shares: tuple[ShareStatus, ...]
    problems: tuple[Problem, ...]
    capabilities: dict[str, str | None]
    """Version of each optional library (`libtorrent`, `av`, `mutagen`, `PIL`, `pillow_heif`, `asyncinotify`, `pysubs2`), None when missing."""
    swarm: SwarmStatus | None = None
    """None while nothing moves between homes: this home has no identity, or neither torrents nor the cache can be used."""
    peers: PeersStatus | None = None
    """None while this home has no identity."""
    rooms: tuple[RoomStatus, ...] = ()
    """In the order of the configuration; none while this home has no identity."""
    serial: int = 0
    """Orders the states of one engine: the higher one is newer. An event may arrive after a later answer."""


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
    """A file on disk that the range view may send, and how to recognise that it is still the same file."""

    path: str
    name: str
    """Name for a download."""
    content_type: str
    size: int
    mtime_ns: int
    inode: int
    device: int
    etag: str
    arriving: bool = False
    """Whether the file is fetched from a friend: only bytes that `wait` reported may be read, others read as zeros. The time
    of the file on disk changes with each piece, so `mtime_ns` is that of the owner's file."""
    root: str = ""
    """Real path of the share's root, below which no link is followed. Empty for a file in the engine's own folders."""

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
        """Tell whether `stat`, taken of an open file, is of the described file, unchanged."""
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
    """Which bytes of a friend's item a reader needs next."""

    reader: str
    """Names the reader. Each reader has its own position in the file."""
    path: str
    """Path of the file that the reader has open. If the item arrives in another file by now, the answer is REPLACED."""
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """How much of the requested bytes can be read."""

    stop: int
    """All bytes from the requested `start` up to here are on disk and verified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The answer to a request that returns nothing."""

    done: bool = True


class NodeKind(StrEnum):
    """What a place in the library's tree is. The integration chooses media class and title by it."""

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
    """Number of items below, where that is cheap to know."""
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
    """The first event on the WebSocket, with the present state."""

    type: Literal["hello"] = "hello"
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChanged:
    """The state changed. Sent at most a few times a second."""

    type: Literal["status"] = "status"
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsChanged:
    """Items changed or are gone: whatever is cached of them is stale. `items` is None when there are too many to name."""

    type: Literal["items"] = "items"
    revision: int
    items: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMedia:
    """A friend shares new items."""

    type: Literal["new_media"] = "new_media"
    home: str
    name: str
    count: int
    titles: tuple[str, ...]
    """Titles of the first few."""


Event = Hello | StatusChanged | ItemsChanged | NewMedia | RoomEvent


class ErrorKey(StrEnum):
    """Why the engine refused a request."""

    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    UNAVAILABLE = "unavailable"
    """The item is known but its share is not there at present."""
    NO_PICTURE = "no_picture"
    BUSY = "busy"
    GONE = "gone"
    """The owner shares the item no more, or has another version of it."""
    REPLACED = "replaced"
    """The file on disk that the request is about was replaced by another one."""
    DISK_FULL = "disk_full"
    """The disk has no room for what is to be fetched."""
    PASSWORD = "password"  # noqa: S105
    """A guest has to give the room's password."""
    RATE_LIMITED = "rate_limited"
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
