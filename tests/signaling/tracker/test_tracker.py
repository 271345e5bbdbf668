"""WebTorrent's tracker: peers are introduced to each other, and to nobody else."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
import time
from typing import Any, Self

import aiohttp
from hypothesis import given, settings, strategies as st
import orjson
import pytest

from pemus_signaling.cluster.cluster import Cluster
from pemus_signaling.cluster.redis import RedisCluster
from pemus_signaling.net.sockets import Close, Listener, Refusal, Upgrade
from pemus_signaling.rooms.tokens import Revocations
from pemus_signaling.tracker.announces import MAX_SCRAPED, MAX_SDP, Announce, read
from pemus_signaling.tracker.matching import MOST
from pemus_signaling.tracker.swarms import BURST, Client, Limits, Swarms
from pemus_signaling.tracker.tracker import Tracker
from tests.patience import until
from tests.signaling.daemons import Redis
from tests.signaling.guests import FILM, Home, Peer, Tracked, named, tracking
from tests.signaling.nodes import Node, Nodes
from tests.signaling.server import running, ws

HOME = Home()


# What is WebTorrent's.


async def test_a_peer_is_told_how_many_there_are() -> None:
    async with tracking() as tracked:
        seed = await tracked.connect(HOME.token("a"))
        guest = await tracked.connect(HOME.token("b"))
        assert await seed.enter("seed", left=0, event="started") == {
            "action": "announce",
            "info_hash": FILM,
            "interval": 120,
            "complete": 1,
            "incomplete": 0,
        }
        reply = await guest.enter("guest", event="started")
        assert (reply["complete"], reply["incomplete"]) == (1, 1)


async def test_an_offer_and_its_answer_reach_those_that_they_are_for() -> None:
    async with tracking() as tracked:
        seed = await tracked.connect(HOME.token("a"))
        guest = await tracked.connect(HOME.token("b"))
        other = await tracked.connect(HOME.token("c"))
        await seed.enter("seed", left=0)
        await other.enter("other", named("another film"))
        await guest.enter("guest", offers=3)
        offer = await seed.hear()
        assert offer == {
            "action": "announce",
            "info_hash": FILM,
            "peer_id": named("guest"),
            "offer_id": named("guest0"),
            "offer": {"type": "offer", "sdp": "v=0 guest 0\r\n"},
        }
        await seed.answer("seed", offer["peer_id"].rstrip("\xe9"), offer["offer_id"])
        assert await guest.hear() == {
            "action": "announce",
            "info_hash": FILM,
            "peer_id": named("seed"),
            "offer_id": named("guest0"),
            "answer": {"type": "answer", "sdp": "v=0 seed\r\n"},
        }
        for each in (seed, guest, other):
            await each.silence()


async def test_a_peer_that_has_got_everything_is_a_seed() -> None:
    async with tracking() as tracked:
        guest = await tracked.connect(HOME.token())
        assert (await guest.enter("guest"))["incomplete"] == 1
        reply = await guest.enter("guest", event="completed")
        assert (reply["complete"], reply["incomplete"]) == (1, 0)
        await guest.enter("guest", event="completed", left=0)
        await guest.say({"action": "scrape", "info_hash": [FILM, named("unknown")]})
        assert await guest.hear() == {
            "action": "scrape",
            "files": {
                FILM: {"complete": 1, "incomplete": 0, "downloaded": 1},
                named("unknown"): {"complete": 0, "incomplete": 0, "downloaded": 0},
            },
            "flags": {"min_request_interval": 120},
        }


async def test_a_peer_that_does_not_know_the_size_is_no_seed() -> None:
    async with tracking() as tracked:
        guest = await tracked.connect(HOME.token())
        reply = await guest.enter("guest", left=None)
        assert (reply["complete"], reply["incomplete"]) == (0, 1)


async def test_who_asks_about_no_torrent_hears_of_its_own_only() -> None:
    async with tracking() as tracked:
        guest, other = [await tracked.connect(HOME.token(name)) for name in "ab"]
        await guest.enter("guest")
        await other.enter("other", named("another film"))
        await guest.say({"action": "scrape"})
        assert list((await guest.hear())["files"]) == [FILM]


async def test_a_peer_that_stops_gets_no_offers() -> None:
    async with tracking() as tracked:
        seed, guest = [await tracked.connect(HOME.token(name)) for name in "ab"]
        await seed.enter("seed", left=0)
        reply = await seed.enter("seed", left=0, event="stopped", offers=1)
        assert (reply["complete"], reply["incomplete"]) == (0, 0)
        await guest.enter("guest", offers=1)
        await seed.silence()
        # It may come back.
        assert (await seed.enter("seed", left=0))["complete"] == 1


async def test_a_peer_that_hangs_up_leaves_its_swarms() -> None:
    async with tracking() as tracked:
        guest = await tracked.connect(HOME.token())
        await guest.enter("guest")
        await guest.enter("guest", named("another film"))
        assert len(tracked.tracker.swarms) == 2
        await guest.socket.close()
        await until(lambda: not len(tracked.tracker.swarms))
        await until(lambda: not tracked.tracker.sockets)


async def test_offers_of_two_peers_do_not_cross() -> None:
    async with tracking() as tracked:
        seed, guest = [await tracked.connect(HOME.token(name)) for name in "ab"]
        await seed.enter("seed", left=0)
        await guest.enter("guest", offers=1)
        assert "offer" in await seed.hear()
        await seed.enter("seed", left=0, offers=1)
        await guest.silence()
        await seed.answer("seed", "guest", named("guest0"))
        assert "answer" in await guest.hear()
        await seed.enter("seed", left=0, offers=1)
        assert "offer" in await guest.hear()


async def test_no_more_offers_are_passed_on_than_are_wanted_or_allowed() -> None:
    async with tracking(limits=Limits(offers_per_announce=3)) as tracked:
        seeds = [await tracked.connect(HOME.token(f"{number}")) for number in range(5)]
        for number, seed in enumerate(seeds):
            await seed.enter(f"seed{number}", left=0)
        guest = await tracked.connect(HOME.token("guest"))
        await guest.enter("guest", offers=5)
        assert tracked.tracker.swarms.offers == 3
        await guest.enter("guest", offers=5, numwant=1)
        assert tracked.tracker.swarms.offers == 4
        await guest.enter("guest", offers=5, numwant=0)
        assert tracked.tracker.swarms.offers == 4


async def test_two_clients_of_one_program_may_share_a_socket() -> None:
    """npm's webtorrent has one socket for each address of a tracker, whoever uses it."""
    async with tracking() as tracked:
        both = await tracked.connect(HOME.token())
        await both.enter("seed", left=0)
        assert (await both.enter("guest", offers=1))["incomplete"] == 1
        assert (await both.hear())["peer_id"] == named("guest")
        await both.answer("seed", "guest", named("guest0"))
        assert (await both.hear())["answer"]["type"] == "answer"


async def test_the_interval_can_be_set() -> None:
    async with tracking(limits=Limits(interval=30)) as tracked:
        guest = await tracked.connect(HOME.token())
        assert (await guest.enter("guest"))["interval"] == 30


async def test_the_server_has_it_beside_all_else() -> None:
    async with running(announce_interval=30) as server, aiohttp.ClientSession() as all_:
        assert "tracker" in server.features
        url = f"{ws(server, '/announce')}?token={HOME.token()}"
        async with all_.ws_connect(url) as socket:
            guest = Peer(socket)
            assert (await guest.enter("guest"))["interval"] == 30
            server.revocations.revoke_room(HOME.key, "baku-timo-resa-lufi")
            assert await guest.end() == Close.REVOKED


async def test_nothing_is_left_behind_when_nodes_go_after_it() -> None:
    nodes = Nodes()
    one, two = nodes.join("one"), nodes.join("two")
    tracker = Tracker(one, Revocations(one))
    await one.start()
    await two.start()
    assert tracker._sweeper is not None
    tracker.close()
    await two.close()
    await one.close()
    assert tracker._sweeper is None


# Who may do what.


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (None, 401),
        ("", 401),
        ("nonsense", 401),
        (HOME.token(expires=1.0), 401),
        (HOME.token(may=["turn"]), 403),
    ],
)
async def test_without_a_good_token_nobody_gets_in(
    token: str | None, status: int
) -> None:
    async with tracking() as tracked:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await tracked.connect(token)
        assert refused.value.status == status


async def test_nobody_signs_himself_into_another_s_swarm() -> None:
    async with tracking() as tracked:
        seed = await tracked.connect(HOME.token())
        await seed.enter("seed", left=0)
        stranger = await tracked.connect(Home().token())
        reply = await stranger.enter("stranger", offers=5)
        assert (reply["complete"], reply["incomplete"]) == (0, 1)
        await stranger.say({"action": "scrape", "info_hash": FILM})
        files = (await stranger.hear())["files"]
        assert files == {FILM: {"complete": 0, "incomplete": 1, "downloaded": 0}}
        await stranger.answer("stranger", "seed", named("x"))
        await stranger.silence()
        await seed.silence()


async def test_a_token_for_some_torrents_is_for_no_other() -> None:
    hashes = frozenset((FILM.encode("latin-1"),))
    async with tracking() as tracked:
        seed = await tracked.connect(HOME.token("home"))
        other = named("another film")
        await seed.enter("seed", other, left=0)
        guest = await tracked.connect(HOME.token("guest", hashes=hashes))
        assert (await guest.enter("guest"))["incomplete"] == 1
        refused = await guest.enter("guest", other, offers=1)
        assert refused["failure reason"] == "the token is not for this torrent"
        assert refused["info_hash"] == other
        await guest.say({"action": "scrape", "info_hash": [FILM, other]})
        assert list((await guest.hear())["files"]) == [FILM]
        await seed.silence()


async def test_a_peer_id_belongs_to_who_announced_it() -> None:
    async with tracking() as tracked:
        seed, guest, thief = [await tracked.connect(HOME.token(name)) for name in "abc"]
        await seed.enter("seed", left=0)
        refused = await thief.enter("seed", left=0)
        assert refused["failure reason"] == "this peer_id is taken"
        await thief.answer("seed", "guest", named("guest0"))
        assert (await thief.hear())["failure reason"] == "announce first"
        # Nor can it be made to leave.
        await thief.enter("seed", event="stopped")
        await guest.enter("guest", offers=1)
        assert "offer" in await seed.hear()
        await guest.silence()
        await thief.silence()


async def test_who_connects_again_has_his_peer_id_back_at_once() -> None:
    async with tracking() as tracked:
        lost = await tracked.connect(HOME.token("a"))
        await lost.enter("seed", left=0)
        back = await tracked.connect(HOME.token("a"))
        assert (await back.enter("seed", left=0))["complete"] == 1
        guest = await tracked.connect(HOME.token("b"))
        await guest.enter("guest", offers=1)
        assert "offer" in await back.hear()
        await lost.silence()
        # The end of the old connection is not that of the peer.
        await lost.socket.close()
        await until(lambda: tracked.tracker.sockets == 2)
        assert (await guest.enter("guest"))["complete"] == 1


async def test_open_mode_has_swarms_of_its_own() -> None:
    async with tracking(open_mode=True) as tracked:
        seed = await tracked.connect(HOME.token())
        await seed.enter("seed", left=0)
        anybody = await tracked.connect()
        reply = await anybody.enter("anybody", offers=1)
        assert (reply["complete"], reply["incomplete"]) == (0, 1)
        await seed.silence()
        other = await tracked.connect()
        await other.enter("other", offers=1)
        assert "offer" in await anybody.hear()


async def test_in_open_mode_a_bad_token_is_still_refused() -> None:
    async with tracking(open_mode=True) as tracked:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await tracked.connect("nonsense")


async def test_in_open_mode_a_peer_id_belongs_to_an_address() -> None:
    async with tracking(open_mode=True) as tracked:
        first = await tracked.connect(address="192.0.2.1")
        thief = await tracked.connect(address="192.0.2.2")
        again = await tracked.connect(address="192.0.2.1")
        await first.enter("seed")
        assert "failure reason" in await thief.enter("seed")
        assert (await again.enter("seed"))["incomplete"] == 1


# Tokens end.


async def test_a_token_that_expires_ends_its_socket() -> None:
    async with tracking() as tracked:
        guest = await tracked.connect(HOME.token(life=2))
        await guest.enter("guest")
        assert await guest.end() == Close.REVOKED
        assert not len(tracked.tracker.swarms)
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await tracked.connect(HOME.token(life=-1))


async def test_a_revoked_token_ends_its_sockets_and_no_others() -> None:
    async with tracking() as tracked:
        out = [await tracked.connect(HOME.token("out")) for _ in range(2)]
        stays = await tracked.connect(HOME.token("stays"))
        other = await tracked.connect(Home().token("out"))
        for number, each in enumerate((*out, stays, other)):
            await each.enter(f"peer{number}")
        tracked.revocations.revoke_token(HOME.key, "out")
        assert (await stays.enter("peer2"))["incomplete"] == 1
        for each in out:
            assert await each.end() == Close.REVOKED
        await stays.silence()
        await other.silence()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await tracked.connect(HOME.token("out"))
        assert refused.value.status == 403


async def test_a_room_that_closes_ends_the_sockets_of_its_guests() -> None:
    async with tracking() as tracked:
        guests = [await tracked.connect(HOME.token(name)) for name in "ab"]
        stays = await tracked.connect(HOME.token("c", room="another"))
        tracked.revocations.revoke_room(HOME.key, "baku-timo-resa-lufi")
        for guest in guests:
            assert await guest.end() == Close.REVOKED
        await stays.silence()


class Told:
    """A socket that remembers what became of it."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed: list[Close] = []

    def send(self, message: bytes) -> None:
        self.sent.append(message)

    def relay(self, message: bytes) -> None:
        self.send(message)

    def close(self, code: Close, reason: str = "") -> None:
        self.closed.append(code)


def listener(tracker: Tracker, token: str | None, address: str = "") -> Listener:
    query = {} if token is None else {"token": token}
    accepted = tracker.accept(Upgrade(query, address, ""))
    assert not isinstance(accepted, Refusal)
    return accepted


async def test_a_clock_that_is_put_right_does_not_let_a_token_outlive_itself() -> None:
    clock = Clock()
    clock.now = time.time() - 86400
    tracker = Tracker(Cluster(), Revocations(Cluster()), clock=clock)
    guest = listener(tracker, HOME.token(expires=clock.now + 72000))
    socket = Told()
    guest.opened(socket)
    tracker.sweep()
    assert socket.closed == []
    clock.now += 86400
    tracker.sweep()
    assert socket.closed == [Close.REVOKED]
    tracker.close()


async def test_a_token_that_is_revoked_while_its_socket_opens_does_not_get_in() -> None:
    revocations = Revocations(Cluster())
    tracker = Tracker(Cluster(), revocations)
    guest = listener(tracker, HOME.token())
    revocations.revoke_token(HOME.key, "guest")
    socket = Told()
    guest.opened(socket)
    assert socket.closed == [Close.REVOKED]
    guest.received(orjson.dumps(announced()))
    guest.closed()
    assert tracker.sockets == len(tracker.swarms) == 0
    assert socket.sent == []


# Limits.


async def test_a_socket_announces_no_more_torrents_than_it_may() -> None:
    async with tracking(limits=Limits(swarms_per_socket=2)) as tracked:
        guest = await tracked.connect(HOME.token())
        for name in ("one", "two"):
            assert "interval" in await guest.enter("guest", named(name))
        refused = await guest.enter("guest", named("three"))
        assert refused["failure reason"] == "too many torrents"
        await guest.enter("guest", named("one"), event="stopped")
        assert "interval" in await guest.enter("guest", named("three"))


async def test_a_swarm_has_no_more_peers_than_it_may() -> None:
    async with tracking(limits=Limits(peers_per_swarm=2)) as tracked:
        guests = [await tracked.connect(HOME.token(name)) for name in "abc"]
        await guests[0].enter("a")
        await guests[1].enter("b")
        refused = await guests[2].enter("c")
        assert refused["failure reason"] == "this swarm is full"
        # That did not make it known.
        await guests[2].answer("c", "a", named("x"))
        assert (await guests[2].hear())["failure reason"] == "announce first"


async def test_whoever_offers_without_end_is_not_passed_on() -> None:
    async with tracking(limits=Limits(offers_per_announce=1)) as tracked:
        seed, guest = [await tracked.connect(HOME.token(name)) for name in "ab"]
        await seed.enter("seed", left=0)
        for _ in range(BURST + 5):
            await guest.enter("guest", offers=1)
        assert tracked.tracker.swarms.offers == BURST
        for _ in range(BURST):
            assert "offer" in await seed.hear()
        await seed.silence()


async def test_nobody_is_swamped_by_many_that_offer() -> None:
    async with tracking() as tracked:
        seed = await tracked.connect(HOME.token())
        await seed.enter("seed", left=0)
        many = await tracked.connect(HOME.token("many"))
        for number in range(MOST + 5):
            await many.announce(f"{number}", left=1)
            await many.announce(f"{number}", left=1, offers=1)
        got = 0
        await seed.say({"action": "scrape", "info_hash": FILM})
        while (await seed.hear())["action"] != "scrape":
            got += 1
        assert 0 < got <= MOST


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_silent_peer_is_removed() -> None:
    clock = Clock()
    swarms = Swarms(Limits(interval=1, least_patience=100), clock)
    guest = Client(HOME.key, "guest", lambda _message: None)
    for now, film in ((0.0, FILM), (100.0, named("another"))):
        clock.now = now
        swarms.announce(guest, Announce(film, named("guest"), "started", 1.0, []))
    swarms.sweep()
    assert len(swarms) == 2
    clock.now += 1
    swarms.sweep()
    assert [swarm.info_hash for swarm in swarms] == [named("another")]
    swarms.leave(guest)
    assert len(swarms) == 0


def test_nobody_is_forgotten_who_announces_as_often_as_he_is_told() -> None:
    assert Limits(interval=1).patience == 360
    assert Limits(interval=3600).patience == 3 * 3600


async def test_a_socket_that_says_nothing_is_closed() -> None:
    async with tracking(limits=Limits(interval=1, least_patience=2)) as tracked:
        silent, lively = [await tracked.connect(HOME.token(name)) for name in "ab"]
        ending = asyncio.ensure_future(silent.end())

        async def ended() -> bool:
            await lively.silence()
            return ending.done()

        await until(ended)
        assert ending.result() == Close.IDLE
        await lively.silence()


async def test_a_slow_reader_that_is_hung_up_on_harms_nobody() -> None:
    """The server may find out while it sends: in the middle of an announce."""
    tracker = Tracker(Cluster(), Revocations(Cluster()))
    guests = [listener(tracker, HOME.token(f"{number}")) for number in range(9)]

    class Slow(Told):
        def __init__(self, own: Listener) -> None:
            super().__init__()
            self.own = own

        def send(self, message: bytes) -> None:
            super().send(message)
            if b'"offer"' in message:
                self.own.closed()

    sockets = [Slow(guest) for guest in guests]
    for guest, socket, name in zip(guests, sockets, "abcdefghi", strict=True):
        guest.opened(socket)
        guest.received(orjson.dumps(announced(name)))
    guests[0].received(orjson.dumps(announced("a", offers=20)))
    assert tracker.sockets == 1
    assert [len(swarm.members) for swarm in tracker.swarms] == [1]
    tracker.close()


async def test_nobody_is_hung_up_on_for_what_other_guests_send_him() -> None:
    tracker = Tracker(Cluster(), Revocations(Cluster()))

    class Full(Told):
        """A socket at which too much waits."""

        def send(self, message: bytes) -> None:
            self.close(Close.TRY_LATER)

        def relay(self, message: bytes) -> None:
            pass

    seed, guest = (listener(tracker, HOME.token(name)) for name in "ab")
    full = Full()
    seed.opened(full)
    guest.opened(Told())
    seed.received(orjson.dumps(announced("seed")))
    guest.received(orjson.dumps(announced("guest", offers=1)))
    assert tracker.swarms.offers == 1
    assert full.closed == []
    tracker.close()


# What is malformed, and hostile.


def announced(peer_id: str = "a", offers: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "action": "announce",
        "info_hash": FILM,
        "peer_id": named(peer_id),
        "left": 5,
        "offers": [
            {"offer": {"type": "offer", "sdp": "v=0"}, "offer_id": named(f"{number}")}
            for number in range(offers)
        ],
    } | changes


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({}, "invalid action"),
        ({"action": "connect"}, "invalid action"),
        ({"action": ["announce"]}, "invalid action"),
        (announced(info_hash="short"), "invalid info_hash"),
        (announced(info_hash="\u0100" * 20), "invalid info_hash"),
        (announced(info_hash=["x"]), "invalid info_hash"),
        (announced(peer_id="") | {"peer_id": 7}, "invalid peer_id"),
        (announced(event="exploded"), "invalid event"),
        (announced(event=[]), "invalid event"),
        (announced(answer={}) | {"answer": 1}, "invalid to_peer_id"),
        (announced(answer=1, to_peer_id=named("b")), "invalid answer"),
        (
            announced(
                answer={"type": "offer", "sdp": "v=0"},
                to_peer_id=named("b"),
                offer_id=named("1"),
            ),
            "invalid answer",
        ),
        ({"action": "scrape", "info_hash": 7}, "invalid info_hash"),
        ({"action": "scrape", "info_hash": ["short"]}, "invalid info_hash"),
        (
            {"action": "scrape", "info_hash": [FILM] * (MAX_SCRAPED + 1)},
            "too many info_hashes",
        ),
    ],
)
async def test_what_is_malformed_is_told_and_does_not_end_the_socket(
    message: dict[str, Any], reason: str
) -> None:
    async with tracking() as tracked:
        guest = await tracked.connect(HOME.token())
        await guest.say(message)
        reply = await guest.hear()
        assert reply["failure reason"].startswith(reason)
        assert reply["action"] in {"announce", "scrape"}
        await guest.silence()


@pytest.mark.parametrize("message", ["", "no json", "[]", '"x"', "null", "[" * 2000])
async def test_what_is_no_message_at_all_ends_the_socket(message: str) -> None:
    async with tracking() as tracked:
        guest = await tracked.connect(HOME.token())
        await guest.socket.send_str(message)
        assert await guest.end() == Close.UNREADABLE


@pytest.mark.parametrize(
    "offer",
    [
        None,
        {},
        {"offer_id": named("1")},
        {"offer": {"type": "offer", "sdp": "v=0"}},
        {"offer": {"type": "offer", "sdp": "v=0"}, "offer_id": ""},
        {"offer": {"type": "offer", "sdp": "v=0"}, "offer_id": "x" * 65},
        {"offer": {"type": "offer", "sdp": 7}, "offer_id": named("1")},
        {"offer": {"type": "answer", "sdp": "v=0"}, "offer_id": named("1")},
        {"offer": {"type": "offer", "sdp": "v" * (MAX_SDP + 1)}, "offer_id": "1"},
    ],
)
async def test_an_offer_that_is_none_is_left_out(offer: object) -> None:
    async with tracking() as tracked:
        seed, guest = [await tracked.connect(HOME.token(name)) for name in "ab"]
        await seed.enter("seed", left=0)
        await guest.say(announced("guest") | {"offers": [offer]})
        assert "interval" in await guest.hear()
        await seed.silence()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=9,
)
NAMES = st.sampled_from([FILM, named("a"), named("b"), named("c")])
SDP = st.fixed_dictionaries({"type": st.just("offer"), "sdp": st.text()})
PROPER = st.fixed_dictionaries(
    {
        "action": st.just("announce"),
        "info_hash": st.sampled_from([FILM, named("another")]),
        "peer_id": NAMES,
    },
    optional={
        "event": st.sampled_from(["started", "completed", "stopped", ""]),
        "left": st.sampled_from([0, 0.0, -1, 7, 1e308, 2**63]),
        "numwant": st.integers(-1, 5),
        "offers": st.lists(
            st.fixed_dictionaries({"offer": SDP, "offer_id": NAMES}), max_size=4
        ),
    },
)
ANSWERS = st.fixed_dictionaries(
    {
        "action": st.just("announce"),
        "info_hash": st.sampled_from([FILM, named("another")]),
        "peer_id": NAMES,
        "to_peer_id": NAMES,
        "offer_id": NAMES,
        "answer": st.fixed_dictionaries({"type": st.just("answer"), "sdp": st.text()}),
    }
)
SCRAPES = st.fixed_dictionaries(
    {"action": st.just("scrape")}, optional={"info_hash": NAMES | st.lists(NAMES)}
)
SPOILT = st.builds(
    lambda message, field, value: message | {field: value},
    PROPER | ANSWERS | SCRAPES,
    st.sampled_from(
        [
            "action",
            "info_hash",
            "peer_id",
            "to_peer_id",
            "offer_id",
            "event",
            "left",
            "numwant",
            "answer",
            "offers",
        ]
    ),
    JSON,
)
MESSAGE = PROPER | PROPER | ANSWERS | SCRAPES | SPOILT


@given(st.binary(max_size=200) | JSON.map(lambda said: orjson.dumps(str(said))))
def test_whatever_is_read_either_makes_sense_or_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):
        read(message)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), MESSAGE | st.none()), max_size=40))
def test_no_message_reaches_a_third_party_whatever_is_said(
    said: list[tuple[int, dict[str, Any] | None]],
) -> None:
    """Guests of two homes say anything, and hang up: what one home's say never gets to the other's, and all adds up."""

    async def happen() -> None:
        tracker = Tracker(
            Cluster(), Revocations(Cluster()), limits=Limits(swarms_per_socket=3)
        )
        homes = (HOME, HOME, OTHER, OTHER)
        guests = [
            listener(tracker, home.token(f"{number}"))
            for number, home in enumerate(homes)
        ]
        sockets = [Told() for _ in guests]
        for guest, socket in zip(guests, sockets, strict=True):
            guest.opened(socket)
        hung_up = set()
        for who, message in said:
            if who in hung_up:
                continue
            before = [len(socket.sent) for socket in sockets]
            if message is None:
                hung_up.add(who)
                guests[who].closed()
            else:
                try:
                    data = orjson.dumps(message)
                except (TypeError, ValueError):
                    continue
                guests[who].received(data)
            heard = {
                number
                for number, socket in enumerate(sockets)
                if len(socket.sent) != before[number]
            }
            assert all(homes[number] is homes[who] for number in heard)
            if message is not None and message.get("answer"):
                assert len(heard) <= 1
            assert not heard & hung_up
            adds_up(tracker)
        for guest in guests:
            guest.closed()
        assert tracker.sockets == len(tracker.swarms) == 0
        tracker.close()

    asyncio.run(happen())


OTHER = Home()


def adds_up(tracker: Tracker) -> None:
    for swarm in tracker.swarms:
        members = list(swarm.members.values())
        assert members
        assert {id(each) for each in members} == {
            id(each) for each in (*swarm.seeds, *swarm.leechers)
        }
        assert len(members) == len(swarm.seeds) + len(swarm.leechers)
        for place, each in [*enumerate(swarm.seeds), *enumerate(swarm.leechers)]:
            assert each.place == place
            assert each.client.members[swarm.info_hash, each.peer_id] is each
            assert each.client.owner == swarm.owner
            assert len(each.client.members) <= 3
        assert all(each.left == 0 for each in swarm.seeds)
        assert all(each.left > 0 for each in swarm.leechers)


# Several nodes.


class Together:
    """Trackers on servers of their own that act as one."""

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.stack = AsyncExitStack()
        self.trackers: list[Tracked] = []

    async def __aenter__(self) -> Self:
        await self.join()
        await self.join()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stack.aclose()

    async def join(self, node: Cluster | None = None, **options: Any) -> Tracked:
        node = node or self.nodes.join(f"node {len(self.trackers)}")
        tracked = await self.stack.enter_async_context(tracking(node, **options))
        self.trackers.append(tracked)
        return tracked

    def node(self, number: int) -> Node:
        return self.nodes.alive[f"node {number}"]

    def swarm_of(self, number: int, owner: bytes = HOME.key) -> str:
        """Return the info-hash of a torrent whose swarm has its home at a node."""
        homes = [each.tracker.homes for each in self.trackers]
        for count in range(1000):
            info_hash = named(f"film {count}")
            if homes[number].elsewhere(owner, info_hash) is None:
                return info_hash
        raise AssertionError("no swarm is at home there")

    async def counted(self, number: int, info_hash: str) -> tuple[int, int]:
        """Return how many seeds and others a node's clients are told of."""
        asker = await self.trackers[number].connect(HOME.token("asker"))
        await asker.say({"action": "scrape", "info_hash": info_hash})
        files = (await asker.hear())["files"]
        await asker.socket.close()
        return files[info_hash]["complete"], files[info_hash]["incomplete"]

    async def counts(self, number: int, info_hash: str, *counts: int) -> None:
        """Wait until a node's clients are told of so many."""

        async def reached() -> bool:
            return await self.counted(number, info_hash) == counts

        await until(reached)


@pytest.mark.parametrize("at_home", [0, 1])
async def test_peers_of_two_nodes_are_introduced(at_home: int) -> None:
    async with Together() as all_of_them:
        film = all_of_them.swarm_of(at_home)
        seed = await all_of_them.trackers[0].connect(HOME.token("a"))
        guest = await all_of_them.trackers[1].connect(HOME.token("b"))
        assert (await seed.enter("seed", film, left=0))["complete"] == 1
        reply = await guest.enter("guest", film, offers=1)
        assert (reply["complete"], reply["incomplete"]) == (1, 1)
        offer = await seed.hear()
        assert offer["peer_id"] == named("guest")
        assert offer["offer"] == {"type": "offer", "sdp": "v=0 guest 0\r\n"}
        await seed.say(
            {
                "action": "announce",
                "info_hash": film,
                "peer_id": named("seed"),
                "to_peer_id": offer["peer_id"],
                "offer_id": offer["offer_id"],
                "answer": {"type": "answer", "sdp": "v=0 seed\r\n"},
            }
        )
        answer = await guest.hear()
        assert answer["answer"] == {"type": "answer", "sdp": "v=0 seed\r\n"}
        await seed.silence()
        await guest.silence()
        # There is one home, and only it knows the swarm.
        known = [len(each.tracker.swarms) for each in all_of_them.trackers]
        assert sorted(known) == [0, 1] and known[at_home] == 1


async def test_a_scrape_asks_each_home_about_its_own() -> None:
    async with Together() as all_of_them:
        films = [all_of_them.swarm_of(0), all_of_them.swarm_of(1)]
        guest = await all_of_them.trackers[0].connect(HOME.token())
        for film in films:
            await guest.enter("guest", film)
        for asked in (films, None):
            await guest.say({"action": "scrape", "info_hash": asked})
            files = (await guest.hear())["files"] | (await guest.hear())["files"]
            assert {film: files[film]["incomplete"] for film in films} == {
                films[0]: 1,
                films[1]: 1,
            }


async def test_who_leaves_another_node_leaves_the_swarm() -> None:
    async with Together() as all_of_them:
        film = all_of_them.swarm_of(0)
        stops, hangs_up = [
            await all_of_them.trackers[1].connect(HOME.token(name)) for name in "ab"
        ]
        await stops.enter("stops", film, left=0)
        assert (await hangs_up.enter("hangs up", film))["incomplete"] == 1
        assert (await stops.enter("stops", film, event="stopped"))["complete"] == 0
        await hangs_up.socket.close()
        await all_of_them.counts(0, film, 0, 0)
        await until(lambda: not all_of_them.trackers[0].tracker.homes.strangers)


async def test_a_node_that_dies_takes_its_own_peers_with_it() -> None:
    async with Together() as all_of_them:
        film = all_of_them.swarm_of(0)
        here = await all_of_them.trackers[0].connect(HOME.token("a"))
        there = await all_of_them.trackers[1].connect(HOME.token("b"))
        await here.enter("here", film, left=0)
        await there.enter("there", film)
        await all_of_them.node(1).close()
        assert await all_of_them.counted(0, film) == (1, 0)
        assert not all_of_them.trackers[0].tracker.homes.strangers


async def test_when_a_swarm_s_home_dies_its_peers_meet_elsewhere() -> None:
    async with Together() as all_of_them:
        await all_of_them.join()
        film = all_of_them.swarm_of(2)
        seed = await all_of_them.trackers[0].connect(HOME.token("a"))
        guest = await all_of_them.trackers[1].connect(HOME.token("b"))
        await seed.enter("seed", film, left=0)
        await guest.enter("guest", film)
        await all_of_them.node(2).close()
        await all_of_them.counts(0, film, 1, 1)
        # Nobody had to say anything, and nobody was told anything.
        await seed.silence()
        await guest.silence()
        await guest.enter("guest", film, offers=1)
        assert "offer" in await seed.hear()


async def test_a_node_that_joins_takes_its_swarms_over() -> None:
    async with Together() as all_of_them:
        films = [named(f"film {number}") for number in range(40)]
        seed = await all_of_them.trackers[0].connect(HOME.token("a"))
        guest = await all_of_them.trackers[1].connect(HOME.token("b"))
        for film in films:
            await seed.enter("seed", film, left=0)
            await guest.enter("guest", film)
        new = await all_of_them.join()
        for film in films:
            await all_of_them.counts(2, film, 1, 1)
        known = [len(each.tracker.swarms) for each in all_of_them.trackers]
        assert sum(known) == len(films)
        assert 0 < len(new.tracker.swarms) < len(films)
        await seed.silence()
        await guest.silence()


async def test_what_was_said_while_nodes_were_apart_is_made_up_for() -> None:
    async with Together() as all_of_them:
        film = all_of_them.swarm_of(0)
        stays, leaves, comes = [
            await all_of_them.trackers[1].connect(HOME.token(name)) for name in "abc"
        ]
        await stays.enter("stays", film)
        await leaves.enter("leaves", film)
        all_of_them.nodes.away = True
        await leaves.socket.close()
        await until(lambda: all_of_them.trackers[1].tracker.sockets == 2)
        await comes.announce("comes", film, left=0)
        # What is at home at this node goes on.
        own = all_of_them.swarm_of(1)
        assert (await stays.enter("stays", own))["incomplete"] == 1
        all_of_them.nodes.away = False
        all_of_them.nodes.changed()
        await all_of_them.counts(0, film, 1, 2)
        # The home finds out that a socket is gone when it has something for it.
        here = await all_of_them.trackers[0].connect(HOME.token("d"))
        await here.enter("here", film, offers=3)
        await all_of_them.counts(0, film, 1, 2)


async def test_a_peer_id_belongs_to_who_announced_it_on_any_node() -> None:
    async with Together() as all_of_them:
        film = all_of_them.swarm_of(0)
        seed = await all_of_them.trackers[0].connect(HOME.token("a"))
        thief = await all_of_them.trackers[1].connect(HOME.token("b"))
        await seed.enter("seed", film, left=0)
        refused = await thief.enter("seed", film, left=0)
        assert refused["failure reason"] == "this peer_id is taken"
        # Who moves to another node with the same token has it back.
        back = await all_of_them.trackers[1].connect(HOME.token("a"))
        assert (await back.enter("seed", film, left=0))["complete"] == 1


async def test_a_revocation_ends_sockets_of_all_nodes() -> None:
    async with Together() as all_of_them:
        there = await all_of_them.trackers[1].connect(HOME.token())
        film = all_of_them.swarm_of(0)
        await there.enter("there", film)
        all_of_them.trackers[0].revocations.revoke_room(HOME.key, "baku-timo-resa-lufi")
        assert await there.end() == Close.REVOKED
        await until(lambda: not len(all_of_them.trackers[0].tracker.swarms))


async def test_a_socket_may_not_announce_more_because_there_are_more_nodes() -> None:
    async with Together() as all_of_them:
        few = await all_of_them.join(limits=Limits(swarms_per_socket=4))
        guest = await few.connect(HOME.token())
        refused = 0
        for number in range(40):
            reply = await guest.enter("guest", named(f"film {number}"))
            refused += "failure reason" in reply
        assert refused >= 40 - 8
        await guest.silence()


async def test_peers_meet_through_a_redis_that_goes_away_and_comes_back(
    redis_server: Redis,
) -> None:
    """While it is away, those of one node still meet, also if their swarm's home was elsewhere."""
    together = Together()
    async with together.stack:
        for _ in range(2):
            await together.join(RedisCluster([redis_server.url]))
        homes = [each.tracker.homes for each in together.trackers]
        await until(lambda: not any(each.alone for each in homes))
        films = [together.swarm_of(0), together.swarm_of(1)]
        here = await together.trackers[0].connect(HOME.token("a"))
        there = await together.trackers[1].connect(HOME.token("b"))
        for film in films:
            await here.enter("here", film)
            assert (await there.enter("there", film))["incomplete"] == 2

        await redis_server.stop()
        await until(lambda: all(each.alone for each in homes))
        beside = await together.trackers[0].connect(HOME.token("c"))
        for film in films:
            assert (await beside.enter("beside", film, offers=1))["incomplete"] == 2
            assert (await here.hear())["peer_id"] == named("beside")

        await redis_server.start()
        await until(lambda: not any(each.alone for each in homes))
        for film in films:
            for number in (0, 1):
                await together.counts(number, film, 0, 3)
        for film in films:
            await there.enter("there", film, offers=5)
            assert (await here.hear())["peer_id"] == named("there")
