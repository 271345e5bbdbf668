"""The watcher says which folders to look at, and why it cannot."""

from __future__ import annotations

from collections.abc import Callable
import errno
import os
from pathlib import Path
import queue
import threading
import time

import asyncinotify
import pytest

from p2p.library.watch import Watcher, limit_of, limit_value


class Watched:
    """A watcher, and what it told."""

    def __init__(self, root: Path, *folders: str) -> None:
        self.ready = threading.Event()
        self.changed: set[str] = set()
        self.failed: list[OSError] = []
        self.watcher = Watcher(
            str(root),
            folders,
            ready=self.ready.set,
            changed=self.changed.update,
            failed=self.failed.append,
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
        self.until(lambda: not threads())


def threads() -> list[threading.Thread]:
    """Return the threads of watchers that run."""
    return [each for each in threading.enumerate() if each.name == "watch"]


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
    (tmp_path / "a.mp4").touch()
    watched.until(lambda: bool(watched.changed))
    watched.stop()
    assert watched.changed == {""}


def test_reading_a_file_wakes_nobody(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "")
    reads = 0x01 | 0x10 | 0x20  # IN_ACCESS, IN_CLOSE_NOWRITE, IN_OPEN
    assert [mask & reads for mask in watch_masks()] == [0]
    watched.stop()


def watch_masks() -> list[int]:
    """Return the events of each inotify watch of this process. Source: proc_pid_fdinfo(5)."""
    masks = []
    for info in Path("/proc/self/fdinfo").iterdir():
        try:
            lines = info.read_text().splitlines()
        except FileNotFoundError:
            continue
        masks += [
            int(line.partition(" mask:")[2].split()[0], 16)
            for line in lines
            if line.startswith("inotify ")
        ]
    return masks


def test_a_link_in_the_place_of_a_folder_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shared = tmp_path / "shared"
    for folder in (outside, shared, shared / "real"):
        folder.mkdir()
    (shared / "linked").symlink_to(outside)
    watched = Watched(shared, "linked", "real")
    (outside / "private.mp4").touch()
    (shared / "real" / "a.mp4").touch()
    watched.until(lambda: bool(watched.changed))
    watched.stop()
    assert watched.changed == {"real"}


def test_a_root_that_goes_away_is_looked_at(tmp_path: Path) -> None:
    root = tmp_path / "shared"
    root.mkdir()
    watched = Watched(root, "")
    root.rename(tmp_path / "elsewhere")
    watched.until(lambda: watched.changed == {""})
    watched.stop()


def test_a_busy_folder_is_told_of_before_it_is_quiet(tmp_path: Path) -> None:
    watched = Watched(tmp_path, "")
    count = 0
    while not watched.changed:
        (tmp_path / f"{(count := count + 1) % 100}.mp4").touch()
        assert count < 10_000_000
    watched.stop()


def test_all_folders_are_looked_at_when_the_system_dropped_events(
    tmp_path: Path,
) -> None:
    """The queue of a watcher holds 16,384 events by default. One that is busy elsewhere does not empty it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    told, go_on = threading.Event(), threading.Event()
    changed: set[str] = set()

    def hold(folders: set[str]) -> None:
        changed.update(folders)
        told.set()
        go_on.wait(60)

    ready = threading.Event()
    watcher = Watcher(
        str(tmp_path),
        ("", "a", "b"),
        ready=ready.set,
        changed=hold,
        failed=lambda err: None,
    )
    watcher.start()
    assert ready.wait(10)
    (tmp_path / "a" / "first.mp4").touch()
    assert told.wait(10)
    # Two names in turns, as the system joins events that are alike.
    for number in range(most + 100):
        (tmp_path / "a" / f"{number % 2}.mp4").touch()
    go_on.set()
    end = time.monotonic() + 10
    while changed != {"", "a", "b"}:
        assert time.monotonic() < end, changed
        time.sleep(0.02)
    watcher.stop()


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
    assert watched.changed == set()
    assert watched.failed == []


def test_a_name_that_is_no_utf_8_is_told_of_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    watched = Watched(tmp_path, "", "a")
    path = Path(os.fsdecode(os.fsencode(tmp_path / "a") + b"/caf\xe9.mp4"))
    path.touch()
    watched.until(lambda: watched.changed == {"a"})
    watched.changed.clear()
    path.unlink()
    watched.until(lambda: watched.changed == {"a"})
    watched.stop()
    assert watched.failed == []


@pytest.mark.parametrize(
    ("number", "setting"),
    [
        (errno.ENOSPC, "fs.inotify.max_user_watches"),
        (errno.EMFILE, "fs.inotify.max_user_instances"),
        (errno.EACCES, None),
    ],
)
def test_the_setting_that_is_too_low_is_named(number: int, setting: str | None) -> None:
    assert limit_of(OSError(number, os.strerror(number))) == setting


def test_a_system_without_room_for_more_watchers_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(asyncinotify, "Inotify", refuse)
    failed = queue.SimpleQueue[OSError]()
    Watcher(
        str(tmp_path),
        ("",),
        ready=lambda: None,
        changed=lambda folders: None,
        failed=failed.put,
    ).start()
    assert limit_of(failed.get(timeout=10)) == "fs.inotify.max_user_instances"


def test_the_value_of_a_setting_is_told_where_there_is_one() -> None:
    assert int(limit_value("fs.inotify.max_user_watches")) > 0
    assert limit_value("fs.inotify.nothing") == ""
