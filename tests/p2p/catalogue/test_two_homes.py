"""Whatever happens to a library and between two homes: once all was told, the friend sees what the owner sees."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
import shutil
import tempfile
from typing import Any

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
import pytest

from p2p.catalogue import changelog, sender
from p2p.media.facts import MediaFacts
from p2p.models import Kind, ShareConfig
from tests.p2p.library.shelved import OLD, song

from .friends import Friend, Owner, assert_same, unpacked

SHARES = ("First", "Second")
PATHS = ("a.mp4", "b/a.mp4", "b/c/d.jpg", "b/1.mp3", "b/2.mp3", "e/1.mp3", "e/a.jpg")
FACTS = (
    None,
    song("Lake", "Ada", "Roads", track=1),
    song("Sea", "Bob", "Roads", track=1, has_picture=1),
    song("Loose", "Ada"),
    MediaFacts(kind=Kind.VIDEO, title="Film", content_type="video/mp4", duration=1.5),
    MediaFacts(kind=Kind.PHOTO, taken="2020-02-02T02:02:02", has_picture=True),
    MediaFacts(fault="The file is empty."),
)
MANY = 300
"""Files that are never touched, so that there are several pages."""


class TwoHomes(RuleBasedStateMachine):
    """Changes files, grants and homes at random, and tells the friend now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.base = Path(tempfile.mkdtemp(prefix="pemus-model-"))
        (self.base / "owner").mkdir()
        self.owner = Owner(self.base / "owner")
        for name in SHARES:
            self.owner.share(name)
        for number in range(MANY):
            self.owner.put(self.owner.shares[0], f"many/{number}.jpg")
        self.owner.scan()
        self.friend = Friend(self.base / "friend")
        self._run(self.friend.library.open())
        self.granted = set(self.owner.ids)
        self.clock = OLD

    def teardown(self) -> None:
        try:
            self._tell()
        finally:
            self._run(self.friend.library.close())
            self.runner.close()
            self.owner.store.close()
            shutil.rmtree(self.base)

    def _run[T](self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def _share(self, number: int) -> ShareConfig:
        return self.owner.shares[number]

    def _path(self, share: int, path: str) -> Path:
        return Path(self._share(share).path, path)

    @rule(
        share=st.integers(0, 1),
        path=st.sampled_from(PATHS),
        facts=st.sampled_from(FACTS),
    )
    def put(self, share: int, path: str, facts: MediaFacts | None) -> None:
        """Write a file, or write over one."""
        self.clock += 1
        if not self._path(share, path).is_dir():
            self.owner.put(self._share(share), path, facts, modified=self.clock)

    @rule(share=st.integers(0, 1), path=st.sampled_from(PATHS))
    def remove(self, share: int, path: str) -> None:
        if not self._path(share, path).is_dir():
            self._path(share, path).unlink(missing_ok=True)

    @rule(
        share=st.integers(0, 1),
        path=st.sampled_from((*PATHS, "b", "b/c", "many")),
        to=st.sampled_from((*PATHS, "f", "b/f")),
    )
    def move(self, share: int, path: str, to: str) -> None:
        """Rename a file or a folder."""
        old, new = self._path(share, path), self._path(share, to)
        if old.exists() and not new.exists() and not new.is_relative_to(old):
            new.parent.mkdir(parents=True, exist_ok=True)
            old.rename(new)

    @rule(share=st.integers(0, 1))
    def subtitle(self, share: int) -> None:
        self.clock += 1
        self.owner.put(self._share(share), "b/a.de.srt", modified=self.clock)

    @rule()
    def scan(self) -> None:
        self.owner.scan()

    @rule(share=st.integers(0, 1))
    def plug(self, share: int) -> None:
        """Unplug a disk, or plug it in again."""
        self.owner.available ^= {self._share(share).id}

    @rule(granted=st.sets(st.integers(0, 1)))
    def grant(self, granted: set[int]) -> None:
        self.granted = {self._share(share).id for share in granted}

    @rule()
    def reorder(self) -> None:
        self.owner.shares.reverse()

    @rule()
    def owner_restarts(self) -> None:
        self.owner.store.close()
        self.owner.store.open()
        self.owner.catalogue = self.owner.new_catalogue()

    @rule()
    def owner_begins_anew(self) -> None:
        """Lose the index, and with it what all numbers mean."""
        self.owner.store.close()
        self.owner.store.path.unlink()
        self.owner.store.open()
        self.owner.scan()

    @rule()
    def owner_makes_a_backup(self) -> None:
        self.owner.store.close()
        shutil.copy(self.owner.store.path, self.base / "backup")
        self.owner.store.open()

    @rule()
    def owner_restores_the_backup(self) -> None:
        if (self.base / "backup").exists():
            self.owner.store.close()
            shutil.copy(self.base / "backup", self.owner.store.path)
            self.owner.store.open()
            self.owner.scan()

    @rule()
    def friend_restarts(self) -> None:
        self._run(self.friend.restart())

    @rule(pages=st.integers(1, 2))
    def interrupted(self, pages: int) -> None:
        """Tell a part of it only, page by page."""

        async def tell() -> None:
            have = await self.friend.library.have()
            told = self.owner.catalogue.pages(self.granted, have)
            left = pages
            async for page in told:
                await self.friend.library.apply(page)
                left -= 1
                if not left:
                    break
            await told.aclose()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sender, "_PAGE", 100)
            patch.setattr(changelog, "MAX_TOMBSTONES", 10)
            self._run(tell())

    @rule()
    def told(self) -> None:
        self._tell()

    @invariant()
    def what_is_kept_is_sound(self) -> None:
        self.friend.check()

    def _tell(self) -> None:
        """Tell all of it, and nothing after that."""

        async def tell() -> None:
            await self.owner.tell(self.friend, self.granted)
            await assert_same(self.owner, self.friend, self.granted, ("lake", "film"))
            (page,) = await self.owner.pages(self.friend, self.granted)
            assert not unpacked(page)["parts"]

        self._run(tell())


TestTwoHomes = TwoHomes.TestCase
TestTwoHomes.settings = settings(
    max_examples=20,
    stateful_step_count=15,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
