"""Makes both ends of a connection use the same candidate pair: the best one that works.

aioice checks pairs in parallel, nominates each one that works, and uses the last of them. So one end may send through a
TURN server what the other one sends directly, or both may because a response was late. RFC 8445 section 8.1.1 wants the
best pair used. aiortc does not tell which pair is used either (https://github.com/aiortc/aiortc/issues/1435).
"""

from __future__ import annotations

import asyncio
from typing import Final

from aioice.ice import CandidatePair, Connection, candidate_pair_priority

RELAY_DELAY: Final = 0.8
"""Seconds for which a relayed pair is held back while a direct one may still work. The first packet to a router that lets
nobody in is often lost, and the next one follows half a second later (RFC 8489 section 6.2.1)."""

_UNDECIDED: Final = (
    CandidatePair.State.FROZEN,
    CandidatePair.State.WAITING,
    CandidatePair.State.IN_PROGRESS,
)


class Nomination:
    """Replaces what an ICE connection does when the check of a pair is complete."""

    def __init__(self, ice: Connection, *, direct: bool = False) -> None:
        """Patch a connection. `direct`: never use a relayed pair, whichever end the relay belongs to."""
        self._ice = ice
        self._direct = direct
        self._complete = ice.check_complete
        self._held: list[CandidatePair] = []
        self._timer: asyncio.TimerHandle | None = None
        ice.check_complete = self._completed  # type: ignore[method-assign]

    @property
    def pair(self) -> CandidatePair | None:
        """The pair in use, or None before there is one."""
        return pair_in_use(self._ice)

    def close(self) -> None:
        """Use no other pair from now on. May be called more than once."""
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _completed(self, pair: CandidatePair) -> None:
        """Handle the end of a check, whether it succeeded or not."""
        if self._direct and is_relayed(pair):
            pair.nominated = False
        if self.pair is None and pair.nominated and is_relayed(pair):
            self._hold(pair)
        elif pair.nominated:
            self.close()
            self._use(pair)
        if self._held and not self._may_be_direct():
            self._release()
        if not pair.nominated:
            # If it was the last pair and none is in use, the connection fails.
            self._complete(pair)

    def _hold(self, pair: CandidatePair) -> None:
        pair.task = None
        if pair not in self._held:
            self._held.append(pair)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(RELAY_DELAY, self._release)

    def _use(self, pair: CandidatePair) -> None:
        """Use a pair, unless a better one is in use."""
        former = self.pair
        self._complete(pair)
        if former is not None and self._priority(former) > self._priority(pair):
            self._ice._nominated[1] = former

    def _release(self) -> None:
        """Use the relayed pairs that were held back: no direct one worked in time."""
        held = tuple(self._held)
        self.close()
        for pair in held:
            self._use(pair)

    def _may_be_direct(self) -> bool:
        return any(
            not is_relayed(each) and each.state in _UNDECIDED
            for each in self._ice._check_list
        )

    def _priority(self, pair: CandidatePair) -> int:
        return candidate_pair_priority(
            pair.local_candidate, pair.remote_candidate, self._ice.ice_controlling
        )


def pair_in_use(ice: Connection) -> CandidatePair | None:
    """Return the candidate pair that an ICE connection uses, or None before there is one. The connection need not be patched."""
    return ice._nominated.get(1)


def is_relayed(pair: CandidatePair) -> bool:
    """Tell whether a pair leads through a TURN server, of either end."""
    return "relay" in (pair.local_candidate.type, pair.remote_candidate.type)
