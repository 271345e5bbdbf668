"""The cache folder: what is believed after a restart, what is not, and what does not belong there."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
import sqlite3
import time

import pytest

from p2p.access.ticket import Ticket
from p2p.core.spans import Spans
from p2p.transfers import cache as cache_module
from p2p.transfers.cache import DATABASE, Cache, CacheError, Found, Record
from tests.p2p.transfers.receiving import OWNER, PIECE, Owner, content_of, describe

SIZE = 4 * PIECE + 1000


@pytest.fixture
def ticket(tmp_path: Path) -> Ticket:
    owner = Owner(tmp_path)
    owner.port = 4242
    owner.contents["i" * 26] = content = content_of(SIZE)
    return owner.ticket("i" * 26, describe(content, b"s" * 16))


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    cache = Cache(tmp_path / "cache")
    assert cache.open() == []
    yield cache
    cache.close()


def keep(
    cache: Cache,
    ticket: Ticket,
    *,
    pieces: range = range(2),
    sealed: bool = True,
    pinned: bool = False,
    used: float = 1.0,
) -> Path:
    """Have a download of which some pieces are there, as the owner's file has them."""
    path = cache.new_path(ticket)
    cache.create(path, SIZE)
    content = content_of(SIZE)
    spans = Spans()
    with path.open("r+b") as file:
        for index in pieces:
            start, stop = index * PIECE, min(SIZE, (index + 1) * PIECE)
            file.seek(start)
            file.write(content[start:stop])
            spans.add(start, stop)
    cache.save(
        [
            Record(
                name=path.name,
                ticket=ticket,
                spans=spans.encode(),
                seal=cache.seal(path) if sealed else None,
                used=used,
                pinned=pinned,
            )
        ]
    )
    return path


def reopened(cache: Cache) -> list[Found]:
    cache.close()
    return cache.open()


def change(cache: Cache, statement: str) -> None:
    connection = sqlite3.connect(cache.folder / DATABASE)
    with connection:
        connection.execute(statement)
    connection.close()


def test_a_file_that_was_left_in_peace_is_believed(
    cache: Cache, ticket: Ticket
) -> None:
    path = keep(cache, ticket, pinned=True)
    (found,) = reopened(cache)
    assert found.path == path
    assert found.ticket == ticket
    assert found.meta == ticket.metainfo()
    assert list(found.spans) == [(0, 2 * PIECE)]
    assert not found.unchecked.total
    assert found.pinned
    assert found.file is not None
    assert found.seal == (path.stat().st_ino, path.stat().st_mtime_ns)


@pytest.mark.parametrize("how", ["unsealed", "touched", "replaced"])
def test_any_other_file_is_to_be_checked_where_it_is_not_empty(
    cache: Cache, ticket: Ticket, how: str
) -> None:
    path = keep(cache, ticket, pieces=range(1, 3), sealed=how != "unsealed")
    if how == "touched":
        os.utime(path, ns=(0, 12345))
    elif how == "replaced":
        status = path.stat()
        other = path.with_name("other")
        with other.open("wb") as file:
            file.truncate(SIZE)
            file.seek(PIECE)
            file.write(b"other" * (PIECE // 5 + 1))
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.replace(path)
    (found,) = reopened(cache)
    assert not found.spans.total
    assert found.seal is None
    # Whole pieces, and not those in which nothing was ever written.
    assert found.unchecked.covers(PIECE, 2 * PIECE)
    assert not found.unchecked.meets(3 * PIECE, SIZE)
    assert not found.unchecked.meets(0, PIECE)


@pytest.mark.parametrize("how", ["missing", "shorter", "longer", "folder", "link"])
def test_a_file_that_is_not_what_it_was_is_forgotten(
    cache: Cache, ticket: Ticket, tmp_path: Path, how: str
) -> None:
    path = keep(cache, ticket)
    if how == "shorter":
        os.truncate(path, SIZE - 1)
    elif how == "longer":
        os.truncate(path, SIZE + 1)
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "link":
            target = tmp_path / "precious"
            target.write_bytes(bytes(SIZE))
            path.symlink_to(target)
    (found,) = reopened(cache)
    assert (found.ticket, found.file, found.spans.total) == (ticket, None, 0)
    assert not path.is_file()
    assert how != "link" or (tmp_path / "precious").exists()


def test_a_ticket_without_a_file_is_kept_until_it_expires(
    cache: Cache, ticket: Ticket, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(cache, ticket).unlink()
    assert [each.ticket for each in reopened(cache)] == [ticket]
    monkeypatch.setattr(time, "time", lambda: ticket.expires)
    assert reopened(cache) == []


def test_the_wish_for_an_offline_copy_outlives_its_file(
    cache: Cache, ticket: Ticket
) -> None:
    path = keep(cache, ticket, pinned=True)
    path.unlink()
    (found,) = reopened(cache)
    assert found.pinned
    assert found.file is None
    assert not found.spans.total
    # The file can be made again where it was.
    cache.create(found.path, SIZE)


def test_orphans_are_removed_and_only_in_the_folder_itself(
    cache: Cache, ticket: Ticket, tmp_path: Path
) -> None:
    path = keep(cache, ticket)
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (cache.folder / "orphan").write_text("x")
    (cache.folder / "link").symlink_to(precious)
    (cache.folder / "lost+found").mkdir()
    reopened(cache)
    assert precious.read_text() == "precious"
    left = {each.name for each in cache.folder.iterdir()}
    assert {path.name, DATABASE, "lost+found"} <= left
    assert not {"orphan", "link"} & left


def test_of_two_versions_the_one_that_was_read_last_stays(
    cache: Cache, ticket: Ticket
) -> None:
    older = keep(cache, ticket, used=1.0)
    newer = keep(cache, ticket, used=2.0)
    (found,) = reopened(cache)
    assert found.path == newer
    assert not older.exists()


def test_what_is_removed_is_gone(cache: Cache, ticket: Ticket) -> None:
    path = keep(cache, ticket)
    cache.remove([path])
    assert not path.exists()
    assert reopened(cache) == []
    # Once more does no harm.
    cache.remove([path])


@pytest.mark.parametrize(
    "change_to",
    [
        "name = '../precious'",
        "name = x'00'",
        "ticket = x'7b7d'",
        "ticket = 'text'",
        "spans = '[[0,99999999999]]'",
        "spans = '[['",
        "spans = x'00'",
        "used = 'never'",
    ],
)
def test_a_damaged_record_costs_no_more_than_itself(
    cache: Cache, ticket: Ticket, tmp_path: Path, change_to: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(bytes(SIZE))
    keep(cache, ticket)
    change(cache, f"UPDATE downloads SET {change_to}")
    assert reopened(cache) == []
    assert precious.exists()
    path = keep(cache, ticket)
    (found,) = reopened(cache)
    assert found.path == path


@pytest.mark.parametrize("how", ["noise", "torn", "newer", "other"])
def test_a_database_that_cannot_be_used_is_made_anew(
    cache: Cache, ticket: Ticket, how: str
) -> None:
    path = keep(cache, ticket)
    cache.close()
    database = cache.folder / DATABASE
    if how == "noise":
        database.write_bytes(os.urandom(20_000))
    elif how == "torn":
        data = bytearray(database.read_bytes())
        data[100:4096] = os.urandom(3996)
        database.write_bytes(data)
    elif how == "newer":
        change(cache, "PRAGMA user_version = 99")
    else:
        change(cache, "DROP TABLE downloads")
        change(cache, "CREATE TABLE downloads (x)")
    assert cache.open() == []
    assert not path.exists()
    keep(cache, ticket)
    assert len(reopened(cache)) == 1


def test_a_folder_that_cannot_be_used_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError):
        Cache(tmp_path / "file" / "cache").open()


def test_holes_give_room_back_and_read_as_zeros(cache: Cache, ticket: Ticket) -> None:
    path = keep(cache, ticket, pieces=range(4))
    before = path.stat().st_blocks
    cache.punch(path, [(PIECE, 3 * PIECE)])
    assert before - path.stat().st_blocks >= 2 * PIECE // 512
    content = content_of(SIZE)
    data = path.read_bytes()
    assert len(data) == SIZE
    assert data[:PIECE] == content[:PIECE]
    assert data[PIECE : 3 * PIECE] == bytes(2 * PIECE)
    assert data[3 * PIECE : 4 * PIECE] == content[3 * PIECE : 4 * PIECE]


def test_a_disk_that_knows_no_holes_is_remembered(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, ticket: Ticket
) -> None:
    path = keep(cache, ticket)

    def refuse(*_: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(cache_module, "_punch", refuse)
    with pytest.raises(OSError, match="not supported"):
        cache.punch(path, [(0, PIECE)])
    assert not cache.can_punch


def test_names_tell_nothing_that_a_stranger_chose(cache: Cache, ticket: Ticket) -> None:
    names = {cache.new_path(ticket).name for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith(f"{OWNER}-{'i' * 26}-") for name in names)
