"""What crosses the boundary arrives as it was sent, or is refused with the name of what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
import json
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hypothesis import HealthCheck, given, settings, strategies as st
import pytest

from p2p import models
from p2p.models import (
    ApiError,
    Counts,
    EngineConfig,
    Hello,
    Item,
    ItemsChanged,
    Kind,
    Listing,
    LocalFile,
    SearchQuery,
    SearchResult,
    ShareConfig,
    Status,
    StatusChanged,
)
from p2p.models.codec import DecodeError, decode, encode, from_plain

MESSAGES = (
    ApiError,
    EngineConfig,
    Hello,
    Item,
    ItemsChanged,
    Listing,
    LocalFile,
    SearchQuery,
    SearchResult,
    Status,
    StatusChanged,
)
SHARE = {"id": "s", "path": "/films", "name": "Films", "kinds": ["video", "photo"]}
# JSON, as the engine's library writes it, has whole numbers of 64 bits and no lone surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WHOLE = st.integers(min_value=-(2**63), max_value=2**63 - 1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | WHOLE | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4)
    ),
    max_leaves=10,
)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for whatever a field may hold."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return st.sampled_from(args)
    if origin is UnionType:
        return st.one_of([values(arg) for arg in args])
    if origin is tuple:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(TEXTS, values(args[1]), max_size=3)
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return st.builds(
            hint, **{field.name: values(hints[field.name]) for field in fields(hint)}
        )
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    scalars = {
        str: TEXTS,
        int: WHOLE,
        float: NUMBERS,
        bool: st.booleans(),
        type(None): st.none(),
    }
    return scalars[hint]


@pytest.mark.parametrize("kind", MESSAGES)
@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_every_message_arrives_as_it_was_sent(
    kind: type[Any], data: st.DataObject
) -> None:
    sent = data.draw(values(kind))
    assert decode(kind, encode(sent)) == sent


@pytest.mark.parametrize("kind", MESSAGES)
@given(value=PLAIN)
@settings(max_examples=50, deadline=None)
def test_anything_else_is_refused_and_nothing_worse(
    kind: type[Any], value: object
) -> None:
    try:
        decoded = decode(kind, json.dumps(value))
    except DecodeError:
        return
    assert isinstance(decoded, kind)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"\xff",
        b"NaN",
        b"[" * 100_000,
        b'{"a":1}x',
        b'{"home_name": "\\ud800"}',
        "}",
    ],
)
def test_what_is_no_json_is_refused(payload: bytes | str) -> None:
    with pytest.raises(DecodeError, match="not JSON"):
        decode(EngineConfig, payload)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": None}, r"^shares\[1\].id is not a text$"),
        ({"id": 1}, r"^shares\[1\].id is not a text$"),
        ({"kinds": "video"}, r"^shares\[1\].kinds is not a list$"),
        (
            {"kinds": ["tv"]},
            r"^shares\[1\].kinds\[0\] is not one of video, music, photo$",
        ),
        ({"kinds": [["video"]]}, r"^shares\[1\].kinds\[0\] is not one of"),
    ],
)
def test_the_wrong_field_is_named(change: dict[str, object], message: str) -> None:
    config = {"home_name": "x", "shares": [SHARE, SHARE | change]}
    with pytest.raises(DecodeError, match=message):
        from_plain(EngineConfig, config)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(DecodeError, match=r"^home_name is missing$"):
        decode(EngineConfig, b"{}")


def test_a_field_with_a_default_may_be_missing() -> None:
    assert decode(EngineConfig, b'{"home_name": "x"}') == EngineConfig(home_name="x")


def test_a_field_of_a_newer_release_is_ignored() -> None:
    config = decode(
        EngineConfig,
        json.dumps({"home_name": "x", "shares": [SHARE | {"new": {}}], "more": 1}),
    )
    assert config.shares == (
        ShareConfig(
            id="s", path="/films", name="Films", kinds=(Kind.VIDEO, Kind.PHOTO)
        ),
    )


@pytest.mark.parametrize("value", ["1", True, 1.5, None, [1]])
def test_a_whole_number_is_nothing_else(value: object) -> None:
    with pytest.raises(DecodeError, match="video is not a whole number"):
        from_plain(Counts, {"video": value})


@pytest.mark.parametrize("value", ["1", True, None, float("inf"), float("nan")])
def test_a_number_is_finite_and_nothing_else(value: object) -> None:
    @dataclass(frozen=True)
    class Timed:
        seconds: float

    with pytest.raises(DecodeError, match="seconds is not a number"):
        from_plain(Timed, {"seconds": value})


def test_a_whole_number_may_stand_where_a_number_is_meant() -> None:
    item = decode(ItemsChanged, b'{"revision": 1, "items": null}')
    assert item.items is None
    changed = replace(_STATUS, progress=50)
    assert decode(Status, encode(changed)).progress == 50.0


def test_one_event_is_not_taken_for_another() -> None:
    with pytest.raises(DecodeError, match="type is not one of 'hello'"):
        decode(Hello, encode(StatusChanged(status=_STATUS)))


def test_an_entity_tag_changes_with_size_time_and_file() -> None:
    tags = {
        models.entity_tag(*facts)
        for facts in (
            (1, 2, 3),
            (2, 2, 3),
            (1, 3, 3),
            (1, 2, 4),
            (0x12, 3, 1),
            (2, 3, 0x11),
        )
    }
    assert len(tags) == 6
    assert all(tag[0] == tag[-1] == '"' for tag in tags)


_STATUS = Status(
    api_version=1,
    version="0",
    pid=1,
    started=0.0,
    rss=0,
    scan_state=models.ScanState.IDLE,
    progress=None,
    revision=0,
    counts=Counts(),
    shares=(),
    problems=(),
    capabilities={},
)
