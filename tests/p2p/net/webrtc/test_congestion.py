"""Links send half as many acknowledgements as packets, and do not fill the queues on their path."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from p2p.net.webrtc.patches.congestion import MIN_WINDOW, QUEUE_LIMIT, Congestion
from tests.patience import until


class Association:
    """The parts of an SCTP association that the patch uses."""

    def __init__(self) -> None:
        self._sack_misordered: set[int] = set()
        self._sack_duplicates: list[int] = []
        self._sack_needed = False
        self._cwnd = 2 * MIN_WINDOW
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


async def test_a_packet_that_no_other_follows_is_acknowledged_after_a_delay(
    association: Any, congestion: Congestion
) -> None:
    await association.receive()
    assert association.sent == 0
    await until(lambda: association.sent == 1)


@pytest.mark.parametrize("sign", ["_sack_misordered", "_sack_duplicates"])
async def test_a_sign_of_a_loss_is_acknowledged_at_once(
    association: Any, congestion: Congestion, sign: str
) -> None:
    setattr(association, sign, [7])
    await association.receive(3)
    assert association.sent == 3


async def test_nothing_is_acknowledged_after_closing(
    association: Any, congestion: Congestion
) -> None:
    await association.receive()
    congestion.close()
    later = Association()
    Congestion(later)
    await later.receive()
    # Its delay ends after that of the first one.
    await until(lambda: later.sent == 1)
    assert association.sent == 0


async def test_a_queue_ends_slow_start_and_keeps_the_window_from_growing(
    association: Any, congestion: Congestion
) -> None:
    association._update_rto(0.1)
    assert association._ssthresh == 2**20
    association._update_rto(0.1 + 2 * QUEUE_LIMIT)
    assert association._ssthresh < association._cwnd
    assert association._partial_bytes_acked == 0
    assert association.times == [0.1, 0.1 + 2 * QUEUE_LIMIT]


async def test_a_small_window_grows_despite_a_queue(
    association: Any, congestion: Congestion
) -> None:
    association._cwnd = MIN_WINDOW
    for rtt in (0.1, 0.5):
        association._update_rto(rtt)
    assert association._ssthresh == 2**20
    assert association._partial_bytes_acked == 1000


async def test_a_path_that_became_longer_is_not_mistaken_for_a_queue_for_ever(
    association: Any, congestion: Congestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("p2p.net.webrtc.patches.congestion.time", clock)
    now = time.monotonic()
    association._update_rto(0.05)
    for _ in range(2):
        now += 301
        association._update_rto(0.2)
    association._partial_bytes_acked = 1000
    association._update_rto(0.2)
    assert association._partial_bytes_acked == 1000
