"""What happens while bytes are on their way: files that change, clients that leave or dawdle, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
import resource
import socket
import threading

from homeassistant.core import HomeAssistant
import pytest

from custom_components.pemus.p2p.models.items import ItemRef
from custom_components.pemus.stream import disk, locations, thumbnail_path

from .conftest import FILM, Connection, Site, all_closed, open_files, pages

LARGE = 48 * 1024 * 1024
"""More than all the buffers between the server and a client that does not read."""


@pytest.fixture
def large(any_site: Site, tmp_path: Path) -> Path:
    return any_site.folder.put(FILM, tmp_path / "large.mp4", pages(0, LARGE // 4096))


async def begin(site: Site, connection: Connection, count: int = 100_000) -> bytes:
    """Ask for the whole file, read a little of it, and give the server time to fill every buffer."""
    await connection.send(site.path())
    assert await connection.head() == 200
    data = await connection.reader.readexactly(count)
    connection.left -= count
    await asyncio.sleep(0.3)
    return data


async def test_a_player_that_is_paused_plays_nothing(
    any_site: Site, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locations, "REPORT_INTERVAL", 0.0)
    async with any_site.connection() as connection:
        await begin(any_site, connection)
        played = 0
        while played != any_site.folder.played:
            played = any_site.folder.played
            # It has every buffer filled by now, and keeps its connection.
            await asyncio.sleep(0.3)
        assert played
        _, complete = await connection.body()
        assert complete
        assert any_site.folder.played > played


async def test_what_goes_with_a_film_is_not_what_is_played(
    any_site: Site, large: Path
) -> None:
    picture = large.with_name("picture.jpg")
    picture.write_bytes(b"picture")
    any_site.folder.pictures[FILM] = picture
    path = any_site.sign(thumbnail_path(ItemRef(None, FILM)))
    assert (await any_site.ask(path)).body == b"picture"
    assert any_site.folder.played == 0


async def test_every_byte_comes(any_site: Site, large: Path) -> None:
    answer = await any_site.ask(any_site.path())
    assert answer.body == large.read_bytes()


async def test_parts_and_many_requests(any_site: Site, large: Path) -> None:
    data = large.read_bytes()
    path = any_site.path()
    async with any_site.connection() as connection:
        for start in (
            0,
            1,
            4095,
            262_143,
            1_048_575,
            4_194_303,
            5_242_880,
            LARGE - 5_000_000,
        ):
            for length in (1, 262_144, 262_145, 1_048_576, 1_048_577, 4_999_999):
                answer = await connection.ask(
                    path, {"Range": f"bytes={start}-{start + length - 1}"}
                )
                assert answer.body == data[start : start + length], (start, length)
        answer = await connection.ask(
            path, {"Range": "bytes=40000000-46000000,0-6000000,10000000-10000009"}
        )
        assert answer.complete
        for start, stop in (
            (40_000_000, 46_000_001),
            (0, 6_000_001),
            (10_000_000, 10_000_010),
        ):
            assert data[start:stop] in answer.body


async def test_twenty_clients_at_once(any_site: Site, large: Path) -> None:
    data = large.read_bytes()

    async def take(index: int) -> bool:
        start = index * 1_000_003
        answer = await any_site.ask(
            any_site.path(), {"Range": f"bytes={start}-{start + 9_999_999}"}
        )
        return answer.body == data[start : start + 10_000_000]

    assert all(await asyncio.gather(*(take(index) for index in range(20))))


async def test_a_file_that_is_not_in_memory_comes_all_the_same(
    any_site: Site, large: Path
) -> None:
    data = large.read_bytes()
    with large.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert (await any_site.ask(any_site.path())).body == data


@pytest.mark.parametrize(
    "change", ["truncate", "empty", "append", "rewrite", "replace", "unlink", "link"]
)
async def test_a_file_that_changes_while_it_is_sent_ends_the_connection(
    any_site: Site, large: Path, change: str
) -> None:
    data = large.read_bytes()
    async with any_site.connection() as connection:
        received = await begin(any_site, connection)
        match change:
            case "truncate":
                os.truncate(large, LARGE // 2)
            case "empty":
                os.truncate(large, 0)
            case "append":
                with large.open("ab") as file:
                    file.write(b"more")
            case "rewrite":
                large.write_bytes(b"\xff" * LARGE)
            case "replace":
                other = large.with_name("other")
                other.write_bytes(b"\xff" * LARGE)
                other.rename(large)
            case "unlink":
                large.unlink()
            case "link":
                large.unlink()
                large.symlink_to("/dev/zero")
        async with asyncio.timeout(20):
            rest, complete = await connection.body()
        assert not complete
        received += rest
    if change != "empty" and change != "truncate":
        assert received == data[: len(received)], "no byte of another version"


async def test_a_file_that_changes_at_the_very_end_is_noticed_as_well(
    any_site: Site, large: Path
) -> None:
    """All that is left fits into the buffers; the change comes when the last bytes are read, not before."""
    async with any_site.connection() as connection:
        path = any_site.path()
        await connection.send(path, {"Range": f"bytes={LARGE - 30_000_000}-"})
        assert await connection.head() == 206
        await asyncio.sleep(0.3)
        with large.open("ab") as file:
            file.write(b"more")
        async with asyncio.timeout(20):
            _, complete = await connection.body()
        assert not complete


async def test_a_renamed_file_plays_on(any_site: Site, large: Path) -> None:
    data = large.read_bytes()
    async with any_site.connection() as connection:
        received = await begin(any_site, connection)
        large.rename(large.with_name("renamed.mp4"))
        rest, complete = await connection.body()
        assert complete
        assert received + rest == data


async def test_clients_that_leave_in_the_middle_leave_nothing_behind(
    any_site: Site, large: Path
) -> None:
    tasks = len(asyncio.all_tasks())
    sockets = sockets_open()
    for how in ("close", "reset", "at once"):
        for _ in range(5):
            async with any_site.connection() as connection:
                if how == "at once":
                    await connection.send(any_site.path())
                else:
                    await begin(
                        any_site, connection, 1000
                    ) if how == "close" else await quick(any_site, connection)
                if how == "reset":
                    connection.writer.transport.abort()
    assert await all_closed()
    for _ in range(100):
        if len(asyncio.all_tasks()) <= tasks and sockets_open() <= sockets:
            break
        await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) <= tasks
    assert sockets_open() <= sockets


async def quick(site: Site, connection: Connection) -> None:
    await connection.send(site.path())
    await connection.head()


def sockets_open() -> int:
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += str(descriptor.readlink()).startswith("socket:")
    return count


async def test_a_client_that_dawdles_gets_everything_in_the_end(
    any_site: Site, large: Path
) -> None:
    data = large.read_bytes()
    async with any_site.connection() as connection:
        received = await begin(any_site, connection)
        while len(received) < 4_000_000:
            received += await connection.reader.read(200_000)
            await asyncio.sleep(0.02)
        rest = await connection.reader.readexactly(len(data) - len(received))
        assert received + rest == data


async def test_many_clients_that_do_not_read_take_little_memory(
    any_site: Site, large: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        connections = []
        for _ in range(20):
            # A small receive buffer, so that it is the server that would have to keep what is not taken.
            receiver = socket.socket()
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            receiver.connect(("127.0.0.1", any_site.server.port))
            receiver.setblocking(False)
            reader, writer = await asyncio.open_connection(
                sock=receiver,
                limit=65_536,
                ssl=any_site.tls,
                server_hostname="127.0.0.1" if any_site.tls else None,
            )
            connections.append(Connection(reader, writer))
            stack.push_async_callback(connections[-1].close)
        before = resident_memory()
        for connection in connections:
            await quick(any_site, connection)
        await asyncio.sleep(1)
        grown = resident_memory() - before
        assert len(open_files()) == 1, "they all have the file open"
        # A window read ahead and one in the transport, each a quarter of a megabyte, and what TLS adds to it.
        assert grown < 20 * 2 * 1024 * 1024, f"{grown // 1024} KiB"
        for connection in connections:
            connection.writer.transport.abort()


def resident_memory() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise AssertionError


async def test_a_client_that_closed_its_sending_side_still_gets_the_rest(
    site: Site, tmp_path: Path
) -> None:
    """Not over TLS, which has no such half."""
    data = pages(0, LARGE // 4096)
    site.folder.put(FILM, tmp_path / "large.mp4", data)
    async with site.connection() as connection:
        received = await begin(site, connection)
        connection.writer.write_eof()
        await asyncio.sleep(0.1)
        rest, complete = await connection.body()
        assert complete
        assert received + rest == data
    assert await all_closed()


async def test_a_client_that_says_goodbye_with_its_request_does_no_harm(
    site: Site, film: Path
) -> None:
    for _ in range(20):
        async with site.connection() as connection:
            await connection.send(site.path())
            connection.writer.write_eof()
            await connection.reader.read()
    assert await all_closed()


async def test_old_kernels_are_served_through_the_worker(
    any_site: Site, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_CACHESTAT", 9999)
    assert (await any_site.ask(any_site.path())).body == large.read_bytes()


async def test_where_sendfile_is_forbidden_the_file_is_read(
    site: Site, film: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: int) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sendfile", forbidden)
    assert (await site.ask(site.path())).body == content


async def test_a_bad_sector_before_the_first_byte_is_503_and_after_it_ends_the_connection(
    any_site: Site, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails from the tenth megabyte on."""
    bad = 10_000_000
    sendfile, pread = os.sendfile, os.pread

    def failing_sendfile(out: int, source: int, offset: int, count: int) -> int:
        if offset + count > bad:
            raise OSError(5, "Input/output error")
        return sendfile(out, source, offset, count)

    def failing_pread(source: int, count: int, offset: int) -> bytes:
        if offset + count > bad:
            raise OSError(5, "Input/output error")
        return pread(source, count, offset)

    monkeypatch.setattr(os, "sendfile", failing_sendfile)
    monkeypatch.setattr(os, "pread", failing_pread)
    answer = await any_site.ask(any_site.path(), {"Range": "bytes=20000000-"})
    assert (answer.status, answer.body) == (503, b"")
    answer = await any_site.ask(any_site.path())
    assert answer.status == 200
    assert not answer.complete


async def test_too_many_open_files_are_503_and_pass(
    site: Site, film: Path, content: bytes
) -> None:
    path = site.path()
    async with site.connection() as connection:
        assert (await connection.ask(path, {"Range": "bytes=0-0"})).status == 206
        used = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        filler = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, limits[1]))
            with contextlib.suppress(OSError):
                while True:
                    filler.append(os.open("/dev/null", os.O_RDONLY))
            for free in range(4):
                answer = await connection.ask(path, {"Range": "bytes=0-9"})
                assert answer.status in {206, 503}
                assert (answer.status == 206) or free < 3
                os.close(filler.pop())
        finally:
            for descriptor in filler:
                os.close(descriptor)
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert (await connection.ask(path)).body == content


async def test_the_last_byte_is_followed_by_the_next_request_and_nothing_else(
    any_site: Site, large: Path
) -> None:
    """A cut connection is the only sign of an error: a good one must stay open."""
    async with any_site.connection() as connection:
        for _ in range(3):
            assert (await connection.ask(any_site.path())).complete
        await asyncio.sleep(0.1)
        assert not connection.reader.at_eof()


async def test_stopping_home_assistant_leaves_no_thread(
    hass: HomeAssistant, site: Site, film: Path
) -> None:
    await site.ask(site.path())
    assert any(thread.name.startswith("pemus disk") for thread in threading.enumerate())
    await hass.async_stop(force=True)
    assert not any(
        thread.name.startswith("pemus disk") for thread in threading.enumerate()
    )
