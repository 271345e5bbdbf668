"""The session and its torrents.

libtorrent writes a byte into a socket when it has alerts. The event loop then takes them and calls the listener of the torrent
that they are about. Calls into libtorrent only queue work for its own thread, except starting and ending a session, which run
in a thread of their own.

Disk I/O is libtorrent's `posix` kind: with any other, a piece may be reported as finished before it can be read, and a player
would get zeros. libtorrent accepts a wrong name of a kind silently, so the session checks which kind runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
import ipaddress
import logging
import os
from pathlib import Path
import socket
from typing import Final, Protocol

import libtorrent as lt

from ...core.daemon import close_in_daemon
from ..faults import SessionError
from ..metainfo import Metainfo
from ..priority import Priority
from .additions import ANSWER_TIMEOUT, Additions, parameters_of
from .settings import SessionSettings
from .stats import SessionStats, StatsPoller, TorrentStatus

CLOSE_TIMEOUT: Final = 1.0
"""Seconds for libtorrent's thread to end."""

_DESCRIPTORS: Final = Path("/proc/self/fd")
_DISK_IO: Final = "posix_disk_io_constructor"
_IN_ORDER: Final = lt.torrent_flags.sequential_download
# Pieces of libtorrent's highest priority come first, in no order; the rest comes in the order of the file.
_PRIORITIES: Final = {Priority.LATER: 4, Priority.SOON: 7, Priority.NOW: 7}
_FLAGS: Final = (
    lt.torrent_flags.update_subscribe
    | lt.torrent_flags.apply_ip_filter
    | lt.torrent_flags.duplicate_is_error
    | lt.torrent_flags.disable_dht
    | lt.torrent_flags.disable_lsd
    | lt.torrent_flags.disable_pex
)

_LOGGER = logging.getLogger(__name__)


class Listener(Protocol):
    """Is called in the event loop when something happens to one torrent."""

    def piece_finished(self, index: int) -> None:
        """Handle a verified piece, which can be read from the file now."""

    def peer_connected(self) -> None:
        """Handle one more peer."""

    def peer_lost(self) -> None:
        """Handle one peer less."""

    def failed(self, message: str) -> None:
        """Handle an error that stopped the torrent. It remains to be removed."""


class Torrent:
    """One torrent of the session. Once it is removed, its methods do nothing."""

    def __init__(
        self,
        session: Session,
        handle: lt.torrent_handle,
        meta: Metainfo,
        label: str,
        listener: Listener,
    ) -> None:
        """Take over a torrent that libtorrent has added."""
        self.meta = meta
        self.label = label
        """Its name in the log: the item's."""
        self.listener = listener
        self.status = TorrentStatus()
        self._session = session
        self._handle = handle
        self._wanted: dict[int, Priority] = {}
        self._removed = False

    @property
    def is_removed(self) -> bool:
        """Whether it was removed, or is about to be."""
        return self._removed

    def want(self, wishes: Mapping[int, Priority]) -> None:
        """Request these pieces, and no others any more.

        Only pieces that are wanted now get a deadline. It makes libtorrent cancel its other requests and request little else
        until the piece arrives: right after a seek, but slow for sequential reading.
        """
        if self._removed:
            return
        changed = [(index, 0) for index in self._wanted if index not in wishes]
        for index, _ in changed:
            if self._wanted[index] is Priority.NOW:
                self._handle.reset_piece_deadline(index)
        urgent = []
        for index, priority in wishes.items():
            if (former := self._wanted.get(index)) is priority:
                continue
            if former is Priority.NOW:
                self._handle.reset_piece_deadline(index)
            elif priority is Priority.NOW:
                urgent.append(index)
            changed.append((index, _PRIORITIES[priority]))
        if changed:
            self._handle.prioritize_pieces(changed)
            # libtorrent looks for the next piece between two marks. It moves them inwards past unwanted pieces, and never
            # outwards again. Switching the mode off resets them.
            self._handle.unset_flags(_IN_ORDER)
            self._handle.set_flags(_IN_ORDER)
        for index in urgent:
            self._handle.set_piece_deadline(index, 0, 0)
        self._wanted = dict(wishes)

    def connect(self, host: str, port: int) -> None:
        """Connect to a peer by TCP. Raises ValueError for an invalid address."""
        address = str(ipaddress.ip_address(host))
        if not 0 < port < 65536:
            raise ValueError(f"{port} is no port")
        if not self._removed:
            self._session.poller.hurry()
            self._handle.connect_peer((address, port))
            self._session.poller.watch_connecting()

    def resume(self) -> None:
        """Start a torrent that was held. It connects to the peers known by now at once, and to later ones within 1 s."""
        if not self._removed:
            self._handle.resume()

    def add_tracker(self, url: str) -> None:
        """Announce to a tracker from now on."""
        if not self._removed:
            self._handle.add_tracker({"url": url, "tier": 0})

    def remove_trackers(self) -> None:
        """Announce to no tracker any more."""
        if not self._removed:
            self._handle.replace_trackers([])

    def reannounce(self) -> None:
        """Announce at once, whenever the last announce was."""
        if not self._removed:
            self._handle.force_reannounce(0, -1, lt.torrent_handle.ignore_min_interval)

    def hang_up(self) -> None:
        """Disconnect all peers, who may connect again at once."""
        if not self._removed:
            self._handle.pause()
            self._handle.resume()

    def limit_upload(self, bytes_s: int) -> None:
        """Send at most so many bytes per second; 0 for no limit."""
        if not self._removed:
            self._handle.set_upload_limit(bytes_s)

    async def remove(self) -> None:
        """Disconnect all peers and forget the torrent; its file stays. Returns when libtorrent has let go of it."""
        if not self._removed:
            self._removed = True
            await self._session.remove(self, self._handle)


class Session:
    """All torrents of the engine."""

    def __init__(
        self,
        session: lt.session,
        settings: SessionSettings,
        on_stats: Callable[[], None],
    ) -> None:
        """Drive a session of libtorrent. Use `open` to start one."""
        self.port = 0
        """TCP port, the same for all addresses; 0 when nobody can connect from outside."""
        self._loop = asyncio.get_running_loop()
        self._settings = settings
        self._session: lt.session | None = session
        self._torrents: dict[str, Torrent] = {}
        self._removing: dict[str, asyncio.Future[None]] = {}
        self._additions = Additions(session, self._torrents)
        self._listening: asyncio.Future[int] = self._loop.create_future()
        self._reading, self._writing = socket.socketpair()
        for each in (self._reading, self._writing):
            each.setblocking(False)
        self._loop.add_reader(self._reading, self._take_alerts)
        session.set_alert_fd(self._writing.fileno())
        session.set_peer_class_filter(settings.peer_classes())
        self.poller = StatsPoller(session, self._torrents, on_stats)
        self.poller.limit(settings.is_limited)

    @classmethod
    async def open(
        cls, settings: SessionSettings, *, on_stats: Callable[[], None] = lambda: None
    ) -> Session:
        """Start a session. `on_stats` is called when `stats` has changed. Raises SessionError."""
        parameters = lt.session_params()
        parameters.disk_io_constructor = _DISK_IO
        parameters.settings = settings.pack() | settings.interfaces()
        self = cls(await asyncio.to_thread(lt.session, parameters), settings, on_stats)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                counters = await self.poller.counted
                if settings.addresses:
                    await self._listening
        except TimeoutError:
            await self.close()
            raise SessionError("libtorrent does not start") from None
        except BaseException:
            await self.close()
            raise
        if counters["disk.num_running_threads"]:
            await self.close()
            raise SessionError("libtorrent does not use the disk as it was told to")
        return self

    @property
    def stats(self) -> SessionStats:
        """Rates and counts, updated every second while there are torrents."""
        return self.poller.stats

    def apply(self, settings: SessionSettings) -> None:
        """Change settings. Transfers continue."""
        if settings == self._settings or self._session is None:
            return
        former, self._settings = self._settings, settings
        pack = settings.pack()
        if (former.addresses, former.port) != (settings.addresses, settings.port):
            # Only then, because it makes libtorrent close its ports and open others. Connected peers stay.
            pack |= settings.interfaces()
            self.port = 0
            self._listening = self._loop.create_future()
        self._session.apply_settings(pack)
        self._session.set_peer_class_filter(settings.peer_classes())
        self.poller.limit(settings.is_limited)

    async def listening(self) -> int:
        """Return the port once it is open; 0 if none is wanted, or none can be opened."""
        listening = self._listening
        if self._settings.addresses:
            await asyncio.wait((listening,), timeout=ANSWER_TIMEOUT)
            if not listening.done():
                # It may still open, but nobody else waits for it.
                listening.set_result(0)
        return self.port

    async def seed(
        self, meta: Metainfo, opened: int, label: str, listener: Listener
    ) -> Torrent:
        """Serve a complete file, given as an open descriptor, without ever writing to it.

        libtorrent opens a file by its path for each block that it reads, and a path may lead elsewhere by then. A descriptor's
        place in /proc always leads to the file that was opened. The session owns the descriptor, also if adding the torrent
        fails. It closes it once libtorrent has let go of the torrent, and not before, because its number may then stand for
        another file.

        Upload mode keeps libtorrent from writing when the file differs from its hashes. libtorrent stays in this mode only
        if the torrent is not auto-managed.
        """
        try:
            parameters = parameters_of(meta.encode(), _DESCRIPTORS / str(opened))
        except BaseException:
            close_in_daemon(opened)
            raise
        parameters.flags = (
            _FLAGS | lt.torrent_flags.seed_mode | lt.torrent_flags.upload_mode
        )
        return await self._add(parameters, meta, label, listener, opened)

    async def fetch(
        self,
        meta: Metainfo,
        path: Path,
        label: str,
        listener: Listener,
        have: Sequence[bool] = (),
        *,
        held: bool = False,
    ) -> Torrent:
        """Download into a file that exists and has its full size. No piece is requested until `Torrent.want`.

        `have` states which pieces are verified already. A torrent that is `held` does nothing until `Torrent.resume`.
        """
        parameters = parameters_of(meta.encode(), path)
        parameters.flags = _FLAGS | lt.torrent_flags.no_verify_files | _IN_ORDER
        if held:
            parameters.flags |= lt.torrent_flags.paused
        parameters.piece_priorities = [0] * meta.piece_count
        if any(have):
            parameters.have_pieces = [bool(each) for each in have]
        return await self._add(parameters, meta, label, listener)

    async def remove(self, torrent: Torrent, handle: lt.torrent_handle) -> None:
        """Do the work of `Torrent.remove`."""
        key = torrent.meta.info_hash
        if self._session is None or self._torrents.get(key) is not torrent:
            return
        future = self._removing[key] = self._loop.create_future()
        try:
            self._session.remove_torrent(handle)
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await future
        except TimeoutError:
            _LOGGER.warning("libtorrent does not let go of %s", torrent.label)
        finally:
            self._removing.pop(key, None)
            self._torrents.pop(key, None)

    async def close(self) -> None:
        """End all torrents and the session."""
        session, self._session = self._session, None
        if session is None:
            return
        session.set_alert_fd(-1)
        self._loop.remove_reader(self._reading)
        self._torrents.clear()
        self.poller.close()
        opened = self._additions.close()
        # The destructor waits for libtorrent's thread, so it must not run in the event loop.
        holder = [session]
        del session

        def end() -> None:
            holder.clear()
            for each in opened:
                os.close(each)

        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await asyncio.to_thread(end)
        for removing in self._removing.values():
            removing.cancel()
        self._reading.close()
        self._writing.close()

    async def _add(
        self,
        parameters: lt.add_torrent_params,
        meta: Metainfo,
        label: str,
        listener: Listener,
        opened: int | None = None,
    ) -> Torrent:
        key = meta.info_hash
        handle = await self._additions.add(key, parameters, opened)
        torrent = self._torrents[key] = Torrent(self, handle, meta, label, listener)
        self.poller.start()
        return torrent

    # Alerts.

    def _take_alerts(self) -> None:
        with suppress(BlockingIOError):
            while self._reading.recv(4096):
                pass
        if self._session is None:
            return
        for alert in self._session.pop_alerts():
            try:
                self._take(alert)
            except Exception:
                _LOGGER.exception("An alert of libtorrent could not be handled")

    def _take(self, alert: lt.alert) -> None:
        match alert:
            case lt.add_torrent_alert():
                self._additions.answered(alert)
            case lt.torrent_removed_alert():
                key = str(alert.info_hashes.v1)
                self._additions.removed(key)
                if (removed := self._removing.get(key)) and not removed.done():
                    removed.set_result(None)
            case lt.torrent_alert():
                if alert.handle.is_valid():
                    key = str(alert.handle.info_hashes().v1)
                    if torrent := self._torrents.get(key):
                        _tell(torrent, alert)
            case lt.incoming_connection_alert():
                self.poller.hurry()
            case lt.state_update_alert():
                self._update(alert.status)
            case lt.session_stats_alert():
                self.poller.count(alert.values)
            case lt.listen_succeeded_alert():
                self._listens(alert)
            case lt.listen_failed_alert():
                # A machine without IPv6 is no fault as long as one address works.
                _LOGGER.debug("Cannot listen: %s", alert.message())
            case lt.portmap_error_alert():
                _LOGGER.info("The router opens no port: %s", alert.error.message())
            case lt.alerts_dropped_alert():
                _LOGGER.warning("Alerts of libtorrent were lost: there were too many")

    def _update(self, statuses: Sequence[lt.torrent_status]) -> None:
        for status in statuses:
            if torrent := self._torrents.get(str(status.info_hashes.v1)):
                torrent.status = TorrentStatus.of(status)

    def _listens(self, alert: lt.listen_succeeded_alert) -> None:
        is_tcp = alert.socket_type == lt.listen_succeeded_alert_socket_type_t.tcp
        # Without addresses, it was closed again meanwhile.
        if is_tcp and self._settings.addresses:
            self.port = alert.port
            if not self._listening.done():
                self._listening.set_result(alert.port)


def _tell(torrent: Torrent, alert: lt.torrent_alert) -> None:
    """Tell a torrent's listener what happened to it."""
    match alert:
        case lt.piece_finished_alert():
            torrent.listener.piece_finished(alert.piece_index)
        case lt.peer_connect_alert():
            torrent.listener.peer_connected()
        case lt.peer_disconnected_alert():
            torrent.listener.peer_lost()
        case lt.file_error_alert() | lt.torrent_error_alert():
            message = alert.error.message()
            _LOGGER.warning("%s: %s", torrent.label, message)
            torrent.listener.failed(message)
        case lt.hash_failed_alert():
            _LOGGER.info("%s: a peer sent data that was not shared", torrent.label)
