"""Which candidate pair a connection uses, tested with aioice's own connections and pairs."""

from __future__ import annotations

from itertools import count

from aioice import Candidate, Connection
from aioice.candidate import candidate_priority
from aioice.ice import CandidatePair, StunProtocol
import pytest

from p2p.net.webrtc.patches.nomination import Nomination
from tests.patience import until

State = CandidatePair.State
_ports = count(1)


def candidate(kind: str) -> Candidate:
    return Candidate(
        foundation=kind,
        component=1,
        transport="udp",
        priority=candidate_priority(1, kind),
        host="192.0.2.1",
        port=next(_ports),
        type=kind,
    )


class Checks:
    """The connectivity checks of one connection. The test decides how each ends."""

    def __init__(self, *, controlling: bool, direct: bool) -> None:
        self.ice = Connection(ice_controlling=controlling)
        self.nomination = Nomination(self.ice, direct=direct)

    def begin(self, local: str, remote: str) -> CandidatePair:
        protocol = StunProtocol(self.ice)
        protocol.local_candidate = candidate(local)
        pair = CandidatePair(protocol, candidate(remote))
        pair.state = State.IN_PROGRESS
        self.ice._check_list.append(pair)
        return pair

    def work(self, pair: CandidatePair) -> None:
        pair.nominated = True
        pair.state = State.SUCCEEDED
        self.ice.check_complete(pair)

    def fail(self, pair: CandidatePair) -> None:
        pair.state = State.FAILED
        self.ice.check_complete(pair)

    @property
    def is_completed(self) -> bool:
        return self.ice._check_list_done and bool(self.ice._nominated)


@pytest.fixture(params=[True, False], ids=["controlling", "controlled"])
async def checks(request: pytest.FixtureRequest) -> Checks:
    return await begun(controlling=request.param)


async def begun(*, controlling: bool, direct: bool = False) -> Checks:
    made = Checks(controlling=controlling, direct=direct)
    await made.ice.add_remote_candidate(None)
    # No candidates were signalled, so aioice would remove the component.
    made.ice._components = {1}
    return made


async def relay_delay() -> None:
    """Wait until a relayed pair is used that was held back after all others."""
    others = await begun(controlling=True)
    others.begin("host", "srflx")
    relayed = others.begin("host", "relay")
    others.work(relayed)
    await until(lambda: others.nomination.pair is relayed)


async def test_a_direct_pair_is_used_at_once(checks: Checks) -> None:
    direct, _ = checks.begin("host", "srflx"), checks.begin("relay", "srflx")
    checks.work(direct)
    assert checks.nomination.pair is direct
    assert checks.is_completed


@pytest.mark.parametrize("ends", [("relay", "host"), ("host", "relay")])
async def test_a_relayed_pair_is_held_back_while_a_direct_one_may_work(
    checks: Checks, ends: tuple[str, str]
) -> None:
    direct, relayed = checks.begin("host", "srflx"), checks.begin(*ends)
    checks.work(relayed)
    assert checks.nomination.pair is None
    checks.work(direct)
    assert checks.nomination.pair is direct


async def test_a_relayed_pair_is_used_when_no_direct_one_works_in_time(
    checks: Checks,
) -> None:
    checks.begin("host", "srflx")
    relayed = checks.begin("host", "relay")
    checks.work(relayed)
    await until(lambda: checks.nomination.pair is relayed)
    assert checks.is_completed


async def test_a_relayed_pair_is_used_as_soon_as_all_direct_ones_have_failed(
    checks: Checks,
) -> None:
    direct, relayed = checks.begin("host", "srflx"), checks.begin("host", "relay")
    checks.work(relayed)
    checks.fail(direct)
    assert checks.nomination.pair is relayed
    assert checks.is_completed


async def test_a_relayed_pair_is_used_at_once_if_all_pairs_are_relayed(
    checks: Checks,
) -> None:
    relayed = checks.begin("relay", "relay")
    checks.work(relayed)
    assert checks.nomination.pair is relayed
    assert checks.is_completed


async def test_a_worse_pair_does_not_replace_a_better_one(
    checks: Checks,
) -> None:
    near, far = checks.begin("host", "host"), checks.begin("host", "srflx")
    relayed = checks.begin("host", "relay")
    checks.work(far)
    checks.work(relayed)
    assert checks.nomination.pair is far
    checks.work(near)
    assert checks.nomination.pair is near
    checks.work(far)
    assert checks.nomination.pair is near


async def test_the_best_of_several_relayed_pairs_is_used(checks: Checks) -> None:
    checks.begin("host", "srflx")
    worse, better = checks.begin("relay", "relay"), checks.begin("host", "relay")
    checks.work(better)
    checks.work(worse)
    await until(lambda: checks.nomination.pair is not None)
    assert checks.nomination.pair is better


@pytest.mark.parametrize("ends", [("relay", "host"), ("host", "relay")])
async def test_a_direct_connection_never_uses_a_relay(ends: tuple[str, str]) -> None:
    checks = await begun(controlling=True, direct=True)
    direct, relayed = checks.begin("host", "srflx"), checks.begin(*ends)
    checks.work(relayed)
    await relay_delay()
    assert checks.nomination.pair is None
    assert not checks.ice._check_list_done
    checks.work(direct)
    assert checks.nomination.pair is direct
    assert checks.is_completed


async def test_a_direct_connection_fails_as_soon_as_no_direct_pair_is_left() -> None:
    checks = await begun(controlling=True, direct=True)
    direct, relayed = checks.begin("host", "srflx"), checks.begin("host", "relay")
    checks.work(relayed)
    checks.fail(direct)
    assert checks.nomination.pair is None
    assert checks.ice._check_list_done
    assert not checks.is_completed


async def test_nothing_is_used_when_nothing_works(checks: Checks) -> None:
    direct, relayed = checks.begin("host", "srflx"), checks.begin("host", "relay")
    checks.fail(relayed)
    checks.fail(direct)
    assert checks.nomination.pair is None
    assert checks.ice._check_list_done


async def test_no_pair_is_used_after_closing(checks: Checks) -> None:
    checks.begin("host", "srflx")
    relayed = checks.begin("host", "relay")
    checks.work(relayed)
    checks.nomination.close()
    await relay_delay()
    assert checks.nomination.pair is None
