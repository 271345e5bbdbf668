"""Who a home is: its key, its ID, and what people type."""

from __future__ import annotations

from pathlib import Path
import stat
import subprocess
import sys

from hypothesis import given, strategies as st
import pytest

from p2p.peers.facts import ID_ALPHABET, ID_LENGTH, is_home
from p2p.peers.identity import (
    Identity,
    IdentityError,
    grouped,
    is_signed,
    load,
    pemus_id,
    read_id,
    renew,
    statement,
)

KEY = bytes(range(32))
HOME = pemus_id(KEY)
SERVER = Path(__file__).parents[3] / "signaling_addon"


def test_a_key_is_made_at_the_first_start_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    first = load(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load(path).id == first.id
    assert is_home(first.id)


def test_a_key_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    load(path)
    path.chmod(0o644)
    load(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_key_is_set_aside_and_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    path.write_bytes(b"half a key")
    load(path)
    (aside,) = tmp_path.glob("identity.broken-*")
    assert aside.read_bytes() == b"half a key"


def test_a_new_identity_takes_the_place_of_the_former_one(tmp_path: Path) -> None:
    path = tmp_path / "identity"
    former = load(path)
    fresh = renew(path)
    assert fresh.id != former.id
    assert load(path).id == fresh.id


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="cannot be written"):
        load(tmp_path / "nowhere" / "identity")


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
        "from pemus_signaling.identity import pemus_id; print(pemus_id(bytes(range(32))))"
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
