"""Who a home is: its key, its ID, and what people type."""

from __future__ import annotations

import errno
import os
from pathlib import Path
import stat
import subprocess
import sys

from hypothesis import given, strategies as st
import pytest

from p2p.models.homes import ID_ALPHABET, ID_LENGTH, is_home
from p2p.models.pemus_id import grouped, pemus_id, read_id
from p2p.net.identity import (
    Identity,
    IdentityError,
    IdentityLost,
    is_signed,
    load,
    renew,
    statement,
)

KEY = bytes(range(32))
HOME = pemus_id(KEY)
SERVER = Path(__file__).parents[3] / "signaling_addon"


RFC_8032_TEST_1 = bytes.fromhex(
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that no identity was ever in."""
    return tmp_path / "identity"


@pytest.fixture
def kept(path: Path) -> Identity:
    """An identity in its file."""
    return load(path, first=True)


def test_a_key_is_made_at_the_first_start_and_kept(path: Path) -> None:
    first = load(path, first=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(path, first=False).id == first.id
    assert is_home(first.id)
    assert list(path.parent.iterdir()) == [path]


def test_a_key_that_others_could_read_is_closed_to_them(
    path: Path, kept: Identity
) -> None:
    path.chmod(0o644)
    assert load(path, first=False).id == kept.id
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def lose(path: Path, how: str) -> None:
    """Make a key that is there useless."""
    key = path.read_bytes()
    match how:
        case "truncated":
            path.write_bytes(key[:31])
        case "too long":
            path.write_bytes(key + b"\n")
        case "empty":
            path.write_bytes(b"")
        case "zeros":
            path.write_bytes(bytes(32))
        case "erased flash":
            path.write_bytes(b"\xff" * 32)
        case "example":
            path.write_bytes(bytes(range(32)))
        case "test vector":
            path.write_bytes(RFC_8032_TEST_1)
        case "folder":
            path.unlink()
            path.mkdir()
        case "link":
            path.rename(path.with_name("elsewhere"))
            path.symlink_to("elsewhere")
        case "dangling link":
            path.unlink()
            path.symlink_to("nowhere")
        case "pipe":
            path.unlink()
            os.mkfifo(path)


LOST = (
    *("truncated", "too long", "empty", "zeros", "erased flash", "example"),
    *("test vector", "folder", "link", "dangling link", "pipe"),
)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("how", LOST)
def test_a_key_that_is_no_use_is_neither_used_nor_replaced(
    path: Path, kept: Identity, how: str, first: bool
) -> None:
    lose(path, how)
    there = path.lstat()
    with pytest.raises(IdentityLost):
        load(path, first=first)
    assert path.lstat().st_ino == there.st_ino
    assert path.lstat().st_size == there.st_size


@pytest.mark.parametrize("how", LOST)
def test_what_was_in_the_way_of_a_new_identity_is_kept(
    path: Path, kept: Identity, how: str
) -> None:
    lose(path, how)
    there = path.lstat()
    fresh = renew(path)
    (aside,) = path.parent.glob("identity.broken-*")
    assert aside.lstat().st_ino == there.st_ino
    assert load(path, first=False).id == fresh.id != kept.id


def test_a_missing_key_is_made_again_only_where_none_was_before(
    path: Path, kept: Identity
) -> None:
    path.unlink()
    with pytest.raises(IdentityLost, match="missing"):
        load(path, first=False)
    assert not path.exists()


def test_a_key_that_may_not_be_read_is_not_replaced(
    path: Path, kept: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse(name: str | Path, *arguments: int, **options: int) -> int:
        if Path(name) == path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(name, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(IdentityLost, match="Permission denied"):
        load(path, first=True)
    monkeypatch.undo()
    assert load(path, first=False).id == kept.id


def test_a_new_identity_takes_the_place_of_the_former_one(
    path: Path, kept: Identity
) -> None:
    fresh = renew(path)
    assert fresh.id != kept.id
    assert load(path, first=False).id == fresh.id
    assert list(path.parent.iterdir()) == [path]


def test_what_a_crash_left_half_written_is_not_used(path: Path, kept: Identity) -> None:
    path.with_name("identity.new").write_bytes(b"half")
    assert load(path, first=False).id == kept.id
    assert renew(path).id == load(path, first=False).id
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_former_identity(
    path: Path, kept: Identity, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(IdentityError, match="No space left"):
        renew(path)
    monkeypatch.undo()
    assert load(path, first=False).id == kept.id
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("how", LOST)
def test_a_full_disk_leaves_what_is_in_the_way_where_it_is(
    path: Path, kept: Identity, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    lose(path, how)
    there = path.lstat()

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(IdentityError, match="No space left"):
        renew(path)
    monkeypatch.undo()
    assert path.lstat().st_ino == there.st_ino
    with pytest.raises(IdentityLost):
        load(path, first=True)


def test_a_key_reaches_the_disk_before_its_name_does(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    synced, replaced = os.fsync, os.replace

    def fsync(file: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(file).st_mode)
        steps.append("folder" if is_folder else "file")
        synced(file)

    def replace(source: Path, target: Path) -> None:
        steps.append("name")
        replaced(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    load(path, first=True)
    assert steps == ["file", "name", "folder"]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="cannot be written"):
        load(tmp_path / "nowhere" / "identity", first=True)


def test_an_id_is_read_as_people_write_it() -> None:
    for text in (
        HOME,
        grouped(HOME),
        HOME.lower(),
        f"  {grouped(HOME)} ",
        HOME.replace("0", "O").replace("1", "l"),
        grouped(HOME).replace("-", " "),
    ):
        assert read_id(text) == HOME


@given(
    st.integers(0, ID_LENGTH - 1),
    st.sampled_from(ID_ALPHABET),
    st.binary(min_size=32, max_size=32),
)
def test_a_wrong_character_is_noticed(place: int, other: str, key: bytes) -> None:
    home = pemus_id(key)
    wrong = home[:place] + other + home[place + 1 :]
    assert read_id(wrong) == (home if wrong == home else None)


@given(st.integers(0, ID_LENGTH - 2), st.binary(min_size=32, max_size=32))
def test_two_characters_that_changed_places_are_noticed(place: int, key: bytes) -> None:
    home = pemus_id(key)
    wrong = home[:place] + home[place + 1] + home[place] + home[place + 2 :]
    assert read_id(wrong) == (home if wrong == home else None)


@pytest.mark.parametrize("text", ["", "A", "é" * 28, "A" * 5000, HOME[:-1], HOME + "0"])
def test_what_is_no_id_is_none(text: str) -> None:
    assert read_id(text) is None


def test_the_signalling_server_derives_the_same_ids() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(SERVER)!r}); "
        "from pemus_signaling.identity.ids import pemus_id; print(pemus_id(bytes(range(32))))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == HOME


def test_only_the_key_itself_signs() -> None:
    ann, bob = Identity.of(bytes(32)), Identity.of(bytes([1] * 32))
    signature = ann.sign(b"one", b"two")
    assert is_signed(ann.key, signature, b"one", b"two")
    assert not is_signed(bob.key, signature, b"one", b"two")
    assert not is_signed(ann.key, signature, b"onet", b"wo")
    assert not is_signed(ann.key, signature[:-1], b"one", b"two")
    assert not is_signed(ann.key[:-1], signature, b"one", b"two")


@given(st.lists(st.binary(max_size=8)), st.lists(st.binary(max_size=8)))
def test_different_parts_make_different_statements(
    one: list[bytes], other: list[bytes]
) -> None:
    assert (statement(*one) == statement(*other)) == (one == other)


SMALL_ORDER = (
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
)


@pytest.mark.parametrize("key", SMALL_ORDER)
def test_nobody_signs_for_a_key_of_small_order(key: str) -> None:
    public = bytes.fromhex(key)
    # R = the neutral element and S = 0 fit a statement for one key in eight, or for each, without a private key.
    signature = bytes.fromhex(SMALL_ORDER[0]) + bytes(32)
    assert not any(
        is_signed(public, signature, number.to_bytes(2)) for number in range(64)
    )
