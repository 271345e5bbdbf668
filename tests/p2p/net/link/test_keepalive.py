"""The other end of a link is pinged, and found out to be gone, at the right times."""

from __future__ import annotations

from typing import Any

import pytest

from p2p.net.link.frames import FrameType, unpack
from p2p.net.link.keepalive import (
    BUSY_PING_INTERVAL,
    BUSY_TIMEOUT,
    IDLE_TIMEOUT,
    PROBE_TIMEOUT,
    Keepalive,
)


class Wire:
    """A connection that only counts what is sent, and a clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pings = 0

    def send(self, message: bytes) -> None:
        assert unpack(message).type == FrameType.PING
        self.pings += 1


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def keepalive(wire: Wire) -> Keepalive:
    connection: Any = wire
    return Keepalive(connection, lambda: wire.now)


def test_a_silent_end_is_gone_sooner_while_a_request_is_in_progress(
    wire: Wire, keepalive: Keepalive
) -> None:
    wire.now += BUSY_TIMEOUT + 1
    assert not keepalive.is_gone()
    keepalive.heard()
    keepalive.begin()
    wire.now += BUSY_TIMEOUT + 1
    assert keepalive.is_gone()
    keepalive.end()
    assert not keepalive.is_gone()
    wire.now += IDLE_TIMEOUT
    assert keepalive.is_gone()


def test_silence_from_before_a_request_does_not_count(
    wire: Wire, keepalive: Keepalive
) -> None:
    wire.now += IDLE_TIMEOUT - 1
    keepalive.begin()
    keepalive.heard()
    wire.now += BUSY_TIMEOUT - 1
    assert not keepalive.is_gone()


def test_the_first_request_after_a_quiet_time_asks_whether_the_end_is_there(
    wire: Wire, keepalive: Keepalive
) -> None:
    wire.now += BUSY_PING_INTERVAL + 1
    keepalive.begin()
    keepalive.begin()
    assert wire.pings == 1
    wire.now += PROBE_TIMEOUT + 0.1
    assert keepalive.is_gone()


def test_a_sign_of_life_answers_a_probe(wire: Wire, keepalive: Keepalive) -> None:
    keepalive.probe()
    wire.now += PROBE_TIMEOUT - 0.1
    keepalive.probe()
    assert wire.pings == 2
    wire.now += 0.2
    # The second probe gives no more time than the first one.
    assert keepalive.is_gone()
    keepalive.heard()
    wire.now += PROBE_TIMEOUT + 1
    assert not keepalive.is_gone()


def test_a_link_is_idle_since_it_was_used_last(
    wire: Wire, keepalive: Keepalive
) -> None:
    wire.now += 5
    assert keepalive.idle == 5
    keepalive.begin()
    wire.now += 7
    keepalive.heard()
    assert keepalive.is_busy
    keepalive.end()
    assert not keepalive.is_busy
    assert keepalive.idle == 0


async def test_an_end_is_pinged_at_once_and_until_it_is_gone(
    wire: Wire, keepalive: Keepalive, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def sleep(seconds: float) -> None:
        wire.now += seconds

    monkeypatch.setattr("p2p.net.link.keepalive.asyncio.sleep", sleep)
    await keepalive.run()
    assert 25.0 < wire.now - 1000.0 < 26.0
    assert wire.pings == 4
