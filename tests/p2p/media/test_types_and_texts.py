"""What is told from names and from a few bytes alone."""

from __future__ import annotations

from hypothesis import given, strategies as st
import pytest

from p2p.media.content import sniff
from p2p.media.text import MAX_LENGTH, clean, number_in, year_in
from p2p.media.types import EXTENSIONS, SUBTITLE_EXTENSIONS, kind_of
from p2p.models import Kind


@pytest.mark.parametrize(
    ("name", "kind", "content_type"),
    [
        ("A film.MP4", Kind.VIDEO, "video/mp4"),
        ("a.b.c.mkv", Kind.VIDEO, "video/x-matroska"),
        ("song.mp3", Kind.MUSIC, "audio/mpeg"),
        ("song.opus", Kind.MUSIC, "audio/ogg"),
        ("IMG_0001.HEIC", Kind.PHOTO, "image/heic"),
    ],
)
def test_a_name_tells_what_a_file_likely_is(
    name: str, kind: Kind, content_type: str
) -> None:
    assert kind_of(name) == (kind, content_type)


@pytest.mark.parametrize("name", ["", ".mp4", "mp4", "a.", "a.txt", "a.mp4.part", "."])
def test_other_names_are_no_media(name: str) -> None:
    assert kind_of(name) is None


def test_each_extension_has_a_content_type_of_its_kind() -> None:
    first = {Kind.VIDEO: "video/", Kind.MUSIC: "audio/", Kind.PHOTO: "image/"}
    for extension, (kind, content_type) in EXTENSIONS.items():
        assert extension == extension.lower()
        assert content_type.startswith(first[kind])
    assert not SUBTITLE_EXTENSIONS & EXTENSIONS.keys()


@given(st.text() | st.binary())
def test_a_clean_text_is_short_printable_and_clean_already(value: object) -> None:
    text = clean(value)
    if text is not None:
        assert 0 < len(text) <= MAX_LENGTH
        assert text == text.strip()
        assert not any(ord(char) < 32 or "\ud800" <= char <= "\udfff" for char in text)
        text.encode()


@given(st.binary(max_size=64))
def test_any_first_bytes_are_looked_at_calmly(head: bytes) -> None:
    for prefix in (
        b"",
        b"BM",
        b"\0\0\0\x18ftyp",
        b"RIFF",
        b"\xff",
        b"\x1a\x45\xdf\xa3",
    ):
        content = sniff(prefix + head)
        if content is not None:
            kind = content.likely(Kind.VIDEO)
            assert content.of(kind)


@pytest.mark.parametrize(
    ("written", "year"),
    [("1987", 1987), ("1987-05-01", 1987), ("May 1, 2003", 2003), ("", None),
     ("0000", None), ("19871", None), ("87", None), (None, None)],
)  # fmt: skip
def test_a_year_is_found_in_any_date(written: str | None, year: int | None) -> None:
    assert year_in(written) == year


@pytest.mark.parametrize(
    ("written", "number"),
    [("3", 3), ("03/12", 3), (" 7 of 9", 7), (5, 5), ("0", None), ("A1", None),
     ("123456789", None), ("-2", None), ("", None)],
)  # fmt: skip
def test_a_track_is_a_small_number(written: object, number: int | None) -> None:
    assert number_in(written) == number
