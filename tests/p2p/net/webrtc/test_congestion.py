"""Links acknowledge no more than they have to, and do not fill the queues on their way."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from p2p.net.webrtc.patches.congestion import FLOOR, QUEUE, Congestion


class Association:
    """What is used of an SCTP association."""

    def __init__(self) -> None:
        self._sack_misordered: set[int] = set()
        self._sack_duplicates: list[int] = []
        self._sack_needed = False
        self._cwnd = 2 * FLOOR
        self._ssthresh = 2**20
        self._partial_bytes_acked = 1000
        self.sent = 0
        self.times: list[float] = []

    async def _send_sack(self) -> None:
        self.sent += 1
        self._sack_needed = False

    def _update_rto(self, rtt: float) -> None:
        self.times.append(rtt)

    async def receive(self, count: int = 1) -> None:
        for _ in range(count):
            self._sack_needed = True
            await self._send_sack()


@pytest.fixture
def association() -> Any:
    return Association()


@pytest.fixture
def congestion(association: Any) -> Any:
    congestion = Congestion(association)
    yield congestion
    congestion.close()


async def test_every_second_packet_is_acknowledged(
    association: Any, congestion: Congestion
) -> None:
    await association.receive(10)
    assert association.sent == 5


async def test_a_packet_that_nothing_follows_is_acknowledged_a_little_later(
    association: Any, congestion: Congestion
) -> None:
    await association.receive()
    assert association.sent == 0
    await asyncio.sleep(0.1)
    assert association.sent == 1


@pytest.mark.parametrize("sign", ["_sack_misordered", "_sack_duplicates"])
async def test_what_tells_of_a_loss_is_told_at_once(
    association: Any, congestion: Congestion, sign: str
) -> None:
    setattr(association, sign, [7])
    await association.receive(3)
    assert association.sent == 3


async def test_after_the_end_nothing_is_acknowledged(
    association: Any, congestion: Congestion
) -> None:
    await association.receive()
    congestion.close()
    await asyncio.sleep(0.1)
    assert association.sent == 0


async def test_a_queue_ends_slow_start_and_keeps_the_window_from_growing(
    association: Any, congestion: Congestion
) -> None:
    association._update_rto(0.1)
    assert association._ssthresh == 2**20
    association._update_rto(0.1 + 2 * QUEUE)
    assert association._ssthresh < association._cwnd
    assert association._partial_bytes_acked == 0
    assert association.times == [0.1, 0.1 + 2 * QUEUE]


async def test_a_small_window_grows_whatever_others_do(
    association: Any, congestion: Congestion
) -> None:
    association._cwnd = FLOOR
    for rtt in (0.1, 0.5):
        association._update_rto(rtt)
    assert association._ssthresh == 2**20
    assert association._partial_bytes_acked == 1000


async def test_a_path_that_became_longer_is_not_taken_for_a_queue_for_ever(
    association: Any, congestion: Congestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("p2p.net.webrtc.patches.congestion.time", clock)
    now = congestion._since
    association._update_rto(0.05)
    for _ in range(2):
        now += 301
        association._update_rto(0.2)
    association._partial_bytes_acked = 1000
    association._update_rto(0.2)
    assert association._partial_bytes_acked == 1000
