"""Reads what a connection has transferred.

aiortc's `getStats()` covers media only: a connection with data channels has no entry for its transport, and no figures
for candidate pairs (https://github.com/aiortc/aiortc/issues/1435). SCTP's retransmissions are not counted at all.
"""

from __future__ import annotations

from typing import Any

from aiortc import RTCSctpTransport

from ....models.homes import ConnectionStats


class Statistics:
    """Counts the SCTP chunks that are sent, and reads the other figures on demand."""

    def __init__(self, sctp: RTCSctpTransport) -> None:
        """Count for an association from now on."""
        self._sctp = sctp
        self._chunks = self._repeated = 0
        self._send_chunk = sctp._send_chunk
        sctp._send_chunk = self._count  # type: ignore[method-assign]

    def read(self) -> ConnectionStats:
        """Return the figures since the connection began."""
        sent = received = 0
        report: Any = self._sctp.transport._get_stats()
        for each in report.values():
            sent, received = each.bytesSent, each.bytesReceived
        return ConnectionStats(
            sent=sent,
            received=received,
            chunks=self._chunks,
            repeated=self._repeated,
            rtt=self._sctp._srtt,
        )

    async def _count(self, chunk: Any) -> None:
        # Only chunks with data have a count.
        if (times := getattr(chunk, "_sent_count", 0)) > 0:
            self._chunks += 1
            self._repeated += times > 1
        await self._send_chunk(chunk)
