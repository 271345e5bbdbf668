"""A scan finds what is in a share and keeps the ids of what was there before."""

from __future__ import annotations

import errno
import os
from pathlib import Path
import shutil
import socket
import threading
import time
from typing import Any

import pytest

from p2p.library import scan as scan_module
from p2p.library.scan import RootUnavailable, Stopped
from p2p.models import Kind

from .conftest import LONG_AGO, Share, settle

VIDEO, MUSIC, PHOTO = range(3)


def test_media_files_are_found_in_all_folders(share: Share) -> None:
    for path in ("a.mp4", "b/c.MP3", "b/d/e.JpG", "b/d/notes.txt", "noextension"):
        share.put(path)
    share.scan()
    assert share.paths == ["a.mp4", "b/c.MP3", "b/d/e.JpG"]
    assert share.rows("shown") == [(VIDEO,), (MUSIC,), (PHOTO,)]
    assert share.counts() == {VIDEO: (1, 7), MUSIC: (1, 7), PHOTO: (1, 7)}
    assert share.counts("b/d") == {PHOTO: (1, 7)}


def test_hidden_files_and_litter_are_left_out(share: Share) -> None:
    for path in (
        ".hidden.mp4",
        ".folder/a.mp4",
        "@eaDir/a.jpg",
        "#recycle/a.mp4",
        "$RECYCLE.BIN/a.mp4",
        "System Volume Information/a.mp4",
        "lost+found/a.mp4",
        ".mp4",
    ):
        share.put(path)
    share.put("kept/a.mp4")
    share.scan()
    assert share.paths == ["kept/a.mp4"]


def test_links_and_special_files_are_left_out(share: Share, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.mp4").write_bytes(b"secret")
    share.put("inside/a.mp4")
    (share.root / "link.mp4").symlink_to(outside / "secret.mp4")
    (share.root / "within.mp4").symlink_to(share.root / "inside" / "a.mp4")
    (share.root / "folder").symlink_to(outside)
    (share.root / "folder.mp4").symlink_to(outside)
    (share.root / "loop").symlink_to(share.root)
    os.mkfifo(share.root / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(share.root / "socket.mp4"))
        share.scan()
    assert share.paths == ["inside/a.mp4"]


def test_a_folder_may_be_called_like_a_file(share: Share) -> None:
    share.put("Best of.mp3/a.mp3")
    share.scan()
    assert share.paths == ["Best of.mp3/a.mp3"]


def test_only_the_kinds_of_the_share_are_found(share: Share) -> None:
    share.put("a.mp4")
    share.put("a.mp3")
    share.kinds = (Kind.MUSIC,)
    share.scan()
    assert share.paths == ["a.mp3"]


@pytest.mark.parametrize(
    "name",
    [
        "new\nline.mp4",
        "'quotes\" and \\.mp4",
        "percent%20 #hash ?.mp4",
        "emoji 🎬🏔.mp4",
        "n" * 251 + ".mp4",
        "e\u0301 decomposed.mp4",
        "\u00e9 composed.mp4",
        " .mp4",
        "a'; DROP TABLE items; --.mp4",
        "\u202eevil.mp4",
        "tab\tbell\x07.mp4",
    ],
)
def test_any_name_is_kept_to_the_letter(share: Share, name: str) -> None:
    share.put(f"sub/{name}")
    share.scan()
    assert share.paths == [f"sub/{name}"]
    before = share.ids()
    assert not share.scan().differs
    assert share.ids() == before


def test_two_unicode_forms_of_a_name_are_two_files(share: Share) -> None:
    share.put("\u00e9.mp4")
    share.put("e\u0301.mp4")
    share.scan()
    assert len(share.paths) == 2


def test_names_that_are_not_utf8_are_skipped_and_logged_once(
    share: Share, caplog: pytest.LogCaptureFixture
) -> None:
    root = os.fsencode(share.root)
    Path(os.fsdecode(root + b"/bad\xff.mp4")).write_bytes(b"x")
    Path(os.fsdecode(root + b"/dir\xfe")).mkdir()
    share.put("good.mp4")
    share.scan()
    share.scan()
    assert share.paths == ["good.mp4"]
    assert sum("not UTF-8" in record.message for record in caplog.records) == 2


def test_a_path_that_is_too_long_to_be_opened_is_skipped(share: Share) -> None:
    share.put("good.mp4")
    here = os.open(share.root, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("deep.mp4", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    share.scan()
    assert share.paths == ["good.mp4"]


def test_deep_folders_need_no_open_file_each(share: Share) -> None:
    deep = "/".join(["d"] * 1200)
    here = os.open(share.root, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    descriptor = os.open("a.mp4", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    os.utime(descriptor, (LONG_AGO, LONG_AGO))
    os.close(descriptor)
    os.close(here)
    share.scan()
    assert share.paths == [f"{deep}/a.mp4"]


@pytest.mark.parametrize("mtime_ns", [0, -(10**18), 2**63 + 10**9, 2**62])
def test_any_time_of_change_is_taken(share: Share, mtime_ns: int) -> None:
    path = share.put("a.jpg")
    try:
        os.utime(path, ns=(mtime_ns, mtime_ns))
    except OverflowError:
        # This file system's clock does not reach that far; then no file of it can have such a time.
        os.utime(path, ns=(2**62, 2**62))
    share.scan()
    assert share.paths == ["a.jpg"]
    assert not share.scan().differs


# Identity.


def test_a_renamed_file_keeps_its_id(share: Share) -> None:
    share.put("a.mp4")
    share.scan()
    before = share.ids()
    (share.root / "a.mp4").rename(share.root / "b.mkv")
    share.scan()
    assert share.ids() == {"b.mkv": before["a.mp4"]}
    assert set(share.touched) == {before["a.mp4"]}


@pytest.mark.parametrize(("source", "target"), [("a", "z"), ("z", "a"), ("a", "a/b")])
def test_a_moved_file_keeps_its_id_wherever_it_is_met_first(
    share: Share, source: str, target: str
) -> None:
    path = share.put(f"{source}/film.mp4")
    (share.root / target).mkdir(exist_ok=True)
    share.scan()
    before = share.ids()
    path.rename(share.root / target / "film.mp4")
    share.scan()
    assert share.ids() == {f"{target}/film.mp4": before[f"{source}/film.mp4"]}


def test_a_moved_file_keeps_its_id_when_its_folders_are_scanned_one_by_one(
    share: Share,
) -> None:
    path = share.put("a/film.mp4")
    share.put("b/other.mp4")
    share.scan()
    before = share.ids()
    path.rename(share.root / "b" / "film.mp4")
    share.scan("b")
    share.scan("a")
    assert share.ids()["b/film.mp4"] == before["a/film.mp4"]
    assert share.paths == ["b/film.mp4", "b/other.mp4"]


def test_renaming_a_folder_keeps_the_ids_of_all_that_is_in_it(share: Share) -> None:
    for number in range(300):
        share.put(f"old/deep/{number}.jpg", content=str(number))
    share.scan()
    before = share.ids()
    (share.root / "old").rename(share.root / "new")
    share.scan()
    after = share.ids()
    assert {path.replace("new", "old"): each for path, each in after.items()} == before
    assert share.counts() == {PHOTO: (300, 790)}


def test_a_file_that_moves_to_another_disk_keeps_its_id(share: Share) -> None:
    path = share.put("a/film.mp4")
    (share.root / "b").mkdir()
    share.scan()
    before = share.ids()
    shutil.copy2(path, share.root / "b")
    path.unlink()
    share.scan()
    assert share.ids() == {"b/film.mp4": before["a/film.mp4"]}


def test_a_file_that_is_copied_first_and_removed_later_keeps_its_id(
    share: Share,
) -> None:
    path = share.put("z/film.mp4")
    (share.root / "b").mkdir()
    share.scan()
    before = share.ids()
    shutil.copy2(path, share.root / "b")
    share.scan("b")
    path.unlink()
    share.scan("z")
    assert share.ids() == {"b/film.mp4": before["z/film.mp4"]}


def test_which_of_several_copies_moved_is_not_guessed(share: Share) -> None:
    path = share.put("a/film.mp4")
    share.put("other.mp4")
    share.scan()
    before = share.ids()
    for folder in ("b", "c"):
        (share.root / folder).mkdir()
        shutil.copy2(path, share.root / folder)
    path.unlink()
    share.scan()
    after = share.ids()
    assert after.keys() == {"b/film.mp4", "c/film.mp4", "other.mp4"}
    assert before["a/film.mp4"] not in after.values()


def test_an_overwritten_file_keeps_its_id(share: Share) -> None:
    share.put("a.mp4", "old")
    share.scan()
    before = share.ids()
    share.put("a.mp4", "new and longer", at=LONG_AGO + 5)
    share.scan()
    assert share.ids() == before
    assert share.rows("size, mtime_ns") == [(14, (LONG_AGO + 5) * 10**9)]
    assert set(share.touched) == {before["a.mp4"]}


def test_a_file_that_replaces_another_leaves_the_id_to_the_place(share: Share) -> None:
    share.put("a.mp4", "one")
    share.put("b.mp4", "another")
    share.scan()
    before = share.ids()
    (share.root / "b.mp4").replace(share.root / "a.mp4")
    share.scan()
    assert share.ids() == {"a.mp4": before["a.mp4"]}
    assert share.rows("size") == [(7,)]


def test_two_links_to_one_file_are_two_items(share: Share) -> None:
    path = share.put("a.mp4")
    share.scan()
    before = share.ids()
    os.link(path, share.root / "b.mp4")
    share.scan()
    after = share.ids()
    assert after["a.mp4"] == before["a.mp4"] != after["b.mp4"]
    path.unlink()
    share.scan()
    assert share.ids() == {"b.mp4": after["a.mp4"]} or share.ids() == {
        "b.mp4": after["b.mp4"]
    }


def test_a_file_that_comes_back_keeps_its_id(share: Share, tmp_path: Path) -> None:
    path = share.put("a.mp4")
    share.put("b.mp4")
    share.scan()
    before = share.ids()
    path.rename(tmp_path / "aside.mp4")
    share.scan()
    assert share.paths == ["b.mp4"]
    (tmp_path / "aside.mp4").rename(path)
    share.scan()
    assert share.ids() == before


def test_a_file_that_moves_to_the_place_of_one_that_is_gone_keeps_its_own_id(
    share: Share,
) -> None:
    path = share.put("a.mp4", "one")
    other = share.put("b.mp4", "another")
    share.scan()
    before = share.ids()
    path.unlink()
    share.scan()
    other.rename(path)
    share.scan()
    assert share.ids() == {"a.mp4": before["b.mp4"]}


def test_what_stays_away_is_forgotten_by_the_scan_after(share: Share) -> None:
    path = share.put("folder/a.mp4")
    share.put("b.mp4")
    share.scan()
    path.unlink()
    path.parent.rmdir()
    share.scan()
    assert share.paths == ["b.mp4"]
    assert share.rows("name", "gone IS NOT NULL") == [("a.mp4",)]
    time.sleep(0.01)
    share.scan()
    assert share.rows("name", "true") == [("b.mp4",)]
    assert len(share.purged) == 1
    with share.store.read() as db:
        assert db.execute("SELECT path FROM folders").fetchall() == [("",)]


def test_the_same_index_gives_the_same_ids(share: Share) -> None:
    for number in range(50):
        share.put(f"{number % 3}/{number}.mp4", content=str(number))
    share.scan()
    before = share.ids()
    share.store.close()
    share.store.open()
    share.scan()
    assert share.ids() == before
    assert share.touched == []


def test_ids_are_unlike_each_other(share: Share) -> None:
    for number in range(200):
        share.put(f"{number}.mp4")
    share.scan()
    ids = list(share.ids().values())
    assert len({each[:4] for each in ids}) > 190
    assert all(len(each) == 26 for each in ids)


# What cannot be read, and what is away.


def test_an_unreadable_folder_keeps_its_items_and_is_logged_once(
    share: Share,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    share.put("good/a.mp4")
    share.put("bad/b.mp4")
    share.put("bad/below/c.mp4")
    share.scan()
    before = share.ids()

    real = os.open

    def broken(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == "bad":
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *args, **kwargs)

    # Nothing else makes a disk fail on demand where tests run as root.
    monkeypatch.setattr(os, "open", broken)
    share.put("good/new.mp4")
    share.scan()
    share.scan()
    monkeypatch.undo()
    assert share.ids().items() > before.items()
    assert sum("Input/output" in record.message for record in caplog.records) == 1
    assert share.rows("name", "gone IS NOT NULL") == []


def test_nothing_is_forgotten_while_a_part_cannot_be_read(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = share.put("good/a.mp4")
    share.put("bad/b.mp4")
    share.scan()
    gone.unlink()
    real = os.open

    def broken(path: Any, *args: Any, **kwargs: Any) -> int:
        if path == "bad":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", broken)
    for _ in range(3):
        time.sleep(0.01)
        share.scan()
    assert share.purged == []
    assert len(share.rows("name", "gone IS NOT NULL")) == 1


def test_a_share_without_its_root_keeps_its_items(share: Share, tmp_path: Path) -> None:
    share.put("a.mp4")
    share.scan()
    before = share.ids()
    share.root.rename(tmp_path / "unplugged")
    with pytest.raises(RootUnavailable):
        share.scan()
    assert share.ids() == before
    (tmp_path / "unplugged").rename(share.root)
    share.scan()
    assert share.ids() == before


def test_an_empty_mount_point_is_not_an_emptied_share(
    share: Share, tmp_path: Path
) -> None:
    share.put("a/b.mp4")
    share.scan()
    before = share.ids()
    share.root.rename(tmp_path / "disk")
    share.root.mkdir()
    (share.root / ".hidden").touch()
    with pytest.raises(RootUnavailable, match="not mounted"):
        share.scan()
    assert share.ids() == before
    shutil.rmtree(share.root)
    (tmp_path / "disk").rename(share.root)
    share.scan()
    assert share.ids() == before


def test_an_emptied_share_is_empty(share: Share) -> None:
    share.put("a.mp4").unlink()
    share.put("b.mp4")
    share.scan()
    (share.root / "b.mp4").unlink()
    share.scan()
    assert share.paths == []
    assert share.counts() == {}


def test_a_disk_that_was_mounted_in_a_share_keeps_its_items(
    share: Share, tmp_path: Path
) -> None:
    share.put("usb/deep/a.mp4")
    share.put("b.mp4")
    share.scan()
    before = share.ids()
    # As if the folder had been a disk of its own.
    with share.store.write() as db:
        db.execute("UPDATE folders SET device = 1 WHERE path LIKE 'usb%'")
    (share.root / "usb").rename(tmp_path / "disk")
    (share.root / "usb").mkdir()
    share.scan()
    share.scan()
    assert share.ids() == before
    (share.root / "usb").rmdir()
    (tmp_path / "disk").rename(share.root / "usb")
    share.scan()
    assert share.ids() == before


def test_a_folder_that_was_replaced_by_an_empty_one_is_empty(share: Share) -> None:
    share.put("folder/a.mp4")
    share.put("b.mp4")
    share.scan()
    before = share.ids()
    (share.root / "folder").rename(share.root / "renamed")
    (share.root / "folder").mkdir()
    share.scan()
    assert share.ids() == {
        "renamed/a.mp4": before["folder/a.mp4"],
        "b.mp4": before["b.mp4"],
    }


def test_a_file_in_the_place_of_the_root_is_no_share(
    share: Share, tmp_path: Path
) -> None:
    share.put("a.mp4")
    share.scan()
    share.root.rename(tmp_path / "away")
    share.root.touch()
    with pytest.raises(RootUnavailable):
        share.scan()
    assert share.paths == ["a.mp4"]
    share.root.unlink()
    share.root.mkdir()


def test_a_folder_replaced_by_a_link_out_of_the_share_is_gone(
    share: Share, tmp_path: Path
) -> None:
    share.put("folder/a.mp4")
    share.put("b.mp4")
    share.scan()
    outside = tmp_path / "outside"
    (share.root / "folder").rename(outside)
    (share.root / "folder").symlink_to(outside)
    share.scan()
    assert share.paths == ["b.mp4"]
    share.scan("folder")
    assert share.paths == ["b.mp4"]


# Settling.


def test_a_file_that_was_just_written_settles_first(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "SETTLE", 0.3)
    share.put("folder/a.mp4", at=time.time())
    share.put("folder/old.mp4")
    outcome = share.scan()
    assert share.paths == ["folder/old.mp4"]
    (due,) = outcome.unsettled.values()
    assert outcome.unsettled.keys() == {"folder"}
    assert 0 < due - time.time() < 1
    time.sleep(max(0.0, due - time.time()))
    assert share.scan("folder").unsettled == {}
    assert share.paths == ["folder/a.mp4", "folder/old.mp4"]


def test_a_file_that_is_being_overwritten_stays_as_it_was_until_it_settles(
    share: Share,
) -> None:
    share.put("a.mp4", "old")
    share.scan()
    share.put("a.mp4", "half of the new", at=time.time())
    share.scan()
    assert share.rows("size") == [(3,)]
    settle(share.root / "a.mp4")
    share.scan()
    assert share.rows("size") == [(15,)]


def test_a_known_file_that_moves_need_not_settle(share: Share) -> None:
    now = time.time()
    path = share.put("a.mp4", at=now - 10)
    share.put("b.mp4")
    share.scan()
    before = share.ids()
    os.utime(path, (LONG_AGO, now))
    settle(path)
    share.scan()
    os.utime(path, (now, now))
    with share.store.write() as db:
        db.execute(
            "UPDATE items SET mtime_ns = ? WHERE name = 'a.mp4'",
            (path.stat().st_mtime_ns,),
        )
    path.rename(share.root / "c.mp4")
    share.scan()
    assert share.ids()["c.mp4"] == before["a.mp4"]


def test_a_clock_that_is_ahead_keeps_no_file_out(share: Share) -> None:
    share.put("a.mp4", at=time.time() + 3600)
    assert share.scan().unsettled == {}
    assert share.paths == ["a.mp4"]


# What else a scan notes.


def test_what_is_there_from_the_start_counts_as_added_when_it_was_changed(
    share: Share,
) -> None:
    share.put("old.mp4", at=LONG_AGO)
    share.put("future.mp4", at=time.time() + 10_000)
    share.scan()
    begun = time.time()
    share.put("new.mp4", at=LONG_AGO)
    share.scan()
    added = dict(share.rows("name, added"))
    assert added["old.mp4"] == LONG_AGO
    assert added["future.mp4"] <= begun
    assert begun - 1 <= added["new.mp4"] <= time.time()


def test_subtitles_beside_a_video_belong_to_it(share: Share) -> None:
    share.put("Film.mkv")
    share.put("Film.de.srt")
    share.put("Film.srt")
    share.scan()
    (identifier,) = share.ids().values()

    def subtitles() -> list[tuple[str, str | None]]:
        with share.store.read() as db:
            return db.execute(
                "SELECT name, language FROM subtitles ORDER BY position"
            ).fetchall()

    assert subtitles() == [("Film.de.srt", "de"), ("Film.srt", None)]
    share.touched.clear()
    (share.root / "Film.srt").unlink()
    share.scan()
    assert subtitles() == [("Film.de.srt", "de")]
    assert share.touched == [identifier]
    share.put("Film.fr.vtt")
    share.scan()
    assert subtitles() == [("Film.de.srt", "de"), ("Film.fr.vtt", "fr")]
    (share.root / "Film.mkv").rename(share.root / "Other.mkv")
    share.scan()
    assert subtitles() == []
    (share.root / "Film.de.srt").rename(share.root / "Other.de.srt")
    share.scan()
    assert subtitles() == [("Other.de.srt", "de")]


def test_new_and_renamed_items_are_found_by_their_words(share: Share) -> None:
    share.put("Ferien/Übung macht den Meister.mp4")
    share.put("東京物語.mp4")
    share.scan()
    assert share.found("ubung") == ["Übung macht den Meister.mp4"]
    assert share.found("ferien") == ["Übung macht den Meister.mp4"]
    assert share.found('"京 物"') == ["東京物語.mp4"]
    (share.root / "東京物語.mp4").rename(share.root / "Tokyo.mp4")
    share.scan()
    assert share.found('"京 物"') == []
    assert share.found("tokyo") == ["Tokyo.mp4"]
    (share.root / "Tokyo.mp4").unlink()
    share.scan()
    assert share.found("tokyo") == []


def test_two_shares_do_not_meddle_with_each_other(share: Share, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = Share(tmp_path / "second", share.store, "second")
    path = share.put("a.mp4")
    second.put("b.mp4")
    share.scan()
    second.scan()
    first_id = share.ids()["a.mp4"]
    path.rename(second.root / "a.mp4")
    second.scan()
    share.scan()
    assert share.paths == []
    assert second.ids()["a.mp4"] != first_id


def test_a_scan_ends_when_it_is_told_to_and_goes_on_later(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "BATCH", 20)
    for number in range(200):
        share.put(f"{number:03}/a.mp4")
    stop = threading.Event()

    def progress(seen: int) -> None:
        if seen > 50:
            stop.set()

    with pytest.raises(Stopped):
        share.scan(stop=stop, progress=progress)
    before = share.ids()
    assert 50 <= len(before) < 200
    share.scan()
    assert share.ids().items() > before.items()
    assert len(share.paths) == 200
    # The first scan never came to its end, so all of these were there from the start.
    assert set(share.rows("added")) == {(LONG_AGO,)}


def test_an_unchanged_share_is_left_alone(share: Share) -> None:
    for number in range(20):
        share.put(f"{number}/a.mp4")
    share.scan()
    with share.store.read() as db:
        before = db.execute("SELECT value FROM state").fetchone()
    outcome = share.scan()
    assert not outcome.differs
    assert outcome.items == 20
    assert not outcome.folders_changed
    with share.store.read() as db:
        assert db.execute("SELECT value FROM state").fetchone() == before


def test_a_folder_that_has_to_be_compared_file_by_file_is_the_same(
    share: Share,
) -> None:
    for number in range(20):
        share.put(f"folder/{number}.mp4")
    share.scan()
    before = share.ids()
    with share.store.write() as db:
        db.execute("UPDATE folders SET listing = NULL")
    assert not share.scan().differs
    assert share.ids() == before


def test_a_file_that_moved_away_and_back_is_seen(share: Share) -> None:
    path = share.put("a/x.mp4")
    share.put("b/y.mp4")
    share.scan()
    before = share.ids()
    path.rename(share.root / "b" / "x.mp4")
    share.scan("b")
    (share.root / "b" / "x.mp4").rename(path)
    share.scan("a")
    share.scan("b")
    assert share.ids() == before
