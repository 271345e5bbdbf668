"""Improves SCTP's congestion control: fewer acknowledgements, and an early reaction to a queue on the path.

aiortc has no settings for either, and no issue is open for them.

- aiortc acknowledges every packet. Every second one is enough (RFC 9260 section 6.2). Acknowledgements are half of all
  packets of a busy link, and each is encrypted, sent and processed separately.
- aiortc sends faster until a queue on the path overflows and drops dozens of packets at once, from which it recovers
  slowly. The round-trip time shows a growing queue before that happens: it ends slow start (as in RFC 9406), and stops
  the congestion window from growing further.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

ACK_DELAY: Final = 0.02
"""Seconds that an acknowledgement waits for a second packet."""
QUEUE_LIMIT: Final = 0.04
"""Queueing delay in seconds above which the congestion window stops growing."""
MIN_WINDOW: Final = 128 * 1024
"""Bytes below which the window may always grow: flows that ignore queueing delay would push this one aside otherwise."""
RTT_MEMORY: Final = 300.0
"""Seconds after which the shortest round-trip time is measured anew, because the path may have become longer."""


class Congestion:
    """Replaces how one SCTP association acknowledges, and watches its round-trip times."""

    def __init__(self, sctp: Any) -> None:
        """Patch an association."""
        self._sctp = sctp
        self._send_sack = sctp._send_sack
        self._update_rto = sctp._update_rto
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._is_pending = False
        """Whether one packet has not been acknowledged yet."""
        self._shortest = self._shortest_before = float("inf")
        self._since = time.monotonic()
        sctp._send_sack = self._acknowledge
        sctp._update_rto = self._measured

    def close(self) -> None:
        """Send no more delayed acknowledgements. May be called more than once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sending is not None:
            self._sending.cancel()

    # The receiving end.

    async def _acknowledge(self) -> None:
        """Acknowledge every second packet, and at once whatever may indicate a loss."""
        sctp = self._sctp
        if self._is_pending or sctp._sack_misordered or sctp._sack_duplicates:
            await self._acknowledge_now()
            return
        self._is_pending = True
        # The next packet sets it again.
        sctp._sack_needed = False
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(ACK_DELAY, self._delay_ended)

    async def _acknowledge_now(self) -> None:
        self._is_pending = False
        await self._send_sack()

    def _delay_ended(self) -> None:
        """Acknowledge a packet that no other one followed."""
        self._timer = None
        if self._is_pending:
            loop = asyncio.get_running_loop()
            self._sending = loop.create_task(self._acknowledge_now())

    # The sending end.

    def _measured(self, rtt: float) -> None:
        """Stop the growth of the window when a round-trip time, in seconds, shows a queue."""
        self._update_rto(rtt)
        now = time.monotonic()
        if now - self._since > RTT_MEMORY:
            self._since = now
            self._shortest_before, self._shortest = self._shortest, rtt
        self._shortest = min(self._shortest, rtt)
        queue = rtt - min(self._shortest, self._shortest_before)
        sctp = self._sctp
        if queue > QUEUE_LIMIT and sctp._cwnd > MIN_WINDOW:
            # A threshold below the window ends slow start. In congestion avoidance, the window grows when the counter
            # of acknowledged bytes reaches it.
            sctp._ssthresh = min(sctp._ssthresh, sctp._cwnd - 1)
            sctp._partial_bytes_acked = 0
