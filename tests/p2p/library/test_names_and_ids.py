"""Names are sorted and grouped as people expect, and ids tell nothing."""

from __future__ import annotations

from hypothesis import given, strategies as st
import pytest

from p2p.library.ids import NONCE_SIZE, item_id, new_nonces, parse_item_id
from p2p.library.names import LAST, group_key, is_left_out, sort_key, spaced, stem_of


@pytest.mark.parametrize(
    "ordered",
    [
        ["Film 2", "Film 10", "Film 100"],
        ["1", "2", "10", "011"],
        ["a", "Äb", "ac", "Z"],
        ["Ecole", "École 2", "ecole 3"],
        ["S1E2", "S1E10", "S02E01"],
        ["", "a"],
    ],
)
def test_names_are_sorted_as_people_expect(ordered: list[str]) -> None:
    shuffled = ordered[1:] + ordered[:1]
    assert sorted(shuffled, key=sort_key) == ordered


def test_case_accents_and_unicode_forms_make_no_difference() -> None:
    assert sort_key("É") == sort_key("e\u0301") == sort_key("e")
    assert sort_key("STRASSE") == sort_key("straße")


@given(st.text())
def test_what_has_no_name_is_last(text: str) -> None:
    assert sort_key(text) <= LAST or text.startswith(LAST)


@given(st.integers(0, 10**30), st.integers(0, 10**30))
def test_numbers_of_any_length_are_sorted_by_value(one: int, other: int) -> None:
    assert (sort_key(f"x{one}") < sort_key(f"x{other}")) == (one < other)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.mp4", "a"),
        ("a.b.mp4", "a.b"),
        (".mp4", ".mp4"),
        ("a", "a"),
        ("a.", "a"),
    ],
)
def test_a_stem_is_the_name_without_its_extension(name: str, stem: str) -> None:
    assert stem_of(name) == stem


def test_keys_of_groups_are_the_same_for_spellings_of_one_name() -> None:
    assert (
        group_key("Björk", "Post")
        == group_key(" bjo\u0308rk", "POST ")
        == group_key("bjork", "post")
    )
    assert group_key("a", "b") != group_key("ab", "")
    assert group_key("a").isalnum()
    # Part of node ids, which people keep: it never changes.
    assert group_key("Queen", "Greatest Hits") == "966a9ff3510213a5b0e9"


def test_scripts_without_spaces_get_some() -> None:
    assert spaced("東京物語 2").split() == ["東", "京", "物", "語", "2"]
    assert spaced("plain text") == "plain text"


@pytest.mark.parametrize("name", [".x", "Thumbs.db", "desktop.ini", "@eaDir"])
def test_what_systems_leave_behind_is_left_out(name: str) -> None:
    assert is_left_out(name)
    assert not is_left_out(name[1:])


@given(st.integers(0, 2**48 - 1), st.binary(min_size=NONCE_SIZE, max_size=NONCE_SIZE))
def test_an_id_says_its_row_to_those_who_know_how(row: int, nonce: bytes) -> None:
    text = item_id(row, nonce)
    assert len(text) == 26
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert parse_item_id(text) == (row, nonce)


@given(st.text(max_size=30))
def test_no_text_breaks_the_parser(text: str) -> None:
    parsed = parse_item_id(text)
    assert parsed is None or item_id(*parsed) == text


def test_each_id_has_one_spelling() -> None:
    text = item_id(5, bytes(NONCE_SIZE))
    others = {text[:-1] + last for last in "abcdefghijklmnopqrstuvwxyz234567"} - {text}
    # Of the last character only the upper three bits count.
    assert sum(parse_item_id(other) is not None for other in others) == 7
    assert parse_item_id(text.upper()) is None
    assert parse_item_id(text + "\n") is None


def test_nonces_differ() -> None:
    assert len(set(new_nonces(1000))) == 1000
    assert new_nonces(0) == []
