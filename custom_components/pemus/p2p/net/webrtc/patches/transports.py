"""Gives access to the aioice connection inside an aiortc peer connection.

aiortc offers no public way to it, although what the other patches do has to happen there.
"""

from __future__ import annotations

from aioice.ice import Connection
from aiortc import RTCSctpTransport


def ice_of(sctp: RTCSctpTransport) -> Connection:
    """Return the ICE connection that carries an SCTP association."""
    return sctp.transport.transport._connection
