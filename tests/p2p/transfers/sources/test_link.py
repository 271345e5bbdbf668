"""Ranges over the link as a source of a download: what it asks for, and what becomes of it when the link fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
import os
from pathlib import Path

import pytest

from p2p.access.ticket import ItemFacts, Ticket
from p2p.core.errors import EngineError, Gone, NotFound, Unavailable
from p2p.core.spans import Spans
from p2p.models import Kind
from p2p.net.link.frames import Ask
from p2p.torrent.priority import Priority
from p2p.transfers.sources import link as module
from p2p.transfers.sources.link import LinkSource
from p2p.transfers.sources.source import SourceStatus, Wanted
from tests.patience import until

CONTENT = os.urandom(3_000_000)
TICKET = Ticket(
    owner="A" * 28,
    owner_name="Ann",
    receiver="B" * 28,
    item=ItemFacts(
        id="i" * 26,
        kind=Kind.VIDEO,
        name="film.mp4",
        title="Film",
        content_type="video/mp4",
        size=len(CONTENT),
        etag='"1"',
        modified=0,
    ),
    torrent=None,
    endpoints=(),
    expires=2**32,
)


class Target:
    """A download that takes note of what arrives."""

    label = "film"

    def __init__(self, folder: Path) -> None:
        self.entry = self
        self.path = folder / "film"
        self.path.write_bytes(b"")
        os.truncate(self.path, len(CONTENT))
        self.spans = Spans()
        self.failures: list[str] = []
        self.is_outdated = False

    def outdated(self) -> None:
        self.is_outdated = True

    def arrived(self, start: int, stop: int) -> None:
        self.spans.add(start, stop)

    def source_failed(self, message: str) -> None:
        self.failures.append(message)


class Owner:
    """Answers with the content, or with what a test wants."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self.errors: list[EngineError] = []
        self.cut: int | None = None

    async def __call__(self, ask: Ask, limit: int) -> AsyncIterator[bytes]:
        self.asked.append(ask)
        assert limit == ask.stop - ask.start
        if self.errors:
            raise self.errors.pop(0)
        part = CONTENT[ask.start : ask.stop][: self.cut]
        for start in range(0, len(part), 60_000):
            yield part[start : start + 60_000]


class Swarm:
    """The other source."""

    def __init__(self) -> None:
        self.is_delivering = False
        self.received = 0
        self.looks = 0
        self.deliveries = 0

    @property
    def status(self) -> SourceStatus:
        """While it delivers, there is more each time somebody looks."""
        self.looks += 1
        self.received += 1000 * self.is_delivering
        return SourceStatus(peers=1, received=self.received)

    def owner_delivered(self) -> None:
        self.deliveries += 1


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target(tmp_path)


async def all_of_it(
    target: Target, owner: Owner, swarm: Swarm | None = None
) -> LinkSource:
    source = LinkSource(TICKET, owner, swarm)  # type: ignore[arg-type]
    source.want([Wanted(0, len(CONTENT), Priority.LATER)])
    await source.start(target)
    return source


async def test_all_that_is_wanted_arrives_and_nothing_twice(target: Target) -> None:
    owner = Owner()
    source = await all_of_it(target, owner)
    await until(lambda: target.spans.total == len(CONTENT))
    await source.close()
    assert target.path.read_bytes() == CONTENT
    assert sum(ask.stop - ask.start for ask in owner.asked) == len(CONTENT)
    assert owner.asked[0].stop - owner.asked[0].start == module.FIRST_BLOCK


async def test_only_what_is_wanted_is_asked_for(target: Target) -> None:
    owner = Owner()
    target.spans.add(100_000, 200_000)
    source = LinkSource(TICKET, owner, None)
    source.want([Wanted(50_000, 250_000, Priority.NOW)])
    await source.start(target)
    await until(lambda: target.spans.covers(50_000, 250_000))
    await source.close()
    assert target.spans.total == 200_000
    assert not any(100_000 <= ask.start < 200_000 for ask in owner.asked)


async def test_a_link_that_fails_is_tried_again(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_DELAYS", (0.01,))
    owner = Owner()
    owner.errors = [Unavailable("no link")] * 6
    source = await all_of_it(target, owner)
    await until(lambda: target.spans.total == len(CONTENT))
    await source.close()
    assert not target.failures


async def test_the_swarm_is_told_what_the_owner_delivers_here(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_DELAYS", (0.01,))
    owner, swarm = Owner(), Swarm()
    owner.errors = [Unavailable("no link")] * 6
    source = await all_of_it(target, owner, swarm)
    await until(lambda: target.spans.total == len(CONTENT))
    await source.close()
    assert swarm.deliveries == len(owner.asked) - 6


@pytest.mark.parametrize("error", [Gone("other"), NotFound("nothing")])
async def test_what_the_owner_refuses_for_good_is_reported(
    target: Target, error: EngineError
) -> None:
    owner = Owner()
    owner.errors = [error] * 10
    source = await all_of_it(target, owner)
    await until(lambda: target.failures)
    await source.close()
    # That it changed is told; whoever keeps the download asks for another ticket.
    assert target.is_outdated == isinstance(error, Gone)


async def test_an_answer_that_ends_too_early_does_not_count_as_whole(
    target: Target,
) -> None:
    owner = Owner()
    owner.cut = 1000
    source = await all_of_it(target, owner)
    await until(lambda: target.failures)
    await source.close()
    assert 0 < target.spans.total < len(CONTENT)


async def test_it_stands_back_while_the_swarm_delivers(target: Target) -> None:
    owner, swarm = Owner(), Swarm()
    source = LinkSource(TICKET, owner, swarm)  # type: ignore[arg-type]
    swarm.is_delivering = True
    source.want([Wanted(0, len(CONTENT), Priority.LATER)])
    await source.start(target)
    await until(lambda: swarm.looks >= 5 * module.PIPELINE)
    assert not owner.asked
    swarm.is_delivering = False
    await until(lambda: target.spans.total == len(CONTENT))
    await source.close()


async def test_nothing_writes_any_more_once_it_is_closed(target: Target) -> None:
    source = await all_of_it(target, Owner())
    await until(lambda: target.spans.total)
    await source.close()
    before = target.path.read_bytes()
    # Whatever still ran in a thread has ended after this.
    await asyncio.get_running_loop().shutdown_default_executor()
    assert target.path.read_bytes() == before
    assert not [task for task in asyncio.all_tasks() if "fetch" in task.get_name()]


async def test_a_file_that_cannot_be_opened_is_an_error(target: Target) -> None:
    target.path.unlink()
    with pytest.raises(OSError, match="No such file"):
        await all_of_it(target, Owner())
