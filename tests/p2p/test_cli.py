"""The engine as a process: it starts, answers on the command line, and ends whichever way it is told to."""

from __future__ import annotations

from collections.abc import Generator
import contextlib
import json
import os
from pathlib import Path
import signal
import stat
import subprocess
import sys
import tempfile
import time

import pytest

import p2p
from p2p import cli
from p2p.models.pemus_id import read_id
from p2p.models.version import VERSION
from tests.p2p.media.make import photo

MAIN = Path(p2p.__file__).with_name("__main__.py")
START_TIMEOUT = 20


class Process:
    """An engine in a process of its own."""

    def __init__(
        self, folder: Path, *options: str, stdin: int = subprocess.PIPE
    ) -> None:
        self.folder = folder
        self.socket = folder / "engine.sock"
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-I", str(MAIN), "run", *places(folder), *options],
                stdin=stdin,
                stderr=log,
            )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self.socket.exists():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def end(self, seconds: float = 5) -> int:
        return self.process.wait(timeout=seconds)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


def places(folder: Path) -> list[str]:
    return [
        "--data",
        str(folder / "data"),
        "--cache",
        str(folder / "cache"),
        "--socket",
        str(folder / "engine.sock"),
    ]


def pemus(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(MAIN), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,  # type: ignore[call-overload]
    )


def children_of(pid: int) -> set[int]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(entry.read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(entry.parent.name))
    return found


def is_gone(pid: int) -> bool:
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        )
    except OSError:
        return True


@pytest.fixture
def folder() -> Generator[Path]:
    # Not pytest's own: its path may be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="pemus-") as name:
        yield Path(name)


@pytest.fixture
def engine(folder: Path) -> Generator[Process]:
    shared = folder / "Films"
    shared.mkdir()
    (shared / "Ärger.mp4").write_bytes(b"not really a film")
    process = Process(folder, "--watch-stdin", "--share", str(shared))
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.close()


def open_to_others(folder: Path) -> set[str]:
    """Return what in a folder others than its owner may read or enter."""
    return {
        str(path.relative_to(folder))
        for path in (folder, *folder.rglob("*"))
        if not path.is_socket() and path.lstat().st_mode & 0o077
    }


def test_what_it_keeps_is_for_its_owner_only(folder: Path) -> None:
    shared = folder / "Films"
    shared.mkdir()
    photo(shared / "beach.jpg")
    os.utime(shared / "beach.jpg", (1_600_000_000, 1_600_000_000))
    # As a former release, or a backup that was brought back, may have left them.
    for name in ("data", "cache"):
        (folder / name).mkdir(mode=0o755)
    (folder / "data" / "library.db").touch(mode=0o644)
    process = Process(folder, "--share", str(shared))
    try:
        process.wait_until_ready()
        deadline = time.monotonic() + START_TIMEOUT
        while not list((folder / "cache").rglob("*.jpg")):
            assert time.monotonic() < deadline, process.log.read_text()
            time.sleep(0.05)
        assert (folder / "data" / "library.db-wal").exists()
        assert open_to_others(folder / "data") == set()
        assert open_to_others(folder / "cache") == set()
        assert folder.joinpath("Films", "beach.jpg").stat().st_mode & 0o044
    finally:
        process.process.terminate()
        process.end()
        process.close()


def test_who_it_is_may_wait_until_somebody_says_whether_it_has_friends(
    folder: Path,
) -> None:
    process = Process(folder, "--watch-stdin", "--await-config")
    try:
        process.wait_until_ready()
        assert not (folder / "data" / "identity").exists()
        shown = pemus("status", "--socket", str(process.socket))
        assert "home: " not in shown.stdout
        process.process.terminate()
        process.end()
    finally:
        process.close()
    process = Process(folder, "--watch-stdin")
    try:
        process.wait_until_ready()
        assert (folder / "data" / "identity").exists()
        shown = pemus("status", "--socket", str(process.socket))
        (home,) = (line for line in shown.stdout.splitlines() if "home: " in line)
        assert read_id(home.removeprefix("home: "))
    finally:
        process.close()


def test_help_names_every_command() -> None:
    shown = pemus("--help")
    assert shown.returncode == 0
    for command in ("run", "check", "status", "browse", "search", "transfers"):
        assert command in shown.stdout


def test_version_is_told() -> None:
    assert pemus("--version").stdout == f"pemus {VERSION}\n"


def test_check_finds_this_environment_complete() -> None:
    checked = pemus("check")
    assert checked.returncode == 0, checked.stdout
    assert checked.stdout.splitlines()[-1] == "complete"


def test_check_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # None in this place makes the import fail as if the library were not there.
    monkeypatch.setitem(sys.modules, "libtorrent", None)
    assert cli.main(["check"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "missing: libtorrent"


def test_the_folder_above_is_not_searched_for_modules(folder: Path) -> None:
    # The integration has a select.py; the standard library's would never be found behind it.
    package = folder / "pemus" / "p2p"
    package.parent.mkdir()
    package.symlink_to(MAIN.parent)
    for name in ("select.py", "asyncio.py"):
        (package.parent / name).write_text("raise SystemExit('the wrong module')")
    for options in (["-I"], []):
        shown = subprocess.run(
            [sys.executable, *options, str(package / "__main__.py"), "--version"],
            capture_output=True,
            text=True,
            check=False,
            cwd=package.parent if options else folder,
        )
        assert shown.stdout == f"pemus {VERSION}\n", shown.stderr


def test_status_is_shown_for_people(engine: Process) -> None:
    shown = pemus("status", "--socket", str(engine.socket))
    assert shown.returncode == 0, shown.stderr
    assert f"PeMuS engine {VERSION}, process {engine.process.pid}, " in shown.stdout
    assert "share " in shown.stdout


def test_shared_folder_is_browsed_and_searched(engine: Process) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while (
        "Ärger"
        not in (
            found := pemus("search", "ärger", "--socket", str(engine.socket))
        ).stdout
    ):
        assert time.monotonic() < deadline, found
    assert found.stdout.startswith("item/")
    assert pemus("browse", "--socket", str(engine.socket)).stdout.startswith(
        "all/video  "
    )


def test_without_friends_there_are_no_transfers(engine: Process) -> None:
    shown = pemus("transfers", "--socket", str(engine.socket))
    assert (shown.returncode, shown.stdout) == (0, ""), shown.stderr


def test_a_refusal_is_told_without_a_traceback(engine: Process) -> None:
    refused = pemus("browse", "no/such/place", "--socket", str(engine.socket))
    assert refused.returncode == 1
    assert refused.stderr.startswith("pemus: ")
    assert "Traceback" not in refused.stderr


def test_no_engine_is_told_without_a_traceback(folder: Path) -> None:
    refused = pemus("status", "--socket", str(folder / "none"))
    assert refused.returncode == 1
    assert refused.stderr.startswith("pemus: no engine at ")
    assert "Traceback" not in refused.stderr


def test_the_log_is_lines_of_json(engine: Process) -> None:
    assert {
        "level": "INFO",
        "logger": "p2p.engine",
        "message": f"PeMuS engine {VERSION} is ready",
    } in engine.lines()


def test_what_it_keeps_is_for_this_user_alone(engine: Process) -> None:
    for name in ("data", "cache"):
        assert stat.S_IMODE((engine.folder / name).stat().st_mode) == 0o700


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(engine: Process, number: signal.Signals) -> None:
    children = children_of(engine.process.pid)
    engine.process.send_signal(number)
    assert engine.end() == 0
    assert not engine.socket.exists()
    assert all(is_gone(child) for child in children)


def test_the_end_of_its_input_ends_it_cleanly(engine: Process) -> None:
    children = children_of(engine.process.pid)
    assert engine.process.stdin is not None
    engine.process.stdin.write(b"what is written is ignored\n")
    engine.process.stdin.flush()
    time.sleep(0.2)
    assert engine.process.poll() is None
    engine.process.stdin.close()
    assert engine.end() == 0
    assert not engine.socket.exists()
    assert all(is_gone(child) for child in children)


def test_being_told_twice_is_no_different(engine: Process) -> None:
    assert engine.process.stdin is not None
    engine.process.stdin.close()
    for _ in range(5):
        with contextlib.suppress(ProcessLookupError):
            engine.process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    # The last of them may come when all is done and Python has given the signal back to the system.
    assert engine.end() in (0, -signal.SIGTERM)
    assert not engine.socket.exists()


def test_a_stop_while_it_starts_is_a_stop(folder: Path) -> None:
    for delay in (0.3, 0.5, 0.7):
        process = Process(folder, "--watch-stdin")
        try:
            time.sleep(delay)
            assert process.process.stdin is not None
            process.process.stdin.close()
            assert process.end() == 0, process.log.read_text()
        finally:
            process.close()
    assert not process.socket.exists()


def test_a_killed_engine_leaves_a_socket_that_the_next_one_replaces(
    engine: Process,
) -> None:
    engine.process.kill()
    engine.end()
    assert engine.socket.exists()
    second = Process(engine.folder)
    try:
        deadline = time.monotonic() + START_TIMEOUT
        while pemus("status", "--socket", str(engine.socket)).returncode:
            assert time.monotonic() < deadline
        second.process.terminate()
        assert second.end() == 0
    finally:
        second.close()


def test_two_engines_do_not_share_an_index(
    engine: Process, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = [
        "--data",
        str(folder / "data"),
        "--cache",
        str(folder / "c"),
        "--socket",
        str(folder / "other.sock"),
    ]
    refused = pemus("run", *other)
    assert refused.returncode == 1
    assert "another engine uses" in refused.stderr
    assert engine.process.poll() is None


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (["--data", "{file}"], "File exists"),
        (["--socket", "/nowhere/engine.sock"], "cannot listen"),
        (["--socket", f"/tmp/{'x' * 200}"], "at most 107"),
        (["--share", "/nowhere"], "is not a folder"),
        (["--share", "{file}"], "is not a folder"),
        (["--watch-stdin"], "needs a pipe"),
    ],
)
def test_why_it_cannot_start_is_one_line(
    folder: Path, wrong: list[str], reason: str
) -> None:
    file = folder / "file"
    file.touch()
    options = [option.format(file=file) for option in wrong]
    with file.open("rb") as stdin:
        refused = pemus("run", *places(folder), *options, stdin=stdin)
    assert refused.returncode == 1
    [line] = [json.loads(line) for line in refused.stderr.splitlines()]
    assert line["level"] == "ERROR"
    assert reason in line["message"]


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["run", "--log-level", "loud"], ["search"], ["status", "--what"]],
)
def test_wrong_arguments_are_refused_with_the_usage(arguments: list[str]) -> None:
    refused = pemus(*arguments)
    assert refused.returncode == 2
    assert "usage: pemus" in refused.stderr


def test_the_environment_decides_where_things_are_kept(folder: Path) -> None:
    environ = {
        **os.environ,
        "XDG_DATA_HOME": str(folder / "d"),
        "XDG_CACHE_HOME": "relative/is/ignored",
    }
    shown = pemus("run", "--help", env=environ)
    text = "".join(shown.stdout.split())
    assert f"{folder}/d/pemus/engine.sock" in text
    assert f"{Path.home()}/.cache/pemus" in text
