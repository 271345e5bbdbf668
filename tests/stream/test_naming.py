"""Addresses, types and file names cannot break out of where they stand."""

from __future__ import annotations

from email.message import Message
import re
from urllib.parse import unquote

from hypothesis import given, strategies as st
import pytest

from custom_components.pemus.p2p.models.items import ItemRef
from custom_components.pemus.stream.naming import (
    content_disposition,
    is_passive,
    safe_content_type,
    stream_path,
    streamed_item,
    subtitles_path,
    thumbnail_path,
)

ID = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("name", "content_type", "extension"),
    [
        ("A film.mp4", "video/mp4", "mp4"),
        ("SONG.MP3", "audio/mpeg", "mp3"),
        ("a.b.mkv", "video/x-matroska", "mkv"),
        ("no extension", "video/mp4", "mp4"),
        ("odd.{}%", "image/png", "png"),
        ("a.toolongtobetrue", "audio/flac", "flac"),
        ("dots...", "", "bin"),
        ("", "", "bin"),
        (".mp4", "", "mp4"),
        ("?.mp4?authSig=x", "video/mp4", "mp4"),
    ],
)
def test_the_address_of_a_stream_ends_in_a_sane_extension(
    name: str, content_type: str, extension: str
) -> None:
    assert (
        stream_path(ItemRef(None, ID), name, content_type)
        == f"/api/pemus/stream/{ID}.{extension}"
    )


@given(name=st.text(), content_type=st.text())
def test_no_name_gets_into_an_address(name: str, content_type: str) -> None:
    assert re.fullmatch(
        r"/api/pemus/stream/[a-z]{26}\.[a-z0-9]{1,8}",
        stream_path(ItemRef(None, ID), name, content_type),
    )


def test_pictures_and_subtitles_have_addresses_of_their_own() -> None:
    assert thumbnail_path(ItemRef(None, ID)) == f"/api/pemus/thumbnail/{ID}"
    assert subtitles_path(ItemRef(None, ID), 2) == f"/api/pemus/subtitles/{ID}/2.vtt"


def test_what_is_of_another_home_has_its_address_below_that_home() -> None:
    home = "H" * 28
    assert (
        stream_path(ItemRef(home, ID), "a.mp4") == f"/api/pemus/stream/{home}/{ID}.mp4"
    )
    assert thumbnail_path(ItemRef(home, ID)) == f"/api/pemus/thumbnail/{home}/{ID}"
    assert (
        subtitles_path(ItemRef(home, ID), 2)
        == f"/api/pemus/subtitles/{home}/{ID}/2.vtt"
    )


def test_a_plain_name_is_sent_as_it_is() -> None:
    assert (
        content_disposition("A film (1).mp4", attachment=False)
        == 'inline; filename="A film (1).mp4"'
    )


def test_an_odd_name_is_sent_in_both_spellings() -> None:
    assert content_disposition('Grüße "100%".mp4', attachment=True) == (
        "attachment; filename=\"Gr__e _100__.mp4\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%22100%25%22.mp4"
    )


@given(name=st.text(st.characters(exclude_categories=[]), max_size=100))
def test_every_name_comes_back_and_none_breaks_the_header(name: str) -> None:
    header = content_disposition(name, attachment=False)
    assert re.fullmatch(
        r"""inline; filename="[^"\\%/]*"(; filename\*=UTF-8''[A-Za-z0-9!#$&+.^_`|~%-]*)?""",
        header,
    )
    assert header.isascii() and header.isprintable()
    real = name.encode(errors="replace").decode()
    if "filename*" in header:
        assert unquote(header.partition("UTF-8''")[2]) == real
    else:
        assert header == f'inline; filename="{real}"'


@given(name=st.text(max_size=40))
def test_a_parser_of_mail_headers_reads_the_same_name(name: str) -> None:
    message = Message()
    message["Content-Disposition"] = content_disposition(name, attachment=False)
    assert message.get_filename() is not None or name == ""


@pytest.mark.parametrize(
    "content_type",
    ["video/mp4", "audio/mpeg", "image/jpeg", "text/vtt", "text/vtt; charset=utf-8"],
)
def test_media_types_are_passive(content_type: str) -> None:
    assert safe_content_type(content_type) == content_type
    assert is_passive(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        "image/svg+xml",
        "IMAGE/SVG+XML",
        "text/html",
        "application/xhtml+xml",
        "text/xml",
        "application/pdf",
        "text/vttx",
    ],
)
def test_types_that_can_carry_a_script_are_not(content_type: str) -> None:
    assert not is_passive(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "video",
        "video/mp4\r\nX: y",
        "video/mp4; x=y",
        "a b/c",
        "vidéo/mp4",
        "video/mp4\n",
    ],
)
def test_what_is_no_type_is_not_sent_as_one(content_type: str) -> None:
    assert safe_content_type(content_type) == "application/octet-stream"


def test_the_address_of_an_item_says_whose_it_is() -> None:
    item, owner = "a" * 26, "A" * 28
    assert streamed_item(stream_path(ItemRef(None, item), "a.mp4")) == ItemRef(
        None, item
    )
    assert streamed_item(stream_path(ItemRef(owner, item), "a.mp4")) == ItemRef(
        owner, item
    )
    for other in ("", "/", f"/api/pemus/thumbnail/{item}", f"/api/pemus/stream/{item}"):
        assert streamed_item(other) is None
