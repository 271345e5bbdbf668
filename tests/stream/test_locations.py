"""What is remembered of files, for how long, and how often the engine is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from custom_components.pemus.engine.client import EngineUnavailable
from custom_components.pemus.p2p.models import LocalFile
from custom_components.pemus.p2p.models.items import ItemRef, Wanted
from custom_components.pemus.stream import locations as locations_module
from custom_components.pemus.stream.locations import MAX_LOCATIONS, Locations
from tests.patience import until


def described(name: str) -> LocalFile:
    return LocalFile(
        path=f"/{name}",
        name=name,
        content_type="video/mp4",
        size=1,
        mtime_ns=1,
        inode=1,
        device=1,
        etag='"1"',
    )


class Engine:
    """Answers when it is let, and counts the questions."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let = asyncio.Event()
        self.let.set()
        self.version = 0
        self.error: Exception | None = None
        self.played = 0

    async def streaming(self) -> None:
        self.played += 1
        if self.error is not None:
            raise self.error

    async def _answer(self, name: str) -> LocalFile:
        self.asked.append(name)
        answer = described(f"{name}-{self.version}")
        await self.let.wait()
        if self.error is not None:
            raise self.error
        return answer

    async def locate(self, wanted: Wanted) -> LocalFile:
        ref = wanted.item
        name = ref.id if ref.owner is None else f"{ref.owner}/{ref.id}"
        if wanted.picture:
            name += "/picture"
        elif wanted.subtitles is not None:
            name += f"/{wanted.subtitles}"
        return await self._answer(name)


def file(item: str, owner: str | None = None, **part: Any) -> Wanted:
    return Wanted(ItemRef(owner, item), **part)


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def locations(engine: Engine) -> Locations:
    return Locations(lambda: engine)


async def test_a_file_is_asked_for_once(engine: Engine, locations: Locations) -> None:
    assert [await locations.get(file("a")) for _ in range(3)] == [described("a-0")] * 3
    assert engine.asked == ["a"]


async def test_the_files_of_an_item_are_kept_apart(
    engine: Engine, locations: Locations
) -> None:
    for wanted in (
        file("a"),
        file("a", picture=True),
        file("a", subtitles=0),
        file("a", subtitles=1),
        file("b"),
        file("a", owner="X"),
        file("a", owner="X", picture=True),
        file("a", owner="X", subtitles=0),
        file("a", owner="Y"),
    ):
        await locations.get(wanted)
    at_home = ["a", "a/picture", "a/0", "a/1", "b"]
    assert engine.asked == [*at_home, "X/a", "X/a/picture", "X/a/0", "Y/a"]


async def test_requests_that_come_together_share_one_question(
    engine: Engine, locations: Locations
) -> None:
    assert (
        len(set(await asyncio.gather(*(locations.get(file("a")) for _ in range(50)))))
        == 1
    )
    assert engine.asked == ["a"]


async def test_a_question_goes_on_when_the_first_who_asked_gives_up(
    engine: Engine, locations: Locations
) -> None:
    engine.let.clear()
    first, second = (asyncio.create_task(locations.get(file("a"))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    engine.let.set()
    assert await second == described("a-0")
    assert engine.asked == ["a"]


async def test_an_error_reaches_everybody_and_is_not_remembered(
    engine: Engine, locations: Locations
) -> None:
    engine.error = RuntimeError("no")
    answers = await asyncio.gather(
        *(locations.get(file("a")) for _ in range(3)), return_exceptions=True
    )
    assert [str(answer) for answer in answers] == ["no"] * 3
    engine.error = None
    assert await locations.get(file("a")) == described("a-0")


async def test_an_item_that_changed_is_forgotten_with_all_its_files(
    engine: Engine, locations: Locations
) -> None:
    for wanted in (file("a"), file("a", picture=True), file("b")):
        await locations.get(wanted)
    engine.version = 1
    locations.forget(["a", "unknown"])
    assert await locations.get(file("a")) == described("a-1")
    assert await locations.get(file("a", picture=True)) == described("a/picture-1")
    assert await locations.get(file("b")) == described("b-0")


async def test_everything_is_forgotten_when_too_much_changed_to_name(
    engine: Engine, locations: Locations
) -> None:
    await locations.get(file("a"))
    locations.forget(None)
    await locations.get(file("a"))
    assert engine.asked == ["a", "a"]


async def test_an_answer_that_was_under_way_when_the_item_changed_is_not_remembered(
    engine: Engine, locations: Locations
) -> None:
    engine.let.clear()
    early = asyncio.create_task(locations.get(file("a")))
    await asyncio.sleep(0.01)
    engine.version = 1
    locations.forget(["a"])
    late = asyncio.create_task(locations.get(file("a")))
    await asyncio.sleep(0.01)
    engine.let.set()
    assert await early == described("a-0")
    assert await late == described("a-1")
    assert await locations.get(file("a")) == described("a-1")


async def test_what_is_known_to_be_stale_is_asked_for_again_but_only_once(
    engine: Engine, locations: Locations
) -> None:
    stale = await locations.get(file("a"))
    engine.version = 1
    answers = [await locations.fresh(file("a"), stale) for _ in range(5)]
    assert answers == [described("a-1")] * 5
    assert engine.asked == ["a", "a"]


async def test_only_so_much_is_remembered_and_what_was_used_last_stays(
    engine: Engine, locations: Locations
) -> None:
    await locations.get(file("first"))
    for index in range(MAX_LOCATIONS - 1):
        await locations.get(file(str(index)))
    await locations.get(file("first"))
    await locations.get(file("one more"))
    engine.asked.clear()
    await locations.get(file("first"))
    assert engine.asked == []
    await locations.get(file("0"))
    assert engine.asked == ["0"]


async def test_closing_gives_up_what_is_asked(
    engine: Engine, locations: Locations
) -> None:
    engine.let.clear()
    waiting = asyncio.create_task(locations.get(file("a")))
    await asyncio.sleep(0.01)
    await locations.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_engine_hears_again_and_again_that_something_is_played(
    engine: Engine, locations: Locations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locations_module, "REPORT_INTERVAL", 0.05)
    for _ in range(1000):
        locations.played()
    await asyncio.sleep(0)
    assert engine.played == 1

    def go_on() -> bool:
        locations.played()
        return engine.played == 4

    # An engine that is started in the middle of a film knows of it by then.
    await until(go_on)


async def test_an_engine_that_does_not_listen_disturbs_no_player(
    engine: Engine, locations: Locations
) -> None:
    engine.error = EngineUnavailable("it crashed")
    locations.played()
    await asyncio.sleep(0)
    assert engine.played == 1
    await locations.close()
    locations.played()
    await asyncio.sleep(0)
    assert engine.played == 1
