"""What aiortc's SCTP lacks: fewer acknowledgements, and a sense for queues on the way.

- It acknowledges each packet, where every second one is enough (RFC 9260 section 6.2): half of all packets of a link that
  is in use are acknowledgements, each of which is encrypted, sent and taken in by itself.
- It sends ever more until a queue on the way overflows, loses dozens of packets at once, and recovers slowly. A queue that
  grows is seen by the round-trip time before that: it ends slow start (as in RFC 9406), and keeps what is on the way from
  growing further.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

DELAY: Final = 0.02
"""Seconds that an acknowledgement waits for a second packet."""
QUEUE: Final = 0.04
"""Seconds of a queue on the way from which on no more is sent into it."""
FLOOR: Final = 128 * 1024
"""Bytes on the way that are never too many: others, who fill the queue whatever happens, would push this home aside."""
MEMORY: Final = 300.0
"""Seconds after which the path is looked at anew: its shortest time may have become longer."""


class Congestion:
    """Stands between an SCTP association and its acknowledgements."""

    def __init__(self, sctp: Any) -> None:
        """Watch over an association from now on. aiortc has no settings for any of this."""
        self._sctp = sctp
        self._send_sack = sctp._send_sack  # noqa: SLF001
        self._update_rto = sctp._update_rto  # noqa: SLF001
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.Task[None] | None = None
        self._waits = False
        self._shortest = self._shortest_before = float("inf")
        self._since = time.monotonic()
        sctp._send_sack = self._acknowledge  # noqa: SLF001
        sctp._update_rto = self._measured  # noqa: SLF001

    def close(self) -> None:
        """Acknowledge nothing any more. May be called more than once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sending is not None:
            self._sending.cancel()

    # The receiving end.

    async def _acknowledge(self) -> None:
        """Acknowledge every second packet at once, and whatever may tell of a loss."""
        sctp = self._sctp
        odd = sctp._sack_misordered or sctp._sack_duplicates  # noqa: SLF001
        if self._waits or odd:
            await self._now()
            return
        self._waits = True
        # Set again by the next packet.
        sctp._sack_needed = False  # noqa: SLF001
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(DELAY, self._late)

    async def _now(self) -> None:
        self._waits = False
        await self._send_sack()

    def _late(self) -> None:
        """Acknowledge a packet that nothing has followed."""
        self._timer = None
        if self._waits:
            self._sending = asyncio.get_running_loop().create_task(self._now())

    # The sending end.

    def _measured(self, rtt: float) -> None:
        """Take note of a round-trip time, in seconds."""
        self._update_rto(rtt)
        now = time.monotonic()
        if now - self._since > MEMORY:
            self._since = now
            self._shortest_before, self._shortest = self._shortest, rtt
        self._shortest = min(self._shortest, rtt)
        queue = rtt - min(self._shortest, self._shortest_before)
        sctp = self._sctp
        if queue > QUEUE and sctp._cwnd > FLOOR:  # noqa: SLF001
            # What is below it is slow start, and when the other reaches the window, that grows.
            sctp._ssthresh = min(sctp._ssthresh, sctp._cwnd - 1)  # noqa: SLF001
            sctp._partial_bytes_acked = 0  # noqa: SLF001
