"""The loopback tracker: real libtorrent at both ends of a pipe, and a raw client where something must be forged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from hashlib import sha1
import json
import os
from pathlib import Path
from typing import Any

import aiohttp
from hypothesis import HealthCheck, given, settings, strategies as st
import pytest

from p2p.torrent import metainfo
from p2p.torrent.metainfo import Metainfo
from p2p.torrent.priority import Priority
from p2p.torrent.session import Session, SessionSettings, Torrent
from p2p.torrent.tracker import (
    MAX_MESSAGE,
    MAX_TORRENTS,
    MAX_WAITING,
    LoopbackTracker,
    SignalingRelay,
    meeting,
)
from tests.patience import until

SIZE = 3_000_000
LOCAL = SessionSettings(addresses=("127.0.0.1",))
HASH = "0b" * 20
OTHER = "f0" * 20
SDP = "v=0\r\no=- 1 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"


def latin(digits: str) -> str:
    return bytes.fromhex(digits).decode("latin-1")


def message(**changes: object) -> bytes:
    fields = {"type": "offer", "torrent": HASH, "offer": "aa" * 20, "sdp": SDP}
    return json.dumps(fields | changes).encode()


class Events:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.pieces: set[int] = set()
        self.peers = 0

    def piece_finished(self, index: int) -> None:
        self.pieces.add(index)

    def peer_connected(self) -> None:
        self.peers += 1

    def peer_lost(self) -> None:
        self.peers -= 1

    def failed(self, message: str) -> None:
        raise AssertionError(message)


class Home:
    """An engine's part in this: a session and a tracker."""

    def __init__(self, folder: Path, session: Session) -> None:
        folder.mkdir()
        self.folder = folder
        self.session = session
        self.tracker = LoopbackTracker()

    async def seed(self, meta: Metainfo, content: bytes) -> Torrent:
        path = self.folder / f"shared {meta.info_hash}"
        path.write_bytes(content)
        return await self.session.seed(
            meta, os.open(path, os.O_RDONLY), "film", Events()
        )

    async def fetch(self, meta: Metainfo) -> tuple[Torrent, Path, Events]:
        path = self.folder / f"part {meta.info_hash}"
        with path.open("wb") as file:
            file.truncate(meta.size)
        events = Events()
        torrent = await self.session.fetch(meta, path, "film", events)
        torrent.want(dict.fromkeys(range(meta.piece_count), Priority.LATER))
        return torrent, path, events

    def announce(self, torrent: Torrent, channel: SignalingRelay, offers: bool) -> None:
        channel.add(
            torrent.meta.info_hash, torrent.reannounce, torrent.hang_up, offers=offers
        )
        torrent.add_tracker(self.tracker.url)


@pytest.fixture
async def homes(tmp_path: Path) -> AsyncGenerator[tuple[Home, Home]]:
    made = []
    for name in ("owner", "receiver"):
        home = Home(tmp_path / name, await Session.open(LOCAL))
        await home.tracker.start()
        made.append(home)
    yield made[0], made[1]
    for home in made:
        # In this order, or libtorrent waits for the tracker's connections to end.
        await home.tracker.stop()
        await home.session.close()
    left = {task.get_name() for task in asyncio.all_tasks()}
    assert not left & {"introductions", "tracker connection"}


class Pipe:
    """Joins two trackers, and keeps what went through."""

    def __init__(self, one: LoopbackTracker, two: LoopbackTracker) -> None:
        self.forth: list[dict[str, str]] = []
        self.back: list[dict[str, str]] = []
        self.cut = False
        self.ends = (
            one.join(self._sender(1, self.forth)),
            two.join(self._sender(0, self.back)),
        )

    def _sender(
        self, end: int, seen: list[dict[str, str]]
    ) -> Callable[[bytes], Awaitable[None]]:
        async def send(data: bytes) -> None:
            await asyncio.sleep(0)
            seen.append(json.loads(data))
            if not self.cut:
                self.ends[end].receive(data)

        return send


def describe(content: bytes) -> Metainfo:
    length = metainfo.piece_length_for(len(content))
    pieces = b"".join(
        sha1(content[at : at + length]).digest()
        for at in range(0, len(content), length)
    )
    return metainfo.make(len(content), pieces, os.urandom(16))


async def test_files_move_over_webrtc_in_both_directions(
    homes: tuple[Home, Home],
) -> None:
    owner, receiver = homes
    pipe = Pipe(owner.tracker, receiver.tracker)
    expected = []
    for seeder, fetcher, ends in (
        (owner, receiver, pipe.ends),
        (receiver, owner, pipe.ends[::-1]),
    ):
        content = os.urandom(SIZE)
        meta = describe(content)
        seed = await seeder.seed(meta, content)
        torrent, path, events = await fetcher.fetch(meta)
        seeder.announce(seed, ends[0], offers=False)
        fetcher.announce(torrent, ends[1], offers=True)
        expected.append((torrent, path, events, content))
    for torrent, path, events, content in expected:
        await until(lambda: len(events.pieces) == torrent.meta.piece_count)  # noqa: B023 - awaited here
        assert path.read_bytes() == content
        # Nobody told either the address of the other.
        assert events.peers == 1
    # One offer and one answer for each is all that it takes.
    kinds = sorted(each["type"] for each in pipe.forth + pipe.back)
    assert kinds == ["answer", "answer", "offer", "offer"]


async def test_a_receiver_may_come_before_the_owner(homes: tuple[Home, Home]) -> None:
    owner, receiver = homes
    pipe = Pipe(owner.tracker, receiver.tracker)
    content = os.urandom(SIZE)
    meta = describe(content)
    torrent, path, events = await receiver.fetch(meta)
    receiver.announce(torrent, pipe.ends[1], offers=True)
    await until(lambda: pipe.back)
    # The first offer finds nobody; after some seconds there is another one.
    seed = await owner.seed(meta, content)
    owner.announce(seed, pipe.ends[0], offers=False)
    await until(lambda: len(events.pieces) == meta.piece_count)
    assert path.read_bytes() == content


async def test_an_offer_waits_until_libtorrent_has_announced(
    homes: tuple[Home, Home],
) -> None:
    owner, receiver = homes
    pipe = Pipe(owner.tracker, receiver.tracker)
    content = os.urandom(SIZE)
    meta = describe(content)
    seed = await owner.seed(meta, content)
    pipe.ends[0].add(meta.info_hash, seed.reannounce, offers=False)
    torrent, path, events = await receiver.fetch(meta)
    receiver.announce(torrent, pipe.ends[1], offers=True)
    await until(lambda: pipe.back)
    seed.add_tracker(owner.tracker.url)
    await until(lambda: len(events.pieces) == meta.piece_count)
    assert path.read_bytes() == content
    assert [each["type"] for each in pipe.back] == ["offer"]


@pytest.mark.parametrize("foresight", [meeting.ANSWERS_PER_ANNOUNCE, 0])
async def test_a_receiver_can_come_back_again_and_again(
    homes: tuple[Home, Home], monkeypatch: pytest.MonkeyPatch, foresight: int
) -> None:
    """libtorrent by itself ignores the eleventh offer, and all others until its next announce."""
    monkeypatch.setattr(meeting, "ANSWERS_PER_ANNOUNCE", foresight)
    owner, receiver = homes
    pipe = Pipe(owner.tracker, receiver.tracker)
    content = os.urandom(300_000)
    meta = describe(content)
    seed = await owner.seed(meta, content)
    owner.announce(seed, pipe.ends[0], offers=False)
    for _ in range(13):
        torrent, path, events = await receiver.fetch(meta)
        receiver.announce(torrent, pipe.ends[1], offers=True)
        await until(lambda: len(events.pieces) == meta.piece_count)  # noqa: B023 - awaited here
        assert path.read_bytes() == content
        pipe.ends[1].remove(meta.info_hash)
        await torrent.remove()


async def test_an_owner_that_was_told_of_a_loss_takes_the_next_call(
    homes: tuple[Home, Home],
) -> None:
    """libtorrent takes a second connection for a double as long as it believes in the first one."""
    owner, receiver = homes
    pipe = Pipe(owner.tracker, receiver.tracker)
    content = os.urandom(SIZE)
    meta = describe(content)
    seed = await owner.seed(meta, content)
    owner.announce(seed, pipe.ends[0], offers=False)
    torrent, _, events = await receiver.fetch(meta)
    receiver.announce(torrent, pipe.ends[1], offers=True)
    await until(lambda: len(events.pieces) == meta.piece_count)
    told = seed.listener
    assert isinstance(told, Events)
    assert told.peers == 1
    pipe.ends[1].lost(meta.info_hash)
    await until(lambda: told.peers == 0)
    # Nobody answers who is paused; it takes up again what it did.
    pipe.ends[1].remove(meta.info_hash)
    await torrent.remove()
    torrent, path, events = await receiver.fetch(meta)
    receiver.announce(torrent, pipe.ends[1], offers=True)
    await until(lambda: len(events.pieces) == meta.piece_count)
    assert path.read_bytes() == content


async def test_a_torrent_that_is_removed_meets_nobody(homes: tuple[Home, Home]) -> None:
    owner, receiver = homes
    pipe = Pipe(owner.tracker, receiver.tracker)
    content = os.urandom(SIZE)
    meta = describe(content)
    seed = await owner.seed(meta, content)
    owner.announce(seed, pipe.ends[0], offers=False)
    pipe.ends[0].remove(meta.info_hash)
    torrent, _, events = await receiver.fetch(meta)
    receiver.announce(torrent, pipe.ends[1], offers=True)
    # It tries more than once, and is not answered.
    await until(lambda: len(pipe.back) > 1)
    assert not pipe.forth
    assert events.peers == 0 and not events.pieces


# From here on, a raw client stands in libtorrent's place.


class Client:
    """A WebSocket client that speaks for a libtorrent."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def announce(self, info_hash: str = HASH, **more: object) -> None:
        await self.socket.send_json(
            {"action": "announce", "info_hash": latin(info_hash), **more}
        )

    async def hear(self) -> dict[str, Any]:
        heard: dict[str, Any] = await self.socket.receive_json(timeout=10)
        return heard

    async def hears_nothing_more(self) -> None:
        """Ask for something whose answer is known: all else would come before it."""
        await self.socket.send_json({"action": "scrape", "info_hash": []})
        assert await self.hear() == {"action": "scrape", "files": {}}


def offers(count: int, sdp: str = SDP) -> list[dict[str, object]]:
    return [
        {"offer_id": latin(f"{n:040x}"), "offer": {"type": "offer", "sdp": sdp}}
        for n in range(count)
    ]


@pytest.fixture
async def tracker() -> AsyncGenerator[LoopbackTracker]:
    started = LoopbackTracker()
    await started.start()
    yield started
    await started.stop()
    left = {task.get_name() for task in asyncio.all_tasks()}
    assert not left & {"introductions", "tracker connection"}


@pytest.fixture
async def web() -> AsyncGenerator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
async def client(
    tracker: LoopbackTracker, web: aiohttp.ClientSession
) -> AsyncGenerator[Client]:
    async with web.ws_connect(tracker.url) as socket:
        yield Client(socket)


class Sent:
    """What a channel was given to send, and how often an announce was asked for."""

    def __init__(self) -> None:
        self.messages: list[dict[str, str]] = []
        self.kicks = 0

    async def send(self, data: bytes) -> None:
        self.messages.append(json.loads(data))

    def reannounce(self) -> None:
        self.kicks += 1


def shared(tracker: LoopbackTracker, *, offers: bool) -> tuple[SignalingRelay, Sent]:
    """Share a torrent over a channel."""
    sent = Sent()
    channel = tracker.join(sent.send)
    channel.add(HASH, sent.reannounce, offers=offers)
    return channel, sent


async def test_only_who_knows_the_secret_is_served(
    tracker: LoopbackTracker, web: aiohttp.ClientSession
) -> None:
    base, _, secret = tracker.url.rpartition("/")
    assert len(secret) >= 32
    for url in (base, f"{base}/", f"{base}/{secret[:-1]}", f"{base}/{'A' * 32}"):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await web.ws_connect(url)
        assert refused.value.status == 404
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await web.ws_connect(tracker.url, origin="https://example.org")
    assert refused.value.status == 403


async def test_connections_are_bounded_and_freed(
    tracker: LoopbackTracker, web: aiohttp.ClientSession
) -> None:
    sockets = [await web.ws_connect(tracker.url) for _ in range(8)]
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await web.ws_connect(tracker.url)
    await sockets.pop().close()

    async def connected() -> bool:
        with suppress(aiohttp.WSServerHandshakeError):
            sockets.append(await web.ws_connect(tracker.url))
        return len(sockets) == 8

    await until(connected, 10)
    for socket in sockets:
        await socket.close()


async def test_a_torrent_that_nobody_added_is_refused(client: Client) -> None:
    await client.announce(offers=offers(1))
    assert "failure reason" in await client.hear()


async def test_an_announce_is_answered_and_one_offer_passed_on(
    tracker: LoopbackTracker, client: Client
) -> None:
    _, sent = shared(tracker, offers=True)
    await client.announce(offers=offers(10))
    answer = await client.hear()
    assert answer["interval"] > 0 and answer["info_hash"] == latin(HASH)
    # As from a session that listens on several addresses.
    await client.announce(offers=offers(10))
    await client.hear()
    await until(lambda: sent.messages)
    assert sent.messages == [
        {"type": "offer", "torrent": HASH, "offer": "00" * 20, "sdp": SDP}
    ]


async def test_what_is_complete_offers_nothing(
    tracker: LoopbackTracker, client: Client
) -> None:
    _, sent = shared(tracker, offers=True)
    await client.announce(offers=offers(10), left=0, event="completed")
    await client.hear()
    await client.hears_nothing_more()
    assert not sent.messages


async def test_who_does_not_offer_sends_nothing(
    tracker: LoopbackTracker, client: Client
) -> None:
    _, sent = shared(tracker, offers=False)
    await client.announce(offers=offers(10))
    await client.hear()
    await client.hears_nothing_more()
    assert not sent.messages


async def test_an_answer_comes_back_once(
    tracker: LoopbackTracker, client: Client
) -> None:
    channel, sent = shared(tracker, offers=True)
    await client.announce(offers=offers(1))
    await client.hear()
    await until(lambda: sent.messages)
    answer = message(type="answer", offer="00" * 20)
    for _ in range(3):
        channel.receive(answer)
    # To an offer that was never made.
    channel.receive(message(type="answer", offer="11" * 20))
    heard = await client.hear()
    assert heard["answer"] == {"type": "answer", "sdp": SDP}
    assert heard["offer_id"] == latin("00" * 20)
    assert len(heard["peer_id"]) == 20
    await client.hears_nothing_more()


async def test_an_offer_is_answered_once(
    tracker: LoopbackTracker, client: Client
) -> None:
    channel, sent = shared(tracker, offers=False)
    await client.announce()
    await client.hear()
    channel.receive(message())
    channel.receive(message())
    heard = await client.hear()
    assert heard["offer"] == {"type": "offer", "sdp": SDP}
    await client.hears_nothing_more()
    reply = {
        "offer_id": heard["offer_id"],
        "to_peer_id": heard["peer_id"],
        "answer": {"type": "answer", "sdp": SDP},
    }
    for offer_id in ("bb" * 20, "aa" * 20, "aa" * 20):
        await client.announce(**(reply | {"offer_id": latin(offer_id)}))
    await client.hears_nothing_more()
    await until(lambda: sent.messages)
    assert sent.messages == [json.loads(message(type="answer"))]
    assert sent.kicks == 0


async def test_an_offer_that_is_left_alone_is_given_again_after_an_announce(
    tracker: LoopbackTracker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "ANSWER_TIMEOUT", 0.05)
    monkeypatch.setattr(meeting, "OFFER_TIMEOUT", 1.0)
    channel, sent = shared(tracker, offers=False)
    channel.receive(message())
    await until(lambda: sent.kicks)
    await client.announce()
    assert "interval" in await client.hear()
    assert "offer" in await client.hear()
    await client.announce()
    assert "interval" in await client.hear()
    assert "offer" in await client.hear()
    # It gives up.
    await asyncio.sleep(1.2)
    kicks = sent.kicks
    await client.announce()
    await client.hear()
    await client.hears_nothing_more()
    await asyncio.sleep(0.2)
    assert sent.kicks == kicks


async def test_an_offer_that_nobody_answers_is_followed_by_others(
    tracker: LoopbackTracker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "MIN_RETRY", 0.05)
    channel, sent = shared(tracker, offers=True)
    await client.announce(offers=offers(1))
    await until(lambda: sent.kicks == 1)
    channel.remove(HASH)
    await client.announce(offers=offers(1))
    await asyncio.sleep(0.5)
    assert sent.kicks == 1


@pytest.mark.parametrize("offers", [False, True])
async def test_only_who_is_called_hangs_up_on_a_caller_that_lost_its_connection(
    tracker: LoopbackTracker, offers: bool
) -> None:
    hung_up: list[str] = []
    channel, stranger = tracker.join(Sent().send), tracker.join(Sent().send)
    channel.add(HASH, Sent().reannounce, lambda: hung_up.append(HASH), offers=offers)
    stranger.receive(b'{"type": "lost", "torrent": "%s"}' % HASH.encode())
    channel.receive(b'{"type": "lost", "torrent": "%s"}' % OTHER.encode())
    assert not hung_up
    channel.receive(b'{"type": "lost", "torrent": "%s"}' % HASH.encode())
    assert hung_up == ([] if offers else [HASH])


async def test_a_channel_reaches_its_own_torrents_only(
    tracker: LoopbackTracker, client: Client
) -> None:
    mine, theirs = Sent(), Sent()
    channel, stranger = tracker.join(mine.send), tracker.join(theirs.send)
    channel.add(HASH, mine.reannounce, offers=False)
    stranger.add(OTHER, theirs.reannounce, offers=False)
    for info_hash in (HASH, OTHER):
        await client.announce(info_hash)
        await client.hear()
    stranger.receive(message())
    await client.hears_nothing_more()
    # The answer goes to who offered, not to everybody.
    channel.receive(message())
    heard = await client.hear()
    await client.announce(
        offer_id=heard["offer_id"],
        to_peer_id=heard["peer_id"],
        answer={"type": "answer", "sdp": SDP},
    )
    await until(lambda: mine.messages)
    assert not theirs.messages


async def test_a_new_channel_of_a_torrent_replaces_the_old_one(
    tracker: LoopbackTracker, client: Client
) -> None:
    old, new = Sent(), Sent()
    former, channel = tracker.join(old.send), tracker.join(new.send)
    former.add(HASH, old.reannounce, offers=False)
    await client.announce()
    await client.hear()
    channel.add(HASH, new.reannounce, offers=False)
    former.receive(message())
    await client.hears_nothing_more()
    # The end of the old channel takes nothing away.
    await former.close()
    channel.receive(message())
    assert "offer" in await client.hear()


async def test_a_torrent_that_stopped_hears_nothing(
    tracker: LoopbackTracker, client: Client
) -> None:
    channel, _ = shared(tracker, offers=False)
    await client.announce()
    await client.hear()
    await client.announce(event="stopped", offers=offers(1))
    await client.hears_nothing_more()
    channel.receive(message())
    await client.hears_nothing_more()


async def test_a_closed_channel_does_nothing(
    tracker: LoopbackTracker, client: Client
) -> None:
    channel, sent = shared(tracker, offers=True)
    await channel.close()
    await channel.close()
    channel.receive(message())
    await client.announce(offers=offers(1))
    assert "failure reason" in await client.hear()
    assert not sent.messages and not sent.kicks
    with pytest.raises(ValueError):
        channel.add(HASH, sent.reannounce, offers=True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b"[" * 10_000,
        message(type="candidate"),
        message(type=None),
        message(torrent=HASH.upper()),
        message(torrent="../../etc"),
        message(torrent=OTHER),
        message(offer="aa" * 19),
        message(offer=latin("aa" * 20)),
        message(offer=5),
        message(sdp=""),
        message(sdp=None),
        message(sdp=SDP + "\0"),
        message(sdp=SDP + "ü"),
        message(sdp="x" + SDP),
        message(sdp=SDP.replace("m=", "a=")),
        message(sdp=SDP + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"),
        message(sdp=SDP + "a=candidate:1 1 UDP 1 127.0.0.1 9 typ host\r\n" * 65),
        message(sdp=SDP + "a=" + "b" * MAX_MESSAGE),
        message(more="x" * MAX_MESSAGE),
    ],
    ids=range(24),
)
async def test_what_is_not_in_order_has_no_effect(
    tracker: LoopbackTracker, client: Client, data: bytes
) -> None:
    channel, sent = shared(tracker, offers=True)
    await client.announce()
    await client.hear()
    channel.receive(data)
    await client.hears_nothing_more()
    assert not sent.kicks
    channel.receive(message())
    assert "offer" in await client.hear()


@given(data=st.binary(max_size=200) | st.builds(lambda text: message(sdp=text), st.text()))  # fmt: skip
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_message_of_the_other_home_is_an_error(data: bytes) -> None:
    channel = LoopbackTracker().join(Sent().send)
    channel.receive(data)


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "null",
        "[]",
        "{",
        '{"action": "announce"}',
        '{"action": "announce", "info_hash": 5}',
        '{"action": "announce", "info_hash": "short"}',
        '{"action": "announce", "info_hash": "ĀĀĀĀĀĀĀĀĀĀĀĀĀĀĀĀĀĀĀĀ"}',
        '{"action": "scrape", "info_hash": {"a": 1}}',
        json.dumps({"action": "announce", "info_hash": latin(HASH), "offers": 7}),
        json.dumps({"action": "announce", "info_hash": latin(HASH), "offers": [7]}),
        json.dumps({"action": "announce", "info_hash": latin(HASH), "offers": [{}]}),
        json.dumps(
            {
                "action": "announce",
                "info_hash": latin(HASH),
                "offers": offers(1, "v=0\r\n"),
            }
        ),
        json.dumps({"action": "announce", "info_hash": latin(HASH), "answer": 1}),
        json.dumps(
            {
                "action": "announce",
                "info_hash": latin(HASH),
                "answer": {"type": "answer", "sdp": SDP},
                "offer_id": [],
            }
        ),
    ],
)
async def test_a_client_that_sends_nonsense_is_served_on(
    tracker: LoopbackTracker, client: Client, sent: str
) -> None:
    _, kept = shared(tracker, offers=True)
    await client.socket.send_str(sent)
    await client.socket.send_json({"action": "scrape", "info_hash": latin(HASH)})
    heard = await client.hear()
    while latin(HASH) not in heard.get("files", {}):
        heard = await client.hear()
    assert not kept.messages


async def test_messages_beyond_the_bounds_end_a_connection(
    client: Client, tracker: LoopbackTracker, web: aiohttp.ClientSession
) -> None:
    await client.socket.send_str("x" * (2 * 1024 * 1024))
    heard = await client.socket.receive(timeout=10)
    assert heard.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    async with web.ws_connect(tracker.url) as socket:
        await Client(socket).hears_nothing_more()


async def test_a_channel_cannot_flood(
    tracker: LoopbackTracker, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2p.torrent.tracker.tracker.MESSAGE_RATE", 0)
    channel, _ = shared(tracker, offers=False)
    for number in range(10_000):
        channel.receive(message(offer=f"{number:040x}"))
    # Few of them wait, and the newest that were taken.
    await client.announce()
    heard = [await client.hear() for _ in range(1 + MAX_WAITING)]
    assert {each.get("offer_id") for each in heard[1:]} == {
        latin(f"{number:040x}") for number in range(100 - MAX_WAITING, 100)
    }
    await client.hears_nothing_more()


async def test_a_channel_has_room_for_so_many_torrents(
    tracker: LoopbackTracker,
) -> None:
    sent = Sent()
    channel = tracker.join(sent.send)
    for number in range(MAX_TORRENTS):
        channel.add(f"{number:040x}", sent.reannounce, offers=True)
    channel.add(f"{0:040x}", sent.reannounce, offers=True)
    with pytest.raises(ValueError):
        channel.add("ff" * 20, sent.reannounce, offers=True)
    channel.remove(f"{0:040x}")
    channel.remove(f"{0:040x}")
    channel.add("ff" * 20, sent.reannounce, offers=True)


@pytest.mark.parametrize("info_hash", ["", "ab", HASH.upper(), HASH + "\n", "g" * 40])
async def test_an_info_hash_must_be_one(
    tracker: LoopbackTracker, info_hash: str
) -> None:
    with pytest.raises(ValueError):
        tracker.join(Sent().send).add(info_hash, lambda: None, offers=True)


async def test_a_stuck_channel_holds_up_nobody(
    tracker: LoopbackTracker, client: Client
) -> None:
    async def stuck(_: bytes) -> None:
        await asyncio.Event().wait()

    sent = Sent()
    channel, other = tracker.join(stuck), tracker.join(sent.send)
    channel.add(HASH, lambda: None, offers=False)
    other.add(OTHER, sent.reannounce, offers=True)
    await client.announce()
    await client.hear()
    for number in range(90):
        channel.receive(message(offer=f"{number:040x}"))
        heard = await client.hear()
        await client.announce(
            offer_id=heard["offer_id"], answer={"type": "answer", "sdp": SDP}
        )
    await client.announce(OTHER, offers=offers(1))
    await client.hear()
    await until(lambda: sent.messages)
    async with asyncio.timeout(5):
        await channel.close()


async def test_a_channel_that_fails_once_is_tried_again(
    tracker: LoopbackTracker, client: Client
) -> None:
    tried = []

    async def send(data: bytes) -> None:
        tried.append(data)
        if len(tried) == 1:
            raise ConnectionResetError

    channel = tracker.join(send)
    channel.add(HASH, lambda: None, offers=False)
    await client.announce()
    await client.hear()
    for number in range(2):
        channel.receive(message(offer=f"{number:040x}"))
        heard = await client.hear()
        await client.announce(
            offer_id=heard["offer_id"], answer={"type": "answer", "sdp": SDP}
        )
    await until(lambda: len(tried) == 2)


async def test_stopping_ends_everything(
    tracker: LoopbackTracker, client: Client, web: aiohttp.ClientSession
) -> None:
    channel, sent = shared(tracker, offers=True)
    await client.announce(offers=offers(1))
    await until(lambda: sent.messages)
    await tracker.stop()
    await tracker.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await web.ws_connect(tracker.url)
    with pytest.raises(ValueError):
        channel.add(HASH, sent.reannounce, offers=True)


async def test_a_tracker_that_never_started_can_be_stopped() -> None:
    await LoopbackTracker().stop()
