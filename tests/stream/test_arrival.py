"""The range view, while a file arrives from another home: as for a local file, only that it waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
import dataclasses
import os
from pathlib import Path

import pytest

from custom_components.pemus import stream
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.p2p.models import ErrorKey, LocalFile, WaitQuery
from custom_components.pemus.p2p.models.items import ItemRef, Wanted
from custom_components.pemus.stream import arrival
from tests.patience import PATIENCE

from .conftest import FILM, Site, all_closed

OWNER = "H" * 28
REF = ItemRef(OWNER, FILM)
PIECE = 256 * 1024
ETAG = '"film-1"'


class Remote:
    """Stands for the engine: what arrives, and when, is up to the test."""

    def __init__(self, path: Path, content: bytes) -> None:
        self.content = content
        self.path = path
        with path.open("wb") as file:
            file.truncate(len(content))
        self.there: set[int] = set()
        self.queries: list[WaitQuery] = []
        self.released: list[str] = []
        self.deliver: Callable[[int], Exception | None] = self.put
        self.fault: Exception | None = None

    def put(self, piece: int) -> None:
        with self.path.open("r+b") as file:
            file.seek(piece * PIECE)
            file.write(self.content[piece * PIECE : (piece + 1) * PIECE])
        self.there.add(piece)

    async def locate(self, wanted: Wanted) -> LocalFile:
        if wanted != Wanted(REF):
            raise EngineError(ErrorKey.NOT_FOUND, "there is no such item")
        facts = LocalFile.of(
            str(self.path), "Ein Film.mp4", "video/mp4", self.path.stat()
        )
        return dataclasses.replace(
            facts, etag=ETAG, mtime_ns=1_700_000_000 * 10**9, arriving=True
        )

    async def wait(self, ref: ItemRef, query: WaitQuery) -> int:
        assert ref == REF
        self.queries.append(query)
        if query.path != str(self.path):
            raise EngineError(ErrorKey.REPLACED, "it was evicted")
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        piece = query.start // PIECE
        if piece not in self.there:
            await asyncio.sleep(0.01)
            if error := self.deliver(piece):
                raise error
        while piece in self.there:
            piece += 1
        return min(piece * PIECE, len(self.content))

    async def release(self, ref: ItemRef, reader: str) -> None:
        self.released.append(reader)


@pytest.fixture
def remote(
    any_site: Site, tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> Remote:
    engine = Remote(tmp_path / "part", content)
    for name in ("locate", "wait", "release"):
        monkeypatch.setattr(any_site.folder, name, getattr(engine, name))
    return engine


def path(site: Site, owner: str = OWNER, item: str = FILM) -> str:
    return site.sign(stream.stream_path(ItemRef(owner, item), "film.mp4"))


async def test_a_file_is_sent_while_it_arrives(
    any_site: Site, remote: Remote, content: bytes
) -> None:
    answer = await any_site.ask(path(any_site))
    assert (answer.status, answer.complete) == (200, True)
    assert answer.body == content
    assert answer["etag"] == ETAG
    assert answer["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert "Ein Film.mp4" in answer["content-disposition"]
    assert len({query.reader for query in remote.queries}) == 1
    assert await all_closed()


async def test_what_is_there_is_asked_for_once(
    any_site: Site, remote: Remote, content: bytes
) -> None:
    for piece in range(-(-len(content) // PIECE)):
        remote.put(piece)
    answer = await any_site.ask(path(any_site))
    assert answer.body == content
    assert len(remote.queries) == 1


async def test_a_range_waits_for_nothing_else(
    any_site: Site, remote: Remote, content: bytes
) -> None:
    answer = await any_site.ask(path(any_site), {"Range": "bytes=5000000-5000099"})
    assert (answer.status, answer.body) == (206, content[5_000_000:5_000_100])
    assert remote.there == {5_000_000 // PIECE}
    answer = await any_site.ask(
        path(any_site), {"Range": "bytes=0-9,-10", "If-Range": ETAG}
    )
    assert answer.status == 206
    assert content[:10] in answer.body
    assert content[-10:] in answer.body
    assert remote.there == {0, 5_000_000 // PIECE, (len(content) - 1) // PIECE}


async def test_readers_are_told_apart_and_leave(any_site: Site, remote: Remote) -> None:
    await asyncio.gather(
        any_site.ask(path(any_site), {"Range": "bytes=0-99"}),
        any_site.ask(path(any_site), {"Range": "bytes=9000000-"}),
    )
    assert len({query.reader for query in remote.queries}) == 2
    assert set(remote.released) >= {query.reader for query in remote.queries}


async def test_nothing_is_waited_for_before_a_head(
    any_site: Site, remote: Remote, content: bytes
) -> None:
    answer = await any_site.ask(path(any_site), method="HEAD")
    assert (answer.status, answer["content-length"]) == (200, str(len(content)))
    answer = await any_site.ask(path(any_site), {"If-None-Match": ETAG})
    assert answer.status == 304
    answer = await any_site.ask(path(any_site), {"Range": "bytes=99999999-"})
    assert (answer.status, answer["content-range"]) == (416, f"bytes */{len(content)}")
    assert remote.queries == []


@pytest.mark.parametrize(
    ("key", "status"),
    [
        (ErrorKey.UNAVAILABLE, 503),
        (ErrorKey.DISK_FULL, 503),
        (ErrorKey.GONE, 410),
        (ErrorKey.NOT_FOUND, 404),
    ],
)
async def test_what_does_not_arrive_is_an_error_before_the_first_byte(
    any_site: Site, remote: Remote, key: ErrorKey, status: int
) -> None:
    remote.deliver = lambda piece: EngineError(key, "nobody has it")
    answer = await any_site.ask(path(any_site))
    assert (answer.status, answer.body) == (status, b"")
    assert (answer.get("retry-after") is not None) == (status == 503)
    assert await all_closed()


async def test_what_does_not_arrive_ends_the_connection_after_it(
    any_site: Site, remote: Remote, content: bytes
) -> None:
    def deliver(piece: int) -> Exception | None:
        if piece > 20:
            return EngineError(ErrorKey.UNAVAILABLE, "everybody left")
        return remote.put(piece)

    remote.deliver = deliver
    async with any_site.connection() as connection:
        await connection.send(path(any_site))
        assert await connection.head() == 200
        received = bytearray()
        try:
            async with asyncio.timeout(PATIENCE):
                while data := await connection.reader.read(65536):
                    received += data
        except ConnectionResetError:
            pass
    assert len(received) < len(content)
    assert received == content[: len(received)]
    assert await all_closed()


async def test_an_engine_that_is_back_soon_is_waited_for(
    any_site: Site, remote: Remote, content: bytes
) -> None:
    def deliver(piece: int) -> None:
        remote.put(piece)
        if piece in {5, 17}:
            remote.fault = EngineUnavailable("it crashed")

    remote.deliver = deliver
    assert (await any_site.ask(path(any_site))).body == content


async def test_an_engine_that_stays_away_is_not_waited_for_for_ever(
    any_site: Site, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrival, "ENGINE_TIMEOUT", 0.2)
    remote.deliver = lambda piece: EngineUnavailable("it is gone")
    assert (await any_site.ask(path(any_site))).status == 503


async def test_an_engine_that_promises_nothing_is_not_asked_for_ever(
    any_site: Site, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(ref: ItemRef, query: WaitQuery) -> int:
        return query.start

    monkeypatch.setattr(any_site.folder, "wait", nothing)
    assert (await any_site.ask(path(any_site))).status == 503


async def test_a_file_that_is_fetched_anew_is_not_mixed_with_the_one_before(
    any_site: Site, remote: Remote, content: bytes
) -> None:
    """It was evicted in between: the bytes that come now go into another file."""

    def deliver(piece: int) -> None:
        if piece == 10:
            remote.path.unlink()
            with remote.path.open("wb") as file:
                file.truncate(len(content))
        remote.put(piece)

    remote.deliver = deliver
    answer = await any_site.ask(path(any_site))
    assert not answer.complete
    assert answer.body == content[: len(answer.body)]


async def test_a_file_that_was_evicted_since_it_was_last_played_is_fetched_anew(
    any_site: Site, remote: Remote, content: bytes
) -> None:
    assert (await any_site.ask(path(any_site))).body == content
    remote.path.unlink()
    remote.path = remote.path.with_name("another part")
    remote.path.touch()
    os.truncate(remote.path, len(content))
    remote.there.clear()
    assert (await any_site.ask(path(any_site))).body == content


async def test_a_client_that_leaves_ends_the_reading(
    any_site: Site, remote: Remote
) -> None:
    async with any_site.connection() as connection:
        await connection.send(path(any_site))
        assert await connection.head() == 200
        await connection.reader.readexactly(100_000)
    async with asyncio.timeout(PATIENCE):
        while not remote.released:
            await asyncio.sleep(0.02)
    assert await all_closed()


async def test_another_home_or_item_is_404(any_site: Site, remote: Remote) -> None:
    assert (await any_site.ask(path(any_site, owner="Z" * 28))).status == 404
    assert (await any_site.ask(path(any_site, item="z" * 26))).status == 404


async def test_a_stranger_is_403(any_site: Site, remote: Remote) -> None:
    unsigned = stream.stream_path(REF, "film.mp4")
    answer = await any_site.ask(unsigned)
    assert answer.status == 403
    local = any_site.path().split("?")[1]
    assert (await any_site.ask(f"{unsigned}?{local}")).status == 403
    assert remote.queries == []


async def test_an_outage_that_was_met_when_looking_ahead_is_forgotten_when_it_is_over(
    any_site: Site, remote: Remote, content: bytes
) -> None:
    """What comes next is asked for when something else begins to be sent, which may be long before it is needed."""
    met = set()

    def deliver(piece: int) -> Exception | None:
        if piece in {10, 30} and piece not in met:
            met.add(piece)
            return EngineError(ErrorKey.UNAVAILABLE, "the owner is away")
        return remote.put(piece)

    remote.deliver = deliver
    answer = await any_site.ask(path(any_site))
    assert met == {10, 30}
    assert answer.complete
    assert answer.body == content


async def test_what_was_there_in_another_file_is_asked_for_again(
    remote: Remote, any_site: Site
) -> None:
    one = arrival.Arrival(lambda: any_site.folder, REF)
    one.follow(str(remote.path))
    end = await one.until(0, len(remote.content))
    assert one.end(0, len(remote.content)) == end > 0
    one.follow(str(remote.path))
    assert one.end(0, len(remote.content)) == end
    one.follow("another")
    assert one.end(0, len(remote.content)) == 0
