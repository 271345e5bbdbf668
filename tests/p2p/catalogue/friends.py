"""A home with a library and a friend that is told of it, for the tests of both sides of the catalogue."""

from __future__ import annotations

from collections.abc import Collection, Iterator
import dataclasses
import json
from pathlib import Path
from typing import Any
import zlib

import orjson

from p2p.catalogue.remote_library import Applied, RemoteLibrary
from p2p.catalogue.sender import Catalogue
from p2p.library import items
from p2p.library.browse import listing
from p2p.library.search import search
from p2p.library.store import Store
from p2p.models import Item, Listing, SearchQuery, ShareConfig
from tests.p2p.library.conftest import check
from tests.p2p.library.shelved import Shelved

HOME = "A" * 28

type Tree = dict[str, Listing]
"""What lies in each node."""


class Owner(Shelved):
    """A home with a library that others are told of."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.faults = 0
        self.catalogue = self.new_catalogue()

    def new_catalogue(self) -> Catalogue:
        """Return one that has not looked at anything yet, as after a restart."""
        return Catalogue(
            self.store,
            shares=lambda: self.shares,
            available=lambda: self.available,
            on_fault=self._fault,
        )

    def _fault(self) -> None:
        self.faults += 1

    @property
    def ids(self) -> list[str]:
        """The ids of all shares."""
        return [share.id for share in self.shares]

    async def pages(self, friend: Friend, shares: Collection[str]) -> list[bytes]:
        """Return what the friend has to be told."""
        have = await friend.library.have()
        return [page async for page in self.catalogue.pages(shares, have)]

    async def tell(
        self, friend: Friend, shares: Collection[str] | None = None
    ) -> list[Applied]:
        """Tell the friend everything that he does not know yet."""
        pages = await self.pages(friend, self.ids if shares is None else shares)
        applied = [await friend.library.apply(page) for page in pages]
        assert [each.done for each in applied] == [*[False] * (len(pages) - 1), True]
        return applied


class Friend:
    """Another home, which keeps what it is told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.library = RemoteLibrary(folder, HOME)

    async def restart(self) -> None:
        await self.library.close()
        self.library = RemoteLibrary(self.folder, HOME)
        await self.library.open()

    @property
    def store(self) -> Store:
        return self.library._store

    @property
    def total(self) -> int:
        counts = self.library.counts
        return counts.video + counts.music + counts.photo

    def dump(self) -> list[str]:
        """Return all that is in the database."""
        with self.store.read() as db:
            return list(db.iterdump())

    def check(self) -> None:
        """Fail if parts of the index contradict each other."""
        with self.store.write() as db:
            check(db)


def same_library(
    db: Any, configured: Collection[ShareConfig], available: Collection[str]
) -> tuple[Tree, list[Item]]:
    """Return the tree and the items that an index has of some shares."""
    shares = list(configured)
    tree = dict(_walk(lambda node: listing(db, node, shares, available)))
    return tree, [
        items.item(db, node.removeprefix("item/"), shares, available)
        for node in sorted(tree)
        if node.startswith("item/")
    ]


def _walk(browse: Any) -> Iterator[tuple[str, Listing]]:
    waiting, seen = [""], {""}
    while waiting:
        node = waiting.pop()
        found = browse(node)
        # Each side counts its own changes.
        yield node, dataclasses.replace(found, revision=0)
        for child in found.children:
            if child.id not in seen:
                seen.add(child.id)
                waiting.append(child.id)


async def assert_same(
    owner: Owner,
    friend: Friend,
    shares: Collection[str] | None = None,
    words: Collection[str] = (),
) -> Tree:
    """Fail unless the friend sees what the owner sees of these shares; return the tree."""
    configured = [
        share for share in owner.shares if shares is None or share.id in shares
    ]
    available = {share.id for share in configured} & owner.available
    with owner.store.read() as db:
        tree, its_items = same_library(db, configured, available)
        found = {
            text: search(db, SearchQuery(text=text), configured, available)
            for text in words
        }
    for node, opened in tree.items():
        seen = await friend.library.browse(node, online=True)
        assert dataclasses.replace(seen, revision=0) == opened, node
    for item in its_items:
        assert await friend.library.item(item.id, online=True) == item
    for text, result in found.items():
        query = SearchQuery(text=text)
        assert await friend.library.search(query, online=True) == result, text
    assert friend.total == len(its_items)
    friend.check()
    return tree


def unpacked(page: bytes) -> dict[str, Any]:
    """Return what a page says."""
    said: dict[str, Any] = orjson.loads(zlib.decompress(page))
    return said


def packed(said: object) -> bytes:
    """Return a page that says something."""
    return zlib.compress(json.dumps(said).encode())


def entries(pages: Collection[bytes]) -> list[dict[str, Any]]:
    """Return the items that pages tell of."""
    return [
        entry
        for page in pages
        for part in unpacked(page)["parts"]
        for entry in part.get("items", [])
    ]


def gone(pages: Collection[bytes]) -> list[int]:
    """Return the rows of the items that pages take away."""
    return [
        row
        for page in pages
        for part in unpacked(page)["parts"]
        for row in part.get("gone", [])
    ]
