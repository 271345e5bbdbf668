"""Where the kernel has Landlock, the engine cannot write to a share, and everything else works as before."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys
import textwrap
from typing import Any

import pytest

from p2p.core import landlock
from p2p.core.landlock import Protection, State, restrict

ENGINE_PATH = Path(landlock.__file__).parents[2]


def run(tmp_path: Path, code: str, *, folders: str = "data") -> Any:
    """Run code in a process that restricted itself, and return what it put into `result`."""
    for name in ("data", "cache", "share/series", "share/empty"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "share/film.mp4").write_bytes(b"the user's film")
    (tmp_path / "share/series/victim").write_bytes(bytes(15))
    program = f"""
import json, os, socket, subprocess, sys, threading
from pathlib import Path
sys.path.insert(0, {str(ENGINE_PATH)!r})
from p2p.core.landlock import restrict
root = Path({str(tmp_path)!r})
data, cache, share, film = root / "data", root / "cache", root / "share", root / "share/film.mp4"
before = film.open("rb")
protection = restrict([root / name for name in {folders!r}.split()])
result = {{}}

def attempt(name, action):
    try:
        action()
    except OSError as err:
        result[name] = type(err).__name__
    else:
        result[name] = "done"

{textwrap.dedent(code)}
print(json.dumps([protection.state, protection.version, result]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    state, version, result = json.loads(done.stdout.splitlines()[-1])
    if state == "off":
        pytest.skip("the kernel has no Landlock")
    return version, result


EVERYTHING = """
link, inside = data / "link", data / "inside"
inside.write_bytes(b"mine")
link.symlink_to(film)
actions = {
    "write": lambda: film.write_bytes(b"x"),
    "append": lambda: film.open("ab"),
    "update": lambda: film.open("r+b"),
    "through a link": lambda: link.open("r+b"),
    "through its descriptor": lambda: open(f"/proc/self/fd/{before.fileno()}", "r+b"),
    "truncate": lambda: os.truncate(film, 0),
    "open truncating": lambda: os.open(film, os.O_RDONLY | os.O_TRUNC),
    "remove": film.unlink,
    "rename": lambda: film.rename(share / "other"),
    "move out": lambda: film.rename(data / "film"),
    "move in": lambda: inside.rename(share / "inside"),
    "replace": lambda: inside.replace(film),
    "link in": lambda: os.link(inside, share / "linked"),
    "create": lambda: (share / "new").touch(),
    "make folder": lambda: (share / "folder").mkdir(),
    "remove folder": (share / "empty").rmdir,
    "symbolic link": lambda: (share / "symbolic").symlink_to("/"),
    "pipe": lambda: os.mkfifo(share / "pipe"),
    "socket": lambda: socket.socket(socket.AF_UNIX).bind(str(share / "socket")),
    "home": lambda: (root / "elsewhere").touch(),
}
"""


def test_nothing_in_a_share_can_be_changed(tmp_path: Path) -> None:
    version, result = run(
        tmp_path,
        EVERYTHING
        + """
for name, action in actions.items():
    attempt(name, action)
assert film.read_bytes() == before.read() == b"the user's film"
""",
    )
    refused = {"PermissionError", "OSError"}
    done = {name for name, outcome in result.items() if outcome not in refused}
    assert done <= ({"truncate", "open truncating"} if version < 3 else set())
    assert len(result) == 20
    assert sorted(each.name for each in (tmp_path / "share").iterdir()) == [
        "empty",
        "film.mp4",
        "series",
    ]


def test_all_that_is_possible_without_it(tmp_path: Path) -> None:
    """The attempts above are sound: unrestricted, each of them succeeds."""
    _, result = run(
        tmp_path,
        EVERYTHING
        + """
for name, action in actions.items():
    film.unlink(missing_ok=True)
    film.write_bytes(b"x")
    inside.write_bytes(b"mine")
    (share / "empty").mkdir(exist_ok=True)
    attempt(name, action)
""",
        folders="data .",
    )
    assert {name for name, outcome in result.items() if outcome != "done"} <= {
        # The file that was open is another one by now.
        "through its descriptor"
    }


def test_threads_and_processes_are_bound_too(tmp_path: Path) -> None:
    _, result = run(
        tmp_path,
        """
def in_thread():
    attempt("thread", lambda: film.open("r+b"))

thread = threading.Thread(target=in_thread)
thread.start()
thread.join()
child = subprocess.run(
    [sys.executable, "-c", f"open({str(film)!r}, 'r+b')"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
)
result["process"] = child.returncode
""",
    )
    assert result == {"thread": "PermissionError", "process": 1}


def test_the_engines_own_folders_are_as_before(tmp_path: Path) -> None:
    _, result = run(
        tmp_path,
        """
def all_kinds():
    for folder in (data, cache):
        (folder / "below").mkdir()
        (folder / "below/file").write_bytes(b"content")
        os.truncate(folder / "below/file", 2)
        (folder / "below/file").rename(folder / "moved")
        socket.socket(socket.AF_UNIX).bind(str(folder / "socket"))
    (data / "moved").rename(cache / "moved again")
    (cache / "moved again").unlink()
    open("/dev/null", "r+b").write(b"x")

import sqlite3

def database():
    with sqlite3.connect(data / "some.db") as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE some (thing)")
        connection.execute("INSERT INTO some VALUES (1)")

attempt("files", all_kinds)
attempt("database", database)
attempt("reading", lambda: list(share.iterdir()))
""",
        folders="data cache",
    )
    assert result == {"files": "done", "database": "done", "reading": "done"}


def test_libtorrent_serves_and_fetches_but_cannot_write_to_a_share(
    tmp_path: Path,
) -> None:
    _, result = run(
        tmp_path,
        """
import asyncio
from hashlib import sha1
from p2p.torrent.metainfo import make
from p2p.torrent.priority import Priority
from p2p.torrent.session import (Session, SessionSettings)

class Listener:
    def __init__(self):
        self.finished, self.faults = [], []
    def piece_finished(self, index):
        self.finished.append(index)
    def peer_connected(self):
        pass
    def peer_lost(self):
        pass
    def failed(self, message):
        self.faults.append(message)

async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)

async def main():
    content = film.read_bytes()
    meta = make(len(content), sha1(content).digest(), bytes(16))
    settings = SessionSettings(addresses=("127.0.0.1",))
    here, there = await Session.open(settings), await Session.open(settings)
    await here.seed(meta, os.open(film, os.O_RDONLY), "film", Listener())
    target = data / "fetched"
    target.touch()
    os.truncate(target, len(content))
    listener = Listener()
    torrent = await there.fetch(meta, target, "film", listener)
    torrent.want({0: Priority.NOW})
    torrent.connect("127.0.0.1", here.port)
    await until(lambda: listener.finished)
    result["fetched"] = target.read_bytes() == content
    await torrent.remove()
    # Even when it is told to, it does not write there.
    victim = share / "series/victim"
    listener = Listener()
    torrent = await there.fetch(meta, victim, "film", listener)
    torrent.want({0: Priority.NOW})
    torrent.connect("127.0.0.1", here.port)
    await until(lambda: listener.faults)
    result["into the share"] = victim.read_bytes() == bytes(len(content))
    await here.close()
    await there.close()

asyncio.run(main())
""",
    )
    assert result == {"fetched": True, "into the share": True}


def test_a_folder_that_is_not_there_restricts_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        restrict([tmp_path, tmp_path / "missing"])
    (tmp_path.parent / "still-free").touch()


@pytest.mark.parametrize("name", ["_CREATE_RULESET", "_RESTRICT_SELF"])
def test_a_kernel_without_it_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # There is no system call of that number.
    monkeypatch.setattr(landlock, name, 100_000)
    # It cannot be undone, and does not matter to tests.
    protection = restrict([tmp_path])
    assert protection.state is State.OFF
    assert protection.reason == "Function not implemented"
    assert not protection.covers("/somewhere")
    (tmp_path.parent / "still-free").touch()


def test_it_tells_which_folders_it_protects(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "database").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    real = str((tmp_path / "data").resolve())
    protection = Protection(State.ON, 7, None, (real,))
    assert protection.covers(str(tmp_path))
    assert protection.covers(str(tmp_path / "database"))
    assert not protection.covers(str(tmp_path / "data"))
    assert not protection.covers(str(tmp_path / "data/below"))
    assert not protection.covers(str(tmp_path / "link/below"))
    assert not Protection(State.ON, 7, None, ("/",)).covers("/media")
