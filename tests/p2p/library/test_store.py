"""The index survives what happens to a database: old and new releases, damage, a full disk, others who lock it, kill -9."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from p2p.core import sqlite as sqlite_module
from p2p.core.sqlite import StoreBroken, StoreError, StoreFull, migrate
from p2p.library import migrations, store as store_module
from p2p.library.migrations import STEPS
from p2p.library.store import Store
from tests.patience import PATIENCE

from .conftest import Share, check, settle


def version(path: Path) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def schema(path: Path) -> set[tuple[str, str]]:
    connection = sqlite3.connect(path)
    try:
        return set(connection.execute("SELECT name, sql FROM sqlite_master"))
    finally:
        connection.close()


@pytest.mark.parametrize("known", range(len(STEPS) + 1))
def test_an_index_of_any_older_release_is_brought_up_to_date(
    tmp_path: Path, known: int
) -> None:
    path = tmp_path / "library.db"
    connection = sqlite3.connect(path, isolation_level=None)
    for number, step in enumerate(STEPS[:known]):
        connection.executescript(step)
        connection.execute(f"PRAGMA user_version = {number + 1}")
    connection.close()
    store = Store(path)
    store.open()
    store.close()
    fresh = Store(tmp_path / "fresh.db")
    fresh.open()
    fresh.close()
    assert version(path) == len(STEPS)
    assert schema(path) == schema(tmp_path / "fresh.db")


def test_a_step_that_fails_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "p2p.library.migrations.STEPS",
        ("CREATE TABLE one (a);", "CREATE TABLE two (b); CREATE TABLE one (c);"),
    )
    connection = sqlite3.connect(tmp_path / "library.db", isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        migrate(connection, migrations.STEPS, "the index")
    connection.close()
    assert version(tmp_path / "library.db") == 1
    assert {name for name, _ in schema(tmp_path / "library.db")} == {"one"}


def test_an_index_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "library.db"
    for before in (None, 0o644):
        if before is not None:
            path.chmod(before)
        store = Store(path)
        store.open()
        with store.write() as db:
            db.execute("UPDATE state SET value = value + 1")
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        store.close()
        assert modes["library.db"] == modes["library.db-wal"] == 0o600


def test_an_index_of_a_newer_release_is_kept_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "library.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE future (a)")
    connection.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    connection.close()
    (tmp_path / "library.db.newer-1").write_bytes(b"an older one")
    store = Store(path)
    store.open()
    store.close()
    assert version(path) == len(STEPS)
    (aside,) = tmp_path.glob("library.db.newer-*")
    assert version(aside) == len(STEPS) + 1
    assert {name for name, _ in schema(aside)} == {"future"}
    assert "newer release" in caplog.text
    assert aside.name in caplog.text
    assert not list(tmp_path.glob("*.broken-*"))


@pytest.mark.parametrize(
    "content",
    [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 8192, b"x" * 512],
)
def test_a_file_that_is_no_index_is_set_aside(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "library.db"
    path.write_bytes(content)
    store = Store(path)
    store.open()
    with store.read() as db:
        assert db.execute("SELECT count(*) FROM items").fetchone() == (0,)
    store.close()
    (aside,) = tmp_path.glob("*.broken-*")
    assert aside.read_bytes() == content
    assert any(record.levelname == "ERROR" for record in caplog.records)


def test_only_the_last_damaged_index_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "library.db"
    for content in (b"first" * 1000, b"second" * 1000):
        path.write_bytes(content)
        store = Store(path)
        store.open()
        store.close()
        path.unlink()
        time.sleep(1.1)
    (aside,) = tmp_path.glob("*.broken-*")
    assert aside.read_bytes().startswith(b"second")


def damage(path: Path) -> None:
    """Damage the later half of a database, where the items are and not what is read at its start."""
    content = bytearray(path.read_bytes())
    for start in range(len(content) // 2 // 4096 * 4096, len(content), 4096):
        content[start : start + 100] = b"\xa5" * 100
    path.write_bytes(content)


def test_damage_that_is_found_later_is_told_apart(share: Share) -> None:
    for number in range(3000):
        share.put(f"{number}.mp4")
    share.scan()
    store = share.store
    store.close()
    damage(store.path)
    store.open()
    with pytest.raises(StoreBroken), store.read() as db:
        db.execute("SELECT count(nonce), sum(size) FROM items").fetchall()
    assert store.broken
    store.replace()
    assert not store.broken
    with store.read() as db:
        assert db.execute("SELECT count(*) FROM items").fetchone() == (0,)


def test_an_index_that_was_damaged_when_its_engine_was_killed_is_set_aside(
    share: Share,
) -> None:
    for number in range(3000):
        share.put(f"{number}.mp4")
    share.scan()
    store = share.store
    store.close()
    damage(store.path)
    store.path.with_name("library.db-wal").write_bytes(b"left behind")
    store.open()
    with store.read() as db:
        assert db.execute("SELECT count(*) FROM items").fetchone() == (0,)


def test_a_full_disk_is_told_and_loses_nothing(share: Share) -> None:
    for number in range(50):
        share.put(f"{number}.mp4")
    share.scan()
    before = share.ids()
    store = share.store
    with store.write() as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
    for number in range(2000):
        share.put(f"more/{number} {'x' * 200}.mp4")
    with pytest.raises(StoreFull):
        share.scan()
    assert store.full
    assert share.ids() == before
    with store.write() as db:
        db.execute("PRAGMA max_page_count = 1000000")
    # So little would have fitted before.
    assert store.full
    share.scan()
    assert not store.full
    assert len(share.paths) == 2050
    assert share.ids().items() > before.items()


def test_somebody_who_locks_the_index_for_long_is_an_error_and_no_harm(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "BUSY_TIMEOUT", 0.2)
    store = share.store
    store.close()
    store.open()
    share.put("a.mp4")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        share.scan()
    other.execute("ROLLBACK")
    other.close()
    share.scan()
    assert share.paths == ["a.mp4"]


def test_somebody_who_locks_the_index_shortly_is_waited_for(share: Share) -> None:
    share.put("a.mp4")
    other = sqlite3.connect(
        share.store.path, isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.5, other.execute, ("ROLLBACK",))
    release.start()
    share.scan()
    release.join()
    other.close()
    assert share.paths == ["a.mp4"]


def test_reading_sees_one_moment(share: Share) -> None:
    share.put("a.mp4")
    share.scan()
    with share.store.read() as db:
        before = db.execute("SELECT count(*) FROM items").fetchone()
        share.put("b.mp4")
        share.scan()
        assert db.execute("SELECT count(*) FROM items").fetchone() == before
    assert len(share.paths) == 2


def test_a_transaction_that_fails_leaves_no_trace(share: Share) -> None:
    def fail() -> None:
        with share.store.write() as db:
            db.execute("DELETE FROM shares")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with share.store.read() as db:
        assert db.execute("SELECT count(*) FROM shares").fetchone() == (1,)


def test_who_closes_an_index_while_it_is_opened_waits_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "library.db")
    begun, go_on = threading.Event(), threading.Event()
    prepare = Store.prepare

    def slowly(self: Store, connection: sqlite3.Connection) -> None:
        begun.set()
        go_on.wait(PATIENCE)
        prepare(self, connection)

    monkeypatch.setattr(Store, "prepare", slowly)
    with ThreadPoolExecutor() as pool:
        opening = pool.submit(store.open)
        assert begun.wait(PATIENCE)
        closing = pool.submit(store.close)
        time.sleep(0.2)
        assert not closing.done()
        go_on.set()
        opening.result(PATIENCE)
        closing.result(PATIENCE)
    with pytest.raises(StoreError), store.read():
        pass


def test_a_closed_index_answers_with_an_error(share: Share) -> None:
    share.store.close()
    with pytest.raises(StoreError), share.store.read():
        pass
    with pytest.raises(StoreError), share.store.write():
        pass
    share.store.close()
    share.store.open()


SCANNER = """
    import sys
    from pathlib import Path
    from p2p.library import scan
    from p2p.library.moves import MoveDetection
    from p2p.library.search_index import make_findable
    from p2p.library.store import Store
    from p2p.models import Kind

    scan.BATCH = 50
    store = Store(Path(sys.argv[1]))
    store.open()
    with store.write() as db:
        db.execute("INSERT OR IGNORE INTO shares (id, path, kinds) VALUES ('share', ?, 7)", (sys.argv[2],))
    while True:
        ground = scan.Ground(number=1, path=sys.argv[2], kinds=tuple(Kind))
        tell = lambda seen: print(seen, flush=True)
        scan.Scan(store, ground, faults=set(), arrivals=MoveDetection(), progress=tell).everything()
        while make_findable(store, 1):
            print("found", flush=True)
        with store.write() as db:
            db.execute("UPDATE folders SET listing = NULL")
"""


def test_an_index_whose_engine_is_killed_in_the_middle_of_a_scan_is_sound(
    tmp_path: Path,
) -> None:
    root = tmp_path / "share"
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "library.db"
    for number in range(3000):
        folder = root / str(number % 100)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{number}.mp4"
        file.touch()
        settle(file)
    ids: dict[str, str] = {}
    engine_path = str(Path(store_module.__file__).parents[2])
    for lines in (3, 9, 20, 70):
        scanner = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SCANNER), str(path), str(root)],
            env={"PYTHONPATH": engine_path},
            stdout=subprocess.PIPE,
        )
        assert scanner.stdout is not None
        for _ in range(lines):
            assert scanner.stdout.readline()
        scanner.send_signal(signal.SIGKILL)
        scanner.wait()
        scanner.stdout.close()
        store = Store(path)
        store.open()
        with store.read() as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            found = {
                f"{folder}/{name}": (row, nonce)
                for folder, name, row, nonce in db.execute(
                    "SELECT path, items.name, row, nonce FROM items JOIN folders ON number = folder"
                )
            }
        # What was there keeps its id.
        assert found.items() >= ids.items()
        ids = found
        store.close()
    store = Store(path)
    store.open()
    with store.write() as db:
        check(db)
    store.close()
    assert len(ids) == 3000
