"""No path leads out of a share."""

from __future__ import annotations

import errno
import os
from pathlib import Path
import threading

import pytest

from p2p.core import paths
from p2p.core.opening import is_still_there, open_described
from p2p.models import LocalFile


def test_a_file_is_found_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.mp4").write_bytes(b"123")
    (tmp_path / "d.mp4").write_bytes(b"12")
    with paths.opened_root(str(tmp_path)) as root:
        assert paths.stat_file(root, "a/b", "c.mp4").st_size == 3
        assert paths.stat_file(root, "", "d.mp4").st_size == 2


@pytest.mark.parametrize("path", ["link", "link/below", "real/link", "link/.."])
def test_no_link_leads_to_a_root(tmp_path: Path, path: str) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "link").symlink_to("below")
    with paths.opened_root(str(tmp_path / "real" / "below")):
        pass
    with pytest.raises(OSError), paths.opened_root(str(tmp_path / path)):
        pass


def test_what_is_the_engines_own_may_be_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = tmp_path / "real" / "a.jpg"
    path.touch()
    (tmp_path / "link").symlink_to("real")
    own = LocalFile.of(str(tmp_path / "link" / "a.jpg"), "a.jpg", "", path.stat())
    assert is_still_there(own)
    os.close(open_described(own))


@pytest.mark.parametrize("position", [0, 1, 2])
def test_no_component_may_be_a_link(tmp_path: Path, position: int) -> None:
    outside = tmp_path / "outside"
    (outside / "b").mkdir(parents=True)
    (outside / "b" / "c.mp4").touch()
    (outside / "c.mp4").touch()
    share = tmp_path / "share"
    (share / "a" / "b").mkdir(parents=True)
    (share / "a" / "b" / "c.mp4").touch()
    target = [share / "a", share / "a" / "b", share / "a" / "b" / "c.mp4"][position]
    leads = [outside, outside / "b", outside / "c.mp4"][position]
    target.rename(tmp_path / "aside")
    target.symlink_to(leads)
    with (
        paths.opened_root(str(share)) as root,
        pytest.raises(OSError) as caught,
    ):
        paths.stat_file(root, "a/b", "c.mp4")
    assert paths.is_absence(caught.value)


@pytest.mark.parametrize("name", ["..", ".", "folder", "pipe", "link"])
def test_only_regular_files_are_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    with paths.opened_root(str(tmp_path)) as root, pytest.raises(paths.NotRegular):
        paths.stat_file(root, "", name)


def test_a_folder_that_is_swapped_all_the_time_never_leads_outside(
    tmp_path: Path,
) -> None:
    share, outside = tmp_path / "share", tmp_path / "outside"
    for base, content in ((share / "a", b"inside"), (outside, b"the secret")):
        base.mkdir(parents=True)
        (base / "f.mp4").write_bytes(content)
    (share / "link").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (share / "a").rename(share / "real")
            (share / "link").rename(share / "a")
            (share / "a").rename(share / "link")
            (share / "real").rename(share / "a")

    swapper = threading.Thread(target=swap)
    swapper.start()
    found = 0
    refused: list[OSError] = []
    try:
        with paths.opened_root(str(share)) as root:
            for _ in range(3000):
                try:
                    assert paths.stat_file(root, "a", "f.mp4").st_size == 6
                    found += 1
                except OSError as err:
                    refused.append(err)
    finally:
        stop.set()
        swapper.join()
    assert found and refused
    assert all(paths.is_absence(err) for err in refused)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with paths.opened_root(str(tmp_path)) as root:
        for _ in range(50):
            for folder in ("a/b", "a/b/missing/c", "a/missing"):
                with pytest.raises(OSError):
                    paths.stat_file(root, folder, "x.mp4")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_cannot_be_seen_is_not_absent() -> None:
    assert paths.is_absence(OSError(errno.ENOENT, ""))
    assert not paths.is_absence(OSError(errno.EIO, ""))
    assert not paths.is_absence(PermissionError(errno.EACCES, ""))


def test_parts_are_joined_below_any_root() -> None:
    assert paths.join("/", "a", "b") == "/a/b"
    assert paths.join("/media/", "", "b") == "/media/b"
    assert paths.join("/media", "") == "/media"
