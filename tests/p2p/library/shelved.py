"""A library of small folders, indexed by the real scan, for the tests that browse and search it."""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path
import sqlite3
import time

from p2p.library import items
from p2p.library.aggregates import refresh
from p2p.library.albums import group_songs
from p2p.library.browse import listing
from p2p.library.files import Located
from p2p.library.migrations import NUMBERS
from p2p.library.moves import MoveDetection
from p2p.library.reading import record
from p2p.library.scan import Ground, Scan
from p2p.library.search import search
from p2p.library.search_index import make_findable, renew_words
from p2p.library.store import Store
from p2p.media.facts import MediaFacts
from p2p.models import Item, Kind, Listing, Node, SearchQuery, SearchResult, ShareConfig

OLD = time.time() - 86400
ALL_KINDS = tuple(Kind)


class Shelved:
    """Shares, their index, and what a user sees of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store(folder / "library.db")
        self.store.open()
        self.shares: list[ShareConfig] = []
        self.available: set[str] = set()
        self._facts: dict[tuple[str, str], MediaFacts] = {}

    def share(self, name: str, kinds: Sequence[Kind] = ALL_KINDS) -> ShareConfig:
        """Share a new folder; it is indexed by `scan`."""
        path = self.folder / name
        path.mkdir()
        share = ShareConfig(
            id=f"id-{name.lower()}", path=str(path), name=name, kinds=tuple(kinds)
        )
        self.shares.append(share)
        self.available.add(share.id)
        return share

    def put(
        self,
        share: ShareConfig,
        path: str,
        facts: MediaFacts | None = None,
        *,
        modified: float = OLD,
    ) -> None:
        """Put a file into a share, and what reading it would say of it."""
        file = Path(share.path, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"content")
        os.utime(file, (modified, modified))
        if facts is not None:
            self._facts[share.id, path] = facts

    def scan(self) -> None:
        """Index all shares, and read what was put there with facts."""
        for share in self.shares:
            number = self._number(share)
            Scan(
                self.store,
                Ground(number=number, path=share.path, kinds=share.kinds),
                faults=set(),
                arrivals=MoveDetection(),
            ).everything()
            while make_findable(self.store, number):
                pass
            with self.store.write() as db:
                self._read(db, share, number)
                while group_songs(db):
                    pass
            refresh(self.store, number)

    def _number(self, share: ShareConfig) -> int:
        kinds = sum(1 << NUMBERS[kind] for kind in share.kinds)
        with self.store.write() as db:
            db.execute(
                "INSERT OR IGNORE INTO shares (id, path, kinds) VALUES (?, ?, ?)",
                (share.id, share.path, kinds),
            )
            (number,) = db.execute(
                "SELECT number FROM shares WHERE id = ?", (share.id,)
            ).fetchone()
        assert isinstance(number, int)
        return number

    def _read(self, db: sqlite3.Connection, share: ShareConfig, number: int) -> None:
        rows = []
        for values in db.execute(
            f"SELECT {Located.COLUMNS} WHERE items.share = ? AND items.gone IS NULL",
            (number,),
        ).fetchall():
            item = Located.of(share.path, *values)
            path = f"{item.folder}/{item.name}" if item.folder else item.name
            facts = self._facts.get((share.id, path))
            if facts is not None:
                record(db, item, facts, "all")
                rows.append(item.row)
        renew_words(db, rows)

    def browse(self, node: str = "") -> Listing:
        """Open a node by its id."""
        with self.store.read() as db:
            return listing(db, node, self.shares, self.available)

    def walk(self, *titles: str) -> Listing:
        """Open a node by what is on the way to it: titles, or kinds where there are none."""
        found = self.browse()
        for title in titles:
            (node,) = (each for each in found.children if label(each) == title)
            found = self.browse(node.id)
        return found

    def search(self, text: str, **query: object) -> SearchResult:
        """Search."""
        with self.store.read() as db:
            return search(
                db,
                SearchQuery(text=text, **query),  # type: ignore[arg-type]
                self.shares,
                self.available,
            )

    def item(self, item_id: str) -> Item:
        """Return an item."""
        with self.store.read() as db:
            return items.item(db, item_id, self.shares, self.available)


def label(node: Node) -> str:
    """What a node is called, or what it is."""
    return node.title if node.title is not None else f"<{node.kind}>"


def labels(found: Listing) -> list[str]:
    """What the children of a node are called."""
    return [label(child) for child in found.children]


def titles(found: SearchResult) -> list[str]:
    """What the found items are called."""
    return [item.title for item in found.items]


def song(title: str, artist: str, album: str | None = None, **more: int) -> MediaFacts:
    """What a tagged song says about itself."""
    return MediaFacts(
        kind=Kind.MUSIC,
        content_type="audio/mpeg",
        title=title,
        artist=artist,
        album=album,
        track=more.get("track"),
        disc=more.get("disc"),
        has_picture=bool(more.get("has_picture", 0)),
    )
