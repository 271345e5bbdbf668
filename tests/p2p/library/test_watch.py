"""The watcher says which folders to look at, and why it cannot."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
import threading
import time

import pytest

from p2p.library import watch
from p2p.library.watch import Watcher, limit_of, limit_value


class Watched:
    """A watcher, and what it told."""

    def __init__(self, root: Path, *folders: str) -> None:
        self.ready = threading.Event()
        self.changed: set[str] = set()
        self.failed: list[tuple[str, str | None]] = []
        self.watcher = Watcher(
            str(root),
            folders,
            ready=self.ready.set,
            changed=self.changed.update,
            failed=lambda reason, setting: self.failed.append((reason, setting)),
        )
        self.watcher.start()
        assert self.ready.wait(10)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, self.changed
            time.sleep(0.02)

    def stop(self) -> None:
        self.watcher.stop()
        self.watcher._thread.join(10)
        assert not self.watcher._thread.is_alive()


def test_only_changes_that_matter_are_told(tmp_path: Path) -> None:
    for folder in ("a", "b", "c", "d", "e"):
        (tmp_path / folder).mkdir()
    (tmp_path / "d" / "old.mp4").touch()
    (tmp_path / "e" / "below").mkdir()
    watched = Watched(tmp_path, "", "a", "b", "c", "d", "e", "e/below")
    (tmp_path / "a" / "new.mp4").touch()
    (tmp_path / "b" / "notes.txt").touch()
    (tmp_path / "b" / ".hidden.mp4").touch()
    (tmp_path / "c" / "subtitles.SRT").touch()
    (tmp_path / "d" / "old.mp4").unlink()
    (tmp_path / "e" / "below").rmdir()
    watched.until(lambda: watched.changed == {"a", "c", "d", "e"})
    (tmp_path / "New folder").mkdir()
    watched.until(lambda: "" in watched.changed)
    watched.stop()
    assert "b" not in watched.changed
    assert watched.failed == []


def test_folders_that_are_not_listed_are_not_watched(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    watched = Watched(tmp_path, "")
    (tmp_path / "below" / "a.mp4").touch()
    time.sleep(1)
    (tmp_path / "a.mp4").touch()
    watched.until(lambda: bool(watched.changed))
    watched.stop()
    assert watched.changed == {""}


def test_a_folder_that_vanished_meanwhile_keeps_no_other_from_being_watched(
    tmp_path: Path,
) -> None:
    watched = Watched(tmp_path, "", "vanished", "vanished/deep")
    (tmp_path / "a.mp4").touch()
    watched.until(lambda: watched.changed == {""})
    watched.stop()


def test_nothing_is_told_after_the_end(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "")
    watched.stop()
    (tmp_path / "a.mp4").touch()
    time.sleep(0.5)
    assert watched.changed == set()
    assert watched.failed == []


UNREADABLE = b"caf\xe9.mp4"
"""A name that is no UTF-8, which the library that watches cannot tell of."""


def test_a_name_that_is_no_utf_8_ends_no_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "AGAIN", 0.1)
    for folder in ("a", 'b "quoted\\" ö', "c"):
        (tmp_path / folder).mkdir()
    watched = Watched(tmp_path, "", "a", 'b "quoted\\" ö', "c")
    for folder in ("a", 'b "quoted\\" ö', "a"):
        path = os.fsencode(tmp_path / folder) + b"/" + UNREADABLE
        Path(os.fsdecode(path)).touch()
        watched.until(lambda folder=folder: folder in watched.changed)
        watched.changed.clear()
        Path(os.fsdecode(path)).unlink()
        watched.until(lambda folder=folder: folder in watched.changed)
        # The next change is seen as if nothing had happened.
        (tmp_path / folder / f"{time.monotonic_ns()}.mp4").touch()
        watched.until(lambda folder=folder: folder in watched.changed)
        watched.changed.clear()
    watched.stop()
    assert watched.failed == []


def test_what_happens_while_a_watch_begins_anew_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "AGAIN", 1.0)
    monkeypatch.setattr(watch, "LOOK_AT_ALL", 0.1)
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    watched = Watched(tmp_path, "", "a", "b", "c")
    Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"/" + UNREADABLE)).touch()
    (tmp_path / "b" / "new.mp4").touch()
    watched.until(lambda: watched.changed == {"", "a", "b", "c"})
    watched.stop()


def test_a_watch_that_begins_anew_ends_when_it_is_told_to(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + UNREADABLE)).touch()
    watched.stop()
    assert watched.failed == []


@pytest.mark.parametrize(
    ("reason", "setting"),
    [
        (
            'OS file watch limit reached. about ["/media"]',
            "fs.inotify.max_user_watches",
        ),
        ("No space left on device (os error 28)", "fs.inotify.max_user_watches"),
        ("Too many open files (os error 24)", "fs.inotify.max_user_instances"),
        ("Permission denied", None),
        ("", None),
    ],
)
def test_the_setting_that_is_too_low_is_named(reason: str, setting: str | None) -> None:
    assert limit_of(reason) == setting


def test_the_value_of_a_setting_is_told_where_there_is_one() -> None:
    assert int(limit_value("fs.inotify.max_user_watches")) > 0
    assert limit_value("fs.inotify.nothing") == ""
