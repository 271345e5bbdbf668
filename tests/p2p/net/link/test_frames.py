"""Frames survive the way over a link, and nothing that is no frame is taken for one."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, strategies as st
import pytest

from p2p.models.codec import DecodeError
from p2p.net.link.frames import (
    MAX_MESSAGE,
    MAX_PAYLOAD,
    Ask,
    Bye,
    FrameType,
    Hello,
    Note,
    Refusal,
    bounded,
    pack,
    pack_count,
    pack_request,
    unpack,
    unpack_count,
    unpack_json,
)

TYPES = st.sampled_from(FrameType)
NUMBERS = st.integers(0, 2**32 - 1)
ASKS = st.builds(
    Ask,
    do=st.text(max_size=20),
    item=st.text(max_size=50),
    start=st.integers(0, 2**53),
    stop=st.integers(0, 2**53),
    have=st.integers(0, 4 * MAX_PAYLOAD).map(lambda size: "x" * size),
)


@given(TYPES, NUMBERS, st.binary(max_size=100))
def test_a_frame_is_unpacked_as_it_was_packed(
    type_: FrameType, number: int, payload: bytes
) -> None:
    frame = unpack(pack(type_, number, payload))
    assert (frame.type, frame.number, frame.payload) == (type_, number, payload)


@given(st.binary(max_size=20))
def test_whatever_comes_is_a_frame_or_an_error(message: bytes) -> None:
    if len(message) < 5:
        with pytest.raises(DecodeError):
            unpack(message)
    else:
        assert unpack(message).payload == message[5:]


@given(NUMBERS, ASKS)
def test_the_parts_of_a_request_make_the_request(number: int, ask: Ask) -> None:
    frames = [unpack(each) for each in pack_request(number, ask)]
    assert {each.number for each in frames} == {number}
    assert all(0 < len(each.payload) <= MAX_PAYLOAD for each in frames)
    *more, last = (each.type for each in frames)
    assert last == FrameType.ASK
    assert set(more) <= {FrameType.MORE}
    whole = b"".join(each.payload for each in frames)
    assert unpack_json(Ask, whole, len(whole)) == ask


@given(NUMBERS, st.integers(0, 2**64 - 1))
def test_a_count_is_unpacked_as_it_was_packed(number: int, count: int) -> None:
    frame = unpack(pack_count(number, count))
    assert (frame.type, frame.number) == (FrameType.TAKEN, number)
    assert unpack_count(frame.payload) == count


@given(st.binary(max_size=20).filter(lambda payload: len(payload) != 8))
def test_a_count_has_eight_bytes(payload: bytes) -> None:
    with pytest.raises(DecodeError):
        unpack_count(payload)


@pytest.mark.parametrize("kind", [Ask, Bye, Hello, Note, Refusal])
@given(payload=st.binary(max_size=50) | st.text(max_size=50).map(str.encode))
def test_a_payload_that_is_no_message_is_an_error_and_nothing_else(
    kind: type[object], payload: bytes
) -> None:
    with suppress(DecodeError):
        assert isinstance(unpack_json(kind, payload), kind)


def test_a_payload_that_is_too_long_is_not_read() -> None:
    assert len(bounded(bytes(MAX_MESSAGE))) == MAX_MESSAGE
    with pytest.raises(DecodeError):
        bounded(bytes(MAX_MESSAGE + 1))
    with pytest.raises(DecodeError):
        unpack_json(Note, b'{"about": "news"}' + b" " * MAX_MESSAGE)
