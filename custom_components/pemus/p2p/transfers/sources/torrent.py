"""The swarm as a source: fetches an item's pieces through libtorrent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
import logging
from typing import TYPE_CHECKING, Final

from ...core import tasks
from ...core.timer import Timer
from ...torrent.faults import SessionError
from ...torrent.metainfo import Metainfo
from ...torrent.priority import Priority
from .source import SourceStatus, Wanted

if TYPE_CHECKING:
    # They load libtorrent, which may be missing.
    from ...torrent.session import Session, Torrent
    from ...torrent.signaling_relay import SignalingRelays
    from ..download import Download

OVERDUE: Final = 1.0
"""Seconds that somebody waits for a piece that was requested in time, until it gets a deadline."""
MIN_DIAL_INTERVAL: Final = 1.0
MAX_DIAL_INTERVAL: Final = 15.0
"""Seconds until an absent peer is called again. They double from the first to the second with each call."""
RESTART_DIAL_INTERVAL: Final = 8.0
"""From this interval on, each call starts all attempts again, including those by WebRTC, which take longer."""
NEXT_ADDRESS_DELAY: Final = 0.25
"""Seconds that an address has to answer until the owner's next one is called too (RFC 8305 section 5).

Two connections to one peer would share its line, and each would carry half of what somebody waits for."""
MIN_SILENCE: Final = 4.0
MAX_SILENCE: Final = 32.0
"""Seconds without a byte, while somebody waits, after which peers are called anew. They double from the first to the second.
A quarter is enough if the owner delivers over the link meanwhile: then neither the owner nor its disk is slow.

To libtorrent, a connection whose other end is gone looks like an idle one, for up to half a minute. So does a disk that
has to spin up first, which is why the time grows."""
_LISTEN_INTERVAL: Final = 0.5

_LOGGER = logging.getLogger(__name__)


class SwarmSource:
    """Fetches one torrent from its owner."""

    def __init__(
        self,
        session: Session,
        meta: Metainfo,
        owner: str,
        addresses: Sequence[tuple[str, int]],
        relays: SignalingRelays | None = None,
    ) -> None:
        """Prepare to fetch from the home `owner`, at these TCP addresses, and by WebRTC if there are `relays`."""
        self._session = session
        self._meta = meta
        self._owner = owner
        self._addresses = addresses
        self._relays = relays
        self._download: Download | None = None
        self._torrent: Torrent | None = None
        self._held: list[bool] = []
        """Which pieces libtorrent believes to be in the file."""
        self._wishes: dict[int, Priority] = {}
        self._awaited: dict[int, float] = {}
        self._hurrying = Timer(self._hurry_now)
        self._peers = 0
        self._pause = MIN_DIAL_INTERVAL
        self._called = float("-inf")
        self._tried = False
        self._introduced = False
        self._delivered = False
        self._received = 0
        self._heard = float("-inf")
        """When nothing was awaited, or something arrived: silence counts from here."""
        self._came = float("-inf")
        """When something last arrived, or a peer connected, by the event loop's clock."""
        self._silence = MIN_SILENCE
        self._listening = Timer(self._listen)
        self._dialling = Timer(self._call)
        self._connecting = Timer(self._connect)
        self._uncalled: Sequence[tuple[str, int]] = ()
        """Addresses to call if the previous ones do not answer."""
        self._reopening: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._closed = False

    @property
    def status(self) -> SourceStatus:
        """What the torrent does at present."""
        if self._torrent is None:
            return SourceStatus()
        status = self._torrent.status
        return SourceStatus(
            download_rate=status.download_rate,
            received=status.downloaded,
            peers=status.peers,
        )

    @property
    def _is_met(self) -> bool:
        """Whether a peer is connected.

        `_peers` also counts those that libtorrent is calling, and that may never answer: most homes' addresses cannot be
        reached from elsewhere.
        """
        return self._peers > 0 and (self._delivered or self.status.peers > 0)

    async def start(self, download: Download) -> None:
        """Add the torrent to the session and call its peers. Raises SessionError."""
        self._download = download
        async with self._changing:
            await self._open(download)

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
                    # It is probably on its way. A deadline would only delay the next pieces.
                    awaited[index] = self._awaited.get(index, clock)
                    priority = Priority.SOON
                wishes[index] = max(priority, wishes.get(index, Priority.LATER))
        now = any(each.priority is Priority.NOW for each in spans)
        fresh = now or bool(wishes.keys() - self._wishes.keys())
        self._wishes, self._awaited = wishes, awaited
        self._hurry()
        if self._torrent is None:
            return
        if any(self._held[index] for index in wishes):
            # They were removed to free space, and libtorrent cannot be told so.
            self._begin_anew()
            return
        self._torrent.want(self._wishes)
        if not self._listening.is_running:
            self._listen()
        if fresh:
            self._call_soon()

    def owner_delivered(self) -> None:
        """Call the owner anew if it seems to be connected, but only the link delivers.

        libtorrent takes a minute to notice that a peer is gone if nobody waits for the pieces that it was asked for.
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

    # What libtorrent reports.

    def piece_finished(self, index: int) -> None:
        """Report a verified piece."""
        if self._download is None or not 0 <= index < len(self._held):
            return
        self._held[index] = True
        self._delivered = True
        self._came = asyncio.get_running_loop().time()
        self._silence = MIN_SILENCE
        self._pause = MIN_DIAL_INTERVAL
        self._wishes.pop(index, None)
        start = index * self._meta.piece_length
        self._download.arrived(start, start + self._meta.piece_size(index))

    def peer_connected(self) -> None:
        """Count a peer that is connected or being called."""
        self._peers += 1
        self._came = asyncio.get_running_loop().time()

    def peer_lost(self) -> None:
        """Count one peer less. If it was the last one, call again: immediately if it has just delivered something.

        WebRTC connections break more often than others: the ICE agent in libtorrent 2.1.1 treats a thousand datagrams
        without a pause as an error (libjuice 1.7.0, fixed in 1.7.1). A peer that never delivered may refuse homes that
        it does not know, or be restarting.
        """
        delivered, self._delivered = self._delivered, False
        self._peers = max(0, self._peers - 1)
        if self._is_met:
            return
        if delivered and self._torrent is not None:
            if self._relays is not None:
                self._relays.lost(self._owner, self._torrent)
            if self._introduced:
                # Otherwise libtorrent meets nobody before its next announce.
                self._torrent.reannounce()
            self._call()
        elif self._uncalled:
            # An address that refuses needs no more time.
            self._connect()
        elif not (self._peers or self._introduced) and self._relays is not None:
            self._call()
        elif not self._dialling.is_running:
            self._call_later()

    def failed(self, message: str) -> None:
        """Report that the torrent has failed."""
        if self._download is not None and not self._closed:
            self._download.source_failed(message)

    # Opening and closing, one at a time.

    async def _open(self, download: Download) -> None:
        self._held = download.spans.whole(self._meta.piece_length, self._meta.size)
        self._peers = 0
        self._delivered = False
        torrent = await self._session.fetch(
            self._meta,
            download.entry.path,
            download.label,
            self,
            self._held,
            held=True,
        )
        self._torrent = torrent
        self._came = asyncio.get_running_loop().time()
        if self._relays is not None and self._introduced:
            self._relays.introduce(self._owner, torrent)
        torrent.want(self._wishes)
        self._listen()
        self._tried = False
        self._call()
        # A torrent that resumes calls its peers immediately; a running one up to a second later.
        torrent.resume()

    async def _remove(self) -> None:
        for timer in (
            self._dialling,
            self._connecting,
            self._hurrying,
            self._listening,
        ):
            timer.cancel()
        torrent, self._torrent = self._torrent, None
        if torrent is not None:
            if self._relays is not None:
                self._relays.dismiss(self._owner, torrent)
            await torrent.remove()

    def _begin_anew(self) -> None:
        if self._reopening is None and not self._closed:
            self._reopening = tasks.spawn(
                self._reopen(), f"reopen {self._meta.info_hash}"
            )

    async def _reopen(self) -> None:
        """Add the torrent anew, with the pieces that are there, and without what libtorrent remembers of its peers."""
        download = self._download
        assert download is not None
        try:
            async with self._changing:
                if self._relays is not None and self._torrent is not None:
                    self._relays.lost(self._owner, self._torrent)
                await self._remove()
                await self._open(download)
        except SessionError as err:
            self.failed(str(err))
        finally:
            self._reopening = None

    # Overdue pieces.

    def _hurry(self) -> None:
        """Give a deadline to the pieces that are overdue, and look again when the next one is."""
        now = asyncio.get_running_loop().time()
        for index, since in list(self._awaited.items()):
            if index not in self._wishes:
                del self._awaited[index]
            elif now - since >= OVERDUE:
                del self._awaited[index]
                self._wishes[index] = Priority.NOW
        if self._awaited:
            self._hurrying.start(min(self._awaited.values()) + OVERDUE - now)
        else:
            self._hurrying.cancel()

    def _hurry_now(self) -> None:
        self._hurry()
        if self._torrent is not None:
            self._torrent.want(self._wishes)

    # Silent peers.

    def _listen(self) -> None:
        """Begin anew if a peer is connected, somebody waits, and nothing has arrived for long. Runs at intervals."""
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
        self._listening.start(_LISTEN_INTERVAL)

    def _give_up(self) -> None:
        """Begin anew, because a peer is silent. The next one gets more time."""
        _LOGGER.debug("%s: the peer is silent", self._meta.info_hash[:6])
        self._silence = min(MAX_SILENCE, 2 * self._silence)
        self._heard = asyncio.get_running_loop().time()
        self._begin_anew()

    # Calling peers.

    def _call_soon(self) -> None:
        """Call if no peer is connected and none is being called: now, or later if the last call was a moment ago.

        While another source delivers, new pieces are wanted all the time. Calls must not start again with each of them.
        """
        if self._is_met:
            return
        if self._relays is not None and self._dialling.is_running:
            return
        if asyncio.get_running_loop().time() - self._called >= MIN_DIAL_INTERVAL:
            self._pause = MIN_DIAL_INTERVAL
            self._call()
        elif not self._dialling.is_running:
            self._call_later()

    def _call_later(self) -> None:
        self._dialling.start(self._pause)
        self._pause = min(MAX_DIAL_INTERVAL, self._pause * 2)

    def _call(self) -> None:
        """Call the owner, and repeat it later while no peer is connected and something is wanted."""
        self._dialling.cancel()
        if self._torrent is None or self._closed or self._is_met or not self._wishes:
            return
        if self._tried and (
            self._relays is None or self._pause >= RESTART_DIAL_INTERVAL
        ):
            # After a few failures libtorrent would not call again for a long time, or ever.
            self._begin_anew()
            return
        # TCP goes first: it is faster and costs less, and a second connection to the same peer is useless.
        late = self._tried or not self._addresses
        if self._relays is not None and not self._introduced and late:
            self._introduced = True
            self._relays.introduce(self._owner, self._torrent)
        self._tried = True
        self._called = asyncio.get_running_loop().time()
        self._uncalled = self._addresses
        self._connect()
        self._call_later()

    def _connect(self) -> None:
        """Call the next address, and the one after it soon if nobody answers."""
        self._connecting.cancel()
        if not self._uncalled or self._torrent is None or self._is_met:
            self._uncalled = ()
            return
        (host, port), *self._uncalled = self._uncalled
        try:
            self._torrent.connect(host, port)
        except (ValueError, RuntimeError) as err:
            _LOGGER.debug("Cannot call %s: %s", self._owner, err)
        if self._uncalled:
            self._connecting.start(NEXT_ADDRESS_DELAY)
