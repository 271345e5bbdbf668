"""Where the bytes of a remote item come from.

A download may have several sources: they are told the same wishes, each delivers what it can, and what arrives first
counts. This module says what a source is, and has the first kind: the swarm. Sources write into the download's file
themselves and report only what was verified and can be read from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from ...core import tasks
from ...core.spans import Spans
from ...torrent.faults import SessionError
from ...torrent.metainfo import Metainfo
from ...torrent.priority import Priority

if TYPE_CHECKING:
    # It loads libtorrent, which may be missing.
    from ...torrent.session import Session, Torrent

PATIENCE: Final = 1.0
"""Seconds that somebody waits for a piece that was asked for in time, until it is hurried."""
FIRST_DIAL: Final = 1.0
"""Seconds after which a peer that is not there is called again; they double up to `LAST_DIAL`."""
LAST_DIAL: Final = 15.0
PATIENT_DIAL: Final = 8.0
"""Seconds between two calls from which on all attempts begin anew, those by WebRTC too, which take their time."""
NEXT_ADDRESS: Final = 0.25
"""Seconds that an address has to answer until the owner's next one is called too (RFC 8305 section 5).

Two connections to one peer would share its line, and each would carry half of what somebody waits for."""
SILENCE: Final = 4.0
"""Seconds without a byte, while somebody waits, after which peers are called anew; they double up to `LAST_SILENCE`.
A quarter of it is enough if the owner delivers in another way meanwhile: then neither it nor its disk is what is slow.

To libtorrent a connection whose other end is gone looks like one on which nothing happens, for up to half a minute. A
disk that has to spin up first looks like that as well, so it gets more and more time."""
LAST_SILENCE: Final = 32.0
_LISTEN: Final = 0.5
"""Seconds between two looks at whether something comes."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Bytes that somebody wants."""

    start: int
    stop: int
    priority: Priority = Priority.LATER


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What a source does at present."""

    download_rate: int = 0
    """Bytes per second."""
    upload_rate: int = 0
    received: int = 0
    """Bytes that came in, verified or not: a sign of life."""
    peers: int = 0


class Target(Protocol):
    """The download, as its sources see it."""

    path: Path
    """A file that exists and has its full size."""

    @property
    def spans(self) -> Spans:
        """Return what is there. Only for reading."""

    @property
    def label(self) -> str:
        """Return what the log calls it."""

    def arrived(self, start: int, stop: int) -> None:
        """Take note of bytes that were verified and can be read from the file."""

    def source_failed(self, source: Source, message: str) -> None:
        """Take note that a source does nothing any more. It will be closed."""

    def outdated(self) -> None:
        """Take note that its owner has another version of it by now."""


class Source(Protocol):
    """Something that delivers bytes of one item."""

    @property
    def status(self) -> SourceStatus:
        """Return what it does at present."""

    async def start(self, target: Target) -> None:
        """Get ready to deliver into a download's file. Raises an Exception if that is impossible at present."""

    def want(self, spans: Sequence[Wanted]) -> None:
        """Deliver these bytes, the sooner wanted ones first, and try no longer to deliver others.

        It may be called before `start` returned. Bytes are not written that are neither wanted nor in a piece with
        wanted ones; so what was there before may be written again, with the same content, beside what is wanted.
        """

    def forget(self, start: int, stop: int) -> None:
        """Take note that bytes are not in the file any more, because their room was needed. They may be wanted again."""

    def owner_delivered(self) -> None:
        """Take note that the owner has just delivered something in another way."""

    async def close(self) -> None:
        """End. When this returns, nothing writes to the file any more."""


class Introducer(Protocol):
    """Finds peers of a torrent by other means than their address, which is what WebRTC needs."""

    def introduce(self, owner: str, torrent: Torrent) -> None:
        """Have a torrent that is fetched from `owner` meet its peers, for example by adding a tracker to it."""

    def dismiss(self, owner: str, torrent: Torrent) -> None:
        """End what `introduce` began; the torrent is about to be removed."""

    def lost(self, owner: str, torrent: Torrent) -> None:
        """Tell the owner that there is no connection to it any more: until it knows, it takes no other one."""


class SwarmSource:
    """Delivers an item's pieces through libtorrent."""

    def __init__(
        self,
        session: Session,
        meta: Metainfo,
        owner: str,
        addresses: Sequence[tuple[str, int]],
        introducer: Introducer | None = None,
    ) -> None:
        """Prepare to fetch a torrent from the home `owner`, whose engine may be at these TCP addresses."""
        self._session = session
        self._meta = meta
        self._owner = owner
        self._addresses = addresses
        self._introducer = introducer
        self._target: Target | None = None
        self._torrent: Torrent | None = None
        self._held: list[bool] = []
        self._lost: set[int] = set()
        self._wishes: dict[int, Priority] = {}
        self._awaited: dict[int, float] = {}
        self._hurrying: asyncio.TimerHandle | None = None
        self._peers = 0
        self._pause = FIRST_DIAL
        self._called = float("-inf")
        self._tried = False
        self._introduced = False
        self._delivered = False
        self._received = 0
        self._heard = float("-inf")
        self._came = float("-inf")
        """When something came in, as far as is known, or somebody was there from whom it could."""
        self._silence = SILENCE
        self._listening: asyncio.TimerHandle | None = None
        self._dialling: asyncio.TimerHandle | None = None
        self._connecting: asyncio.TimerHandle | None = None
        self._uncalled: Sequence[tuple[str, int]] = ()
        """Addresses that are called if those before them do not answer."""
        self._reopening: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._closed = False

    @property
    def status(self) -> SourceStatus:
        """Return what the torrent does at present."""
        if self._torrent is None:
            return SourceStatus()
        status = self._torrent.status
        return SourceStatus(
            download_rate=status.download_rate,
            upload_rate=status.upload_rate,
            received=status.downloaded,
            peers=status.peers,
        )

    @property
    def _is_met(self) -> bool:
        """Whether there is a peer.

        libtorrent counts also those that it has only begun to call, and that may never answer: most homes' addresses lead
        nowhere from elsewhere.
        """
        return self._peers > 0 and (self._delivered or self.status.peers > 0)

    async def start(self, target: Target) -> None:
        """Add the torrent to the session and call its peers. Raises SessionError."""
        self._target = target
        async with self._changing:
            await self._open(target)

    def want(self, spans: Sequence[Wanted]) -> None:
        """Ask for the pieces that these bytes are in."""
        length = self._meta.piece_length
        clock = asyncio.get_running_loop().time()
        wishes: dict[int, Priority] = {}
        awaited: dict[int, float] = {}
        for each in spans:
            for index in range(each.start // length, -(-each.stop // length)):
                priority = each.priority
                former = self._wishes.get(index)
                if priority is Priority.NOW and former not in (None, Priority.NOW):
                    # It is under way, most likely; to hurry it would only hold up what follows.
                    awaited[index] = self._awaited.get(index, clock)
                    priority = Priority.SOON
                wishes[index] = max(priority, wishes.get(index, Priority.LATER))
        now = any(each.priority is Priority.NOW for each in spans)
        fresh = now or bool(wishes.keys() - self._wishes.keys())
        self._wishes, self._awaited = wishes, awaited
        self._hurry()
        if self._torrent is None:
            return
        if not self._lost.isdisjoint(wishes):
            self._begin_anew()
            return
        self._torrent.want(self._wishes)
        if self._listening is None:
            self._listen()
        if fresh:
            self._call_soon()

    def forget(self, start: int, stop: int) -> None:
        """Remember that libtorrent believes to have pieces that are gone."""
        length = self._meta.piece_length
        for index in range(start // length, -(-stop // length)):
            if index < len(self._held) and self._held[index]:
                self._lost.add(index)

    def owner_delivered(self) -> None:
        """Call the owner anew if it seems to be connected, but nothing has come from it for a moment.

        libtorrent takes a minute to see that a peer is gone if nobody waits for just what that one was asked for.
        """
        if not (self._wishes and self._is_met):
            return
        silent = asyncio.get_running_loop().time() - self._came
        if self.status.received == self._received and silent >= self._silence / 4:
            self._give_up()

    async def close(self) -> None:
        """Remove the torrent from the session."""
        self._closed = True
        await tasks.end(self._reopening)
        async with self._changing:
            await self._remove()

    # What libtorrent tells.

    def piece_finished(self, index: int) -> None:
        """Report a piece."""
        if self._target is None or not 0 <= index < len(self._held):
            return
        self._held[index] = True
        self._delivered = True
        self._came = asyncio.get_running_loop().time()
        self._silence = SILENCE
        self._pause = FIRST_DIAL
        self._wishes.pop(index, None)
        start = index * self._meta.piece_length
        self._target.arrived(start, start + self._meta.piece_size(index))

    def peer_connected(self) -> None:
        """Count a peer, or somebody who is called."""
        self._peers += 1
        self._came = asyncio.get_running_loop().time()

    def peer_lost(self) -> None:
        """Count one less, and call again if it was the last one: at once if it has just delivered something.

        Connections break, and WebRTC's more often than others: the ICE agent in libtorrent 2.1.1 takes a thousand
        datagrams without a pause for an error (libjuice 1.7.0, mended in 1.7.1). A peer that never delivered may be one
        that hangs up on whoever it does not know, or one that is just starting again.
        """
        delivered, self._delivered = self._delivered, False
        self._peers = max(0, self._peers - 1)
        if self._is_met:
            return
        if delivered and self._torrent is not None:
            if self._introducer is not None:
                self._introducer.lost(self._owner, self._torrent)
            if self._introduced:
                # Otherwise libtorrent waits for its time to announce until it meets anybody.
                self._torrent.reannounce()
            self._call()
        elif self._uncalled:
            # One that refuses need not be given its time.
            self._connect(self._uncalled)
        elif not (self._peers or self._introduced) and self._introducer is not None:
            self._call()
        elif self._dialling is None:
            self._call_later()

    def failed(self, message: str) -> None:
        """Report the end."""
        if self._target is not None and not self._closed:
            self._target.source_failed(self, message)

    # Opening and closing, one at a time.

    async def _open(self, target: Target) -> None:
        self._held = target.spans.whole(self._meta.piece_length, self._meta.size)
        self._lost = set()
        self._peers = 0
        self._delivered = False
        torrent = await self._session.fetch(
            self._meta, target.path, target.label, self, self._held, held=True
        )
        self._torrent = torrent
        self._came = asyncio.get_running_loop().time()
        # What went away while libtorrent was told what is there.
        for index, there in enumerate(
            target.spans.whole(self._meta.piece_length, self._meta.size)
        ):
            if self._held[index] and not there:
                self._lost.add(index)
        if self._introducer is not None and self._introduced:
            self._introducer.introduce(self._owner, torrent)
        torrent.want(self._wishes)
        self._listen()
        self._tried = False
        self._call()
        # Only a torrent that begins calls its peers at once; any other does so up to a second later.
        torrent.resume()

    async def _remove(self) -> None:
        for timer in (
            self._dialling,
            self._connecting,
            self._hurrying,
            self._listening,
        ):
            if timer is not None:
                timer.cancel()
        self._dialling = self._connecting = self._hurrying = self._listening = None
        torrent, self._torrent = self._torrent, None
        if torrent is not None:
            if self._introducer is not None:
                self._introducer.dismiss(self._owner, torrent)
            await torrent.remove()

    def _begin_anew(self) -> None:
        if self._reopening is None and not self._closed:
            self._reopening = tasks.spawn(
                self._reopen(), f"reopen {self._meta.info_hash}"
            )

    async def _reopen(self) -> None:
        """Add the torrent anew: libtorrent cannot be told that pieces are gone, nor to forget that a peer was away."""
        target = self._target
        assert target is not None
        try:
            async with self._changing:
                if self._introducer is not None and self._torrent is not None:
                    self._introducer.lost(self._owner, self._torrent)
                await self._remove()
                await self._open(target)
        except SessionError as err:
            self._reopening = None
            self.failed(str(err))
        else:
            self._reopening = None

    # Hurrying what takes too long.

    def _hurry(self) -> None:
        """Want at once what somebody has waited for too long, and look again later if there is more."""
        if self._hurrying is not None:
            self._hurrying.cancel()
            self._hurrying = None
        loop = asyncio.get_running_loop()
        for index, since in list(self._awaited.items()):
            if index not in self._wishes:
                del self._awaited[index]
            elif loop.time() - since >= PATIENCE:
                del self._awaited[index]
                self._wishes[index] = Priority.NOW
        if self._awaited:
            first = min(self._awaited.values())
            self._hurrying = loop.call_at(first + PATIENCE, self._hurry_now)

    def _hurry_now(self) -> None:
        self._hurrying = None
        self._hurry()
        if self._torrent is not None:
            self._torrent.want(self._wishes)

    # Noticing that nothing comes.

    def _listen(self) -> None:
        """Begin anew if a peer is there, somebody waits, and nothing has come for long."""
        self._listening = None
        if not self._wishes or self._closed:
            return
        loop = asyncio.get_running_loop()
        waited = self._awaited or Priority.NOW in self._wishes.values()
        received = self.status.received
        if received != self._received:
            self._came = loop.time()
        if not (waited and self._is_met) or received != self._received:
            self._received, self._heard = received, loop.time()
        elif loop.time() - self._heard >= self._silence:
            self._give_up()
        self._listening = loop.call_later(_LISTEN, self._listen)

    def _give_up(self) -> None:
        """Begin anew with a peer from which nothing comes, and give the next one more time."""
        _LOGGER.debug("%s: nothing comes", self._meta.info_hash[:6])
        self._silence = min(LAST_SILENCE, 2 * self._silence)
        self._heard = asyncio.get_running_loop().time()
        self._begin_anew()

    # Calling peers.

    def _call_soon(self) -> None:
        """Call if nobody is there and that does not go on anyway: now, or later if it was tried a moment ago.

        While another source delivers, something new is wanted every moment: attempts would never begin anew.
        """
        if self._is_met:
            return
        if self._introducer is not None and self._dialling is not None:
            return
        if asyncio.get_running_loop().time() - self._called >= FIRST_DIAL:
            self._pause = FIRST_DIAL
            self._call()
        elif self._dialling is None:
            self._call_later()

    def _call_later(self) -> None:
        if self._dialling is not None:
            self._dialling.cancel()
        loop = asyncio.get_running_loop()
        self._dialling = loop.call_later(self._pause, self._call)
        self._pause = min(LAST_DIAL, self._pause * 2)

    def _call(self) -> None:
        """Call the owner, and again later for as long as nobody is there and something is wanted."""
        if self._dialling is not None:
            self._dialling.cancel()
            self._dialling = None
        if self._torrent is None or self._closed or self._is_met or not self._wishes:
            return
        if self._tried and (self._introducer is None or self._pause >= PATIENT_DIAL):
            # After a few failures libtorrent would not call them again for long, or ever.
            self._begin_anew()
            return
        # Where TCP works it is faster and takes less, and two connections to one peer are no use: it goes first.
        late = self._tried or not self._addresses
        if self._introducer is not None and not self._introduced and late:
            self._introduced = True
            self._introducer.introduce(self._owner, self._torrent)
        self._tried = True
        self._called = asyncio.get_running_loop().time()
        self._connect(self._addresses)
        self._call_later()

    def _connect(self, addresses: Sequence[tuple[str, int]]) -> None:
        """Call the first of these addresses, and soon the others if nobody has answered."""
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        self._uncalled = ()
        if not addresses or self._torrent is None or self._is_met:
            return
        (host, port), *others = addresses
        try:
            self._torrent.connect(host, port)
        except (ValueError, RuntimeError) as err:
            _LOGGER.debug("Cannot call %s: %s", self._owner, err)
        if others:
            self._uncalled = others
            self._connecting = asyncio.get_running_loop().call_later(
                NEXT_ADDRESS, self._connect, others
            )
