"""Which of the ways between two homes a connection takes: the best of those that work, and at both ends the same one.

aioice tries pairs of addresses side by side, nominates each that works, and uses the last of them. So one end could send
through a TURN server what the other one sends directly, and both would if an answer came late. RFC 8445 (section 8.1.1)
has the best one used.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aioice.ice import CandidatePair, Connection, candidate_pair_priority

HEAD_START: Final = 0.8
"""Seconds that direct pairs have until a relayed one counts, as long as any of them may work. The first packet to a router
that lets nobody in is often lost, and the next one follows half a second later (RFC 8489 section 6.2.1)."""

_OPEN: Final = (
    CandidatePair.State.FROZEN,
    CandidatePair.State.WAITING,
    CandidatePair.State.IN_PROGRESS,
)


class Nomination:
    """Stands between an ICE connection's checks and what it makes of them."""

    def __init__(self, ice: Connection, *, direct: bool = False) -> None:
        """Choose for a connection from now on. `direct`: a relayed pair is worse than none, of whichever end the relay is."""
        self._ice = ice
        self._direct = direct
        self._complete = ice.check_complete
        self._held: list[CandidatePair] = []
        self._timer: asyncio.TimerHandle | None = None
        ice.check_complete = self._completed  # type: ignore[method-assign]

    @property
    def pair(self) -> CandidatePair | None:
        """The pair that is used, None before there is one."""
        # Neither aiortc nor aioice tells.
        return self._ice._nominated.get(1)  # noqa: SLF001

    def close(self) -> None:
        """Choose no more. May be called more than once."""
        self._held.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _completed(self, pair: CandidatePair) -> None:
        """Take note of the end of a check, be it good or bad."""
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
            # If it was the last, and there were none in use, the connection would fail.
            self._complete(pair)

    def _hold(self, pair: CandidatePair) -> None:
        pair.task = None
        if pair not in self._held:
            self._held.append(pair)
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(HEAD_START, self._release)

    def _use(self, pair: CandidatePair) -> None:
        """Use a pair, unless a better one is used."""
        former = self.pair
        self._complete(pair)
        if former is not None and self._rank(former) > self._rank(pair):
            self._ice._nominated[1] = former  # noqa: SLF001

    def _release(self) -> None:
        """Use a relayed pair: there is no better one by now."""
        held = tuple(self._held)
        self.close()
        for pair in held:
            self._use(pair)

    def _may_be_direct(self) -> bool:
        return any(
            not is_relayed(each) and each.state in _OPEN
            for each in self._ice._check_list  # noqa: SLF001
        )

    def _rank(self, pair: CandidatePair) -> int:
        return candidate_pair_priority(
            pair.local_candidate, pair.remote_candidate, self._ice.ice_controlling
        )


def is_relayed(pair: CandidatePair) -> bool:
    """Tell whether a pair of addresses leads through a TURN server, of either end."""
    return "relay" in (pair.local_candidate.type, pair.remote_candidate.type)
