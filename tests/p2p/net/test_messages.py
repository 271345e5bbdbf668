"""Signed messages: what arrives is as its sender wrote it, or it does not arrive."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any

from hypothesis import given, strategies as st
import orjson
import pytest

from p2p.net.identity import Identity
from p2p.net.messages import MAX_BODY, MAX_ENVELOPE, BadEnvelope, opened, parse, seal

ANN, BOB, EVE = (Identity.of(bytes([number] * 32)) for number in range(3))


def message(body: bytes = b'{"a": 1}') -> dict[str, Any]:
    return seal(ANN, BOB.id, "ping", body)


def test_a_message_arrives_as_it_was_written() -> None:
    sent = orjson.loads(orjson.dumps(message()))
    envelope = opened(sent, BOB.id)
    assert (envelope.sender, envelope.key) == (ANN.id, ANN.key)
    assert (envelope.kind, envelope.body) == ("ping", b'{"a": 1}')


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("v", 2),
        ("v", None),
        ("id", "x"),
        ("id", "../../" + "a" * 18),
        ("sender", BOB.id),
        ("sender", EVE.id),
        ("sender", "nobody"),
        ("receiver", EVE.id),
        ("key", "AAAA"),
        ("key", "é"),
        pytest.param("at", time.time() - 9 * 86400, id="at-long-ago"),
        pytest.param("at", time.time() + 3 * 86400, id="at-in-the-future"),
        ("at", float("inf")),
        ("kind", "pong"),
        ("kind", "k" * 100),
        ("body", '{"a": 2}'),
        ("body", "x" * (MAX_BODY + 1)),
        ("signature", "AAAA"),
        ("signature", 5),
        ("signature", "🙂"),
    ],
)
def test_a_message_that_somebody_changed_is_left_out(field: str, value: object) -> None:
    changed = message() | {field: value}
    with pytest.raises(BadEnvelope):
        opened(changed, BOB.id)


@pytest.mark.parametrize("there", [-86400.0, -3600.0, 0.0, 3600.0, 86400.0])
@pytest.mark.parametrize("here", [-3600.0, 0.0])
def test_a_clock_that_is_wrong_by_an_hour_or_a_day_keeps_nobody_out(
    monkeypatch: pytest.MonkeyPatch, here: float, there: float
) -> None:
    now = 1_795_000_000.0
    monkeypatch.setattr(time, "time", lambda: now + there)
    sent = message()
    monkeypatch.setattr(time, "time", lambda: now + here)
    assert opened(sent, BOB.id).sender == ANN.id


@pytest.mark.parametrize("jump", [-3600.0, 86400.0])
def test_a_message_is_good_for_a_week_even_if_the_clock_jumps_meanwhile(
    monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    now = 1_795_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    sent = message()
    monkeypatch.setattr(time, "time", lambda: now + 6 * 86400 + jump)
    assert opened(sent, BOB.id).sender == ANN.id
    monkeypatch.setattr(time, "time", lambda: now + 9 * 86400 + jump)
    with pytest.raises(BadEnvelope, match="too far from now"):
        opened(sent, BOB.id)


def test_a_key_of_somebody_else_does_not_help() -> None:
    forged = seal(EVE, BOB.id, "ping", b"{}") | {"sender": ANN.id}
    with pytest.raises(BadEnvelope, match="key"):
        opened(forged, BOB.id)


def test_a_message_for_another_home_is_left_out() -> None:
    with pytest.raises(BadEnvelope, match="another home"):
        opened(message(), EVE.id)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_anything_else_is_left_out(anything: object) -> None:
    with pytest.raises(BadEnvelope):
        opened(anything, BOB.id)


@pytest.mark.parametrize("field", list(message()))
def test_a_message_without_one_of_its_parts_is_left_out(field: str) -> None:
    half = message()
    del half[field]
    with pytest.raises(BadEnvelope):
        opened(half, BOB.id)


@pytest.mark.parametrize(
    "payload", [b"", b"{", b"\xff", b"[" * 100_000, b'"' + b"x" * MAX_ENVELOPE + b'"']
)
def test_what_is_no_json_is_left_out(payload: bytes) -> None:
    read: Callable[[], object] = lambda: opened(parse(payload), BOB.id)  # noqa: E731
    with pytest.raises(BadEnvelope):
        read()
