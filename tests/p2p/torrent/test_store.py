"""The owner's side's database keeps hashes and grants, and outlives damage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import sqlite3

import pytest

from p2p.core.sqlite import StoreError
from p2p.torrent.store import KEPT, SEEN_AGAIN, STEPS, Grant, SwarmStore, Version

HUGE = Version(inode=2**64 - 1, size=2**40, mtime_ns=2**63 + 5)
SMALL = Version(inode=1, size=10, mtime_ns=-5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SwarmStore]:
    opened = SwarmStore(tmp_path / "swarm.db")
    opened.open()
    yield opened
    opened.close()


@pytest.mark.parametrize("version", [HUGE, SMALL])
def test_hashes_are_found_by_exactly_their_version(
    store: SwarmStore, version: Version
) -> None:
    store.keep_hashes(version, 1024, b"h" * 40, 100.0)
    assert store.hashes(version, 1024) == b"h" * 40
    assert store.hashes(version, 2048) is None
    for other in (
        Version(version.inode - 1, version.size, version.mtime_ns),
        Version(version.inode, version.size + 1, version.mtime_ns),
        Version(version.inode, version.size, version.mtime_ns + 1),
    ):
        assert store.hashes(other, 1024) is None
        assert store.known([other, version], 100.0) == {version}


def test_new_hashes_take_the_place_of_old_ones(store: SwarmStore) -> None:
    store.keep_hashes(SMALL, 1024, b"a" * 20, 100.0)
    store.keep_hashes(SMALL, 2048, b"b" * 20, 100.0)
    assert store.hashes(SMALL, 1024) is None
    assert store.hashes(SMALL, 2048) == b"b" * 20
    store.forget_hashes(SMALL)
    assert store.hashes(SMALL, 2048) is None
    with store.read() as db:
        assert db.execute("SELECT count(*) FROM hashes").fetchone() == (0,)


def test_hashes_of_what_is_not_seen_for_long_are_forgotten(store: SwarmStore) -> None:
    store.keep_hashes(SMALL, 1024, b"a" * 20, 0.0)
    store.keep_hashes(HUGE, 1024, b"b" * 20, 0.0)
    assert store.forget_unseen(KEPT) == 0
    assert store.known([SMALL], SEEN_AGAIN + 1) == {SMALL}
    assert store.forget_unseen(KEPT + 1) == 1
    assert store.known([SMALL, HUGE], KEPT) == {SMALL}
    with store.read() as db:
        assert db.execute("SELECT count(*) FROM hashes").fetchone() == (1,)


def test_a_thousand_files_are_looked_up_together(store: SwarmStore) -> None:
    versions = [Version(number, 10, 5) for number in range(1000)]
    for version in versions[::2]:
        store.keep_hashes(version, 1024, b"h" * 20, 1.0)
    assert store.known(versions, 1.0) == set(versions[::2])


def test_a_grant_lives_through_a_restart(store: SwarmStore) -> None:
    first = Grant("r1", "i", b"salt", 20.0)
    second = Grant("r2", "i", b"other", 30.0)
    store.grant(Grant("r1", "i", b"old", 10.0))
    store.grant(first)
    store.grant(second)
    store.close()
    again = SwarmStore(store.path)
    again.open()
    assert again.grants() == [second, first]
    again.revoke([Grant("r2", "i", b"former", 30.0)])
    assert again.grants() == [second, first]
    again.revoke([second])
    assert again.grants() == [first]
    again.close()


async def test_a_damaged_database_is_made_anew(store: SwarmStore) -> None:
    for number in range(3000):
        store.keep_hashes(Version(number, 10, 5), 1024, b"h" * 200, 1.0)
    store.close()
    content = bytearray(store.path.read_bytes())
    for start in range(4096 * 20, len(content), 4096):
        content[start : start + 100] = b"\xa5" * 100
    store.path.write_bytes(content)
    store.open()
    versions = [Version(number, 10, 5) for number in range(3000)]
    assert await store.run(store.known, versions, 1.0) == set()
    await store.run(store.keep_hashes, SMALL, 1024, b"a" * 20, 1.0)
    assert await store.run(store.hashes, SMALL, 1024) == b"a" * 20
    assert len(list(store.path.parent.glob("*.broken-*"))) == 1


async def test_what_is_closed_says_so(store: SwarmStore) -> None:
    store.close()
    with pytest.raises(StoreError, match="hashes and tickets is closed"):
        await store.run(store.grants)


def test_a_database_of_a_newer_release_is_kept_and_made_again(tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    connection.close()
    store = SwarmStore(path)
    store.open()
    assert store.grants() == []
    store.close()
    assert len(list(tmp_path.glob("newer.db.newer-*"))) == 1
