"""The names of rooms."""

from __future__ import annotations

from hypothesis import example, given, strategies as st
import pytest

from pemus_signaling.rooms.slugs import (
    BITS,
    CONSONANTS,
    VOWELS,
    new_slug,
    read_slug,
    write_slug,
)

numbers = st.integers(0, 2**BITS - 1)


def test_a_slug_has_eight_syllables_in_four_groups() -> None:
    groups = new_slug().split("-")

    assert [len(group) for group in groups] == [4, 4, 4, 4]
    letters = "".join(groups)
    assert all(letter in CONSONANTS for letter in letters[::2])
    assert all(letter in VOWELS for letter in letters[1::2])


def test_slugs_do_not_come_again() -> None:
    assert len({new_slug() for _ in range(1000)}) == 1000


@given(numbers)
@example(0)
@example(2**BITS - 1)
def test_every_number_has_one_slug_that_reads_back(number: int) -> None:
    slug = write_slug(number)

    assert read_slug(slug) == slug
    others = write_slug(number ^ 1), write_slug(number ^ 1 << BITS - 1)
    assert slug not in others


@given(numbers)
def test_case_dashes_and_spaces_do_not_matter(number: int) -> None:
    slug = write_slug(number)

    assert read_slug(slug.upper()) == slug
    assert read_slug(slug.replace("-", "")) == slug
    assert read_slug(slug.replace("-", " ")) == slug


def test_letters_that_sound_alike_are_taken_for_one_another() -> None:
    assert (
        read_slug("kako-qavi-jeja-vuvo")
        == read_slug("CACO-KAWE-YIYA-WUWO")
        == "kako-kavi-jija-vuvo"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "baku-timo-rosa",
        "baku-timo-rosa-lufi-ba",
        "abku-timo-rosa-lufi",
        "baku-timo-rosa-luf1",
        "baku/timo/rosa/lufi",
    ],
)
def test_what_is_no_slug_is_not_read(text: str) -> None:
    assert read_slug(text) is None


@given(st.text(max_size=80))
@example("İaku-timo-rosa-lufi")
@example("K" * 16)
@example("b" * 1_000_000)
def test_any_text_is_either_a_slug_or_none(text: str) -> None:
    slug = read_slug(text)

    assert slug is None or read_slug(slug) == slug
