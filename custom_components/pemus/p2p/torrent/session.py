"""The engine's one libtorrent session, driven by asyncio: the only module that drives libtorrent.

libtorrent writes a byte into a socket when it has news; the event loop then takes its alerts and calls the listener of
the torrent that they are about. Calls into libtorrent only queue work for its own thread, with few exceptions, which are
made in a thread of their own.

Disk I/O is libtorrent's `posix` kind: with any other a piece may be reported as finished before it can be read, and a
player would be sent zeros. A wrong name of a kind is accepted silently, so the session looks at what really runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
import ipaddress
import logging
import os
from pathlib import Path
import socket
import time
from typing import Final, Protocol

import libtorrent as lt

from ..core.daemon import close_in_daemon
from ..torrent.priority import Priority
from .faults import SessionError
from .metainfo import Metainfo

ADDRESSES: Final = ("0.0.0.0", "[::]")  # noqa: S104 - other homes connect
"""All addresses of this machine."""
ANSWER_TIMEOUT: Final = 10.0
"""Seconds for libtorrent to add or remove a torrent, or to open its ports."""
CLOSE_TIMEOUT: Final = 1.0
STATS_INTERVAL: Final = 1.0
"""Seconds between two looks at rates and peers, while there are torrents."""
PEER_TIMEOUT: Final = 65
"""Seconds without a word after which a peer is gone. Libtorrent's 120 keep one that moved, and comes back, out for as long."""
GLANCE: Final = 0.1
GLANCES: Final = 2.0
"""Seconds between two looks at peers alone, and for how long they are looked at, after one was called."""

TICK: Final = 100
"""Milliseconds between libtorrent's looks at everything. Its default of 500 delays every new connection."""
QUICK_TICK: Final = 5
"""The same while there are peers and a limit: with each look a peer may send a little more, and it takes dozens of them
until the first piece is through."""

_DESCRIPTORS: Final = Path("/proc/self/fd")
_DISK_IO: Final = "posix_disk_io_constructor"
_FORCED: Final = 0
_RC4: Final = 2
_SOCKET_BUFFER: Final = 4 * 1024 * 1024
_LEAST_SEND_BUFFER: Final = 128 * 1024
_NORMAL: Final = 4
_IN_ORDER: Final = lt.torrent_flags.sequential_download
# What has libtorrent's highest priority goes first, in no order; the rest goes in the order of the file.
_PRIORITIES: Final = {Priority.LATER: 4, Priority.SOON: 7, Priority.NOW: 7}
_ALERTS: Final = (
    lt.alert_category.error
    | lt.alert_category.status
    | lt.alert_category.piece_progress
    | lt.alert_category.connect
    | lt.alert_category.peer
    | lt.alert_category.storage
    | lt.alert_category.port_mapping
)
_ALERT_QUEUE: Final = 20_000
_FLAGS: Final = (
    lt.torrent_flags.update_subscribe
    | lt.torrent_flags.apply_ip_filter
    | lt.torrent_flags.duplicate_is_error
    | lt.torrent_flags.disable_dht
    | lt.torrent_flags.disable_lsd
    | lt.torrent_flags.disable_pex
)
_LOCAL_NETWORKS: Final = (
    ("10.0.0.0", "10.255.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("::1", "::1"),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
)
_ALL_V4: Final = ("0.0.0.0", "255.255.255.255")  # noqa: S104 - a range, nothing is bound
_ALL_V6: Final = ("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """What of the session can be set, while it runs too."""

    addresses: tuple[str, ...] = ADDRESSES
    """Where to listen: addresses, those of IPv6 in brackets. Without any, nobody can connect from outside."""
    port: int = 0
    """TCP port; 0 lets the system choose one for all addresses."""
    upload_limit: int = 0
    """Bytes per second of all torrents together; 0 for none."""
    download_limit: int = 0
    connections: int = 200
    lan_exempt: bool = True
    """Whether the limits leave peers of the local network alone: those with private addresses, and this machine."""
    own_addresses: tuple[str, ...] = ()
    """IP addresses of this machine."""
    port_mapping: bool = False
    """Whether to ask the router for a port (UPnP, NAT-PMP)."""
    stun_server: str = ""
    """`host:port` that tells WebRTC its public address; none is needed within one network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStats:
    """What the session does at present."""

    upload_rate: float = 0.0
    """Bytes of files per second."""
    download_rate: float = 0.0
    uploaded: int = 0
    """Bytes of files since the session began."""
    downloaded: int = 0
    peers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TorrentStatus:
    """What one torrent does at present."""

    upload_rate: int = 0
    download_rate: int = 0
    uploaded: int = 0
    downloaded: int = 0
    peers: int = 0


class Listener(Protocol):
    """Is told what happens to one torrent, in the event loop."""

    def piece_finished(self, index: int) -> None:
        """Take note that a piece was verified, and can be read from the file."""

    def peer_connected(self) -> None:
        """Take note that there is one more peer."""

    def peer_lost(self) -> None:
        """Take note that there is one peer less."""

    def failed(self, message: str) -> None:
        """Take note that the torrent does nothing any more. It remains to be removed."""


class Torrent:
    """One torrent of the session."""

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
        """What the log calls it: the item's name."""
        self.listener = listener
        self.status = TorrentStatus()
        self._session = session
        self._handle = handle
        self._wanted: dict[int, Priority] = {}
        self._removed = False

    @property
    def is_removed(self) -> bool:
        """Tell whether it was removed, or is about to be."""
        return self._removed

    def want(self, wishes: Mapping[int, Priority]) -> None:
        """Ask for these pieces, and for no others any more.

        Only what is wanted now gets a deadline: it makes libtorrent take back what it asked for otherwise, and ask for
        little else until that piece is there. That is right after a seek, and slow for whoever reads on and on.
        """
        if self._removed:
            return
        changed = [(index, 0) for index in self._wanted if index not in wishes]
        for index, _ in changed:
            if self._wanted[index] is Priority.NOW:
                self._handle.reset_piece_deadline(index)
        hurried = []
        for index, priority in wishes.items():
            if (former := self._wanted.get(index)) is priority:
                continue
            if former is Priority.NOW:
                self._handle.reset_piece_deadline(index)
            elif priority is Priority.NOW:
                hurried.append(index)
            changed.append((index, _PRIORITIES[priority]))
        if changed:
            self._handle.prioritize_pieces(changed)
            # libtorrent looks for the next piece only between marks that it moves inwards when pieces are not wanted, and
            # never outwards again. Switching its mode off puts them back.
            self._handle.unset_flags(_IN_ORDER)
            self._handle.set_flags(_IN_ORDER)
        for index in hurried:
            self._handle.set_piece_deadline(index, 0, 0)
        self._wanted = dict(wishes)

    def connect(self, host: str, port: int) -> None:
        """Connect to a peer by TCP. Raises ValueError for what is no address."""
        address = str(ipaddress.ip_address(host))
        if not 0 < port < 65536:
            raise ValueError(f"{port} is no port")
        if not self._removed:
            self._session.hurry()
            self._handle.connect_peer((address, port))
            self._session.glance()

    def resume(self) -> None:
        """Begin, if it was held so far: peers that are known by now are called at once, and later ones up to 1 s later."""
        if not self._removed:
            self._handle.resume()

    def add_tracker(self, url: str) -> None:
        """Announce to a tracker from now on."""
        if not self._removed:
            self._handle.add_tracker({"url": url, "tier": 0})

    def remove_trackers(self) -> None:
        """Announce to nobody any more."""
        if not self._removed:
            self._handle.replace_trackers([])

    def reannounce(self) -> None:
        """Announce at once, however short ago that was."""
        if not self._removed:
            self._handle.force_reannounce(0, -1, lt.torrent_handle.ignore_min_interval)

    def hang_up(self) -> None:
        """Hang up on all peers, who may call again at once."""
        if not self._removed:
            self._handle.pause()
            self._handle.resume()

    def limit_upload(self, bytes_s: int) -> None:
        """Send at most so many bytes per second; 0 for no limit."""
        if not self._removed:
            self._handle.set_upload_limit(bytes_s)

    async def remove(self) -> None:
        """Hang up on all peers and forget the torrent; its file stays. Returns when libtorrent has let go of it."""
        if not self._removed:
            self._removed = True
            await self._session.remove(self)


class Session:
    """All torrents of the engine."""

    def __init__(self, settings: SessionSettings) -> None:
        """Prepare a session. `open` makes one that runs."""
        self._settings = settings
        self._stats = SessionStats()
        self._stats_at = 0.0
        self._torrents: dict[str, Torrent] = {}
        self._adding: dict[str, asyncio.Future[lt.torrent_handle]] = {}
        # Given up while being added; removed as soon as they are there.
        self._abandoned: dict[str, asyncio.Future[lt.torrent_handle]] = {}
        self._removing: dict[str, asyncio.Future[None]] = {}
        self._opened: dict[str, list[int]] = {}
        """Descriptors of what is seeded, by info-hash. There are several while libtorrent lets go of a former torrent."""
        self._listening: asyncio.Future[int] | None = None
        self._counters: asyncio.Future[Mapping[str, int]] | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._hurrying = False
        self._glancing = float("-inf")
        self._glancer: asyncio.TimerHandle | None = None
        self._session: lt.session | None = None
        self._loop = asyncio.get_running_loop()
        self._reading, self._writing = socket.socketpair()
        self._on_stats: Callable[[], None] = lambda: None
        self.port = 0
        """TCP port, the same for all addresses; 0 when nobody can connect from outside."""

    @classmethod
    async def open(
        cls, settings: SessionSettings, *, on_stats: Callable[[], None] = lambda: None
    ) -> Session:
        """Start a session. `on_stats` is called when `stats` is new. Raises SessionError."""
        self = cls(settings)
        self._on_stats = on_stats
        loop = self._loop
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        parameters = lt.session_params()
        parameters.disk_io_constructor = _DISK_IO
        parameters.settings = self._pack(settings) | _interfaces(settings)
        self._listening = loop.create_future()
        self._counters = loop.create_future()
        try:
            self._session = await asyncio.to_thread(lt.session, parameters)
            loop.add_reader(self._reading, self._take_alerts)
            self._session.set_alert_fd(self._writing.fileno())
            self._exempt(self._session, settings)
            self._session.post_session_stats()
            async with asyncio.timeout(ANSWER_TIMEOUT):
                counters = await self._counters
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
        """Return rates and counts, which are renewed every second while there are torrents."""
        return self._stats

    def apply(self, settings: SessionSettings) -> None:
        """Change settings; what runs goes on."""
        if settings == self._settings or self._session is None:
            return
        former, self._settings = self._settings, settings
        pack = self._pack(settings)
        if (former.addresses, former.port) != (settings.addresses, settings.port):
            # Only then: it makes libtorrent close its ports and open others. Peers that are connected stay so.
            pack |= _interfaces(settings)
            self.port = 0
            self._listening = self._loop.create_future()
        self._session.apply_settings(pack)
        self._hurrying = False
        self._exempt(self._session, settings)

    async def listening(self) -> int:
        """Return the port once it is open; 0 if none is to be, or none can be opened."""
        listening = self._listening
        if self._settings.addresses and listening is not None:
            await asyncio.wait((listening,), timeout=ANSWER_TIMEOUT)
            if not listening.done():
                # It still may be, but nobody else waits for it.
                listening.set_result(0)
        return self.port

    async def seed(
        self, meta: Metainfo, opened: int, label: str, listener: Listener
    ) -> Torrent:
        """Serve a complete file that nothing may write to, given as an open descriptor.

        libtorrent opens a file by its path for each block that it reads, and a path may lead elsewhere by then. A
        descriptor's place in /proc always leads to the file that was opened. The descriptor is this session's from now
        on, also when adding the torrent fails: it is closed when libtorrent has let go of it, and not before, since its
        number may stand for another file then.

        Upload mode is what keeps libtorrent from writing when it finds that the file is not what the hashes say, and it
        stays in it only if it is not auto-managed.
        """
        try:
            parameters = self._parameters(meta, _DESCRIPTORS / str(opened))
        except BaseException:
            close_in_daemon(opened)
            raise
        parameters.flags = (
            _FLAGS | lt.torrent_flags.seed_mode | lt.torrent_flags.upload_mode
        )
        return await self._add(parameters, meta, label, listener, opened)

    def _close_opened(self, key: str, opened: int | None = None) -> None:
        """Close a descriptor of a torrent that libtorrent does not have, or no longer: the oldest, unless one is named."""
        if found := self._opened.get(key, []):
            found.remove(chosen := found[0] if opened is None else opened)
            close_in_daemon(chosen)
            if not found:
                del self._opened[key]

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
        """Download into a file that exists and has its full size. No piece is asked for until `Torrent.want`.

        `have` tells which pieces were verified already. A torrent that is `held` does nothing until `Torrent.resume`.
        """
        parameters = self._parameters(meta, path)
        parameters.flags = _FLAGS | lt.torrent_flags.no_verify_files | _IN_ORDER
        if held:
            parameters.flags |= lt.torrent_flags.paused
        parameters.piece_priorities = [0] * meta.piece_count
        if any(have):
            parameters.have_pieces = [bool(each) for each in have]
        return await self._add(parameters, meta, label, listener)

    async def remove(self, torrent: Torrent) -> None:
        """Do the work of `Torrent.remove`."""
        key = torrent.meta.info_hash
        if self._session is None or self._torrents.get(key) is not torrent:
            return
        future = self._removing[key] = self._loop.create_future()
        try:
            self._session.remove_torrent(torrent._handle)  # noqa: SLF001 - one unit
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await future
        except TimeoutError:
            _LOGGER.warning("libtorrent does not let go of %s", torrent.label)
        finally:
            self._removing.pop(key, None)
            self._torrents.pop(key, None)

    async def close(self) -> None:
        """End all torrents and the session."""
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None
        if self._glancer is not None:
            self._glancer.cancel()
            self._glancer = None
        session, self._session = self._session, None
        if session is not None:
            session.set_alert_fd(-1)
            self._loop.remove_reader(self._reading)
            self._torrents.clear()
            # The destructor waits for libtorrent's thread; it must not be the event loop that calls it.
            holder = [session]
            del session
            opened = [each for found in self._opened.values() for each in found]
            self._opened.clear()

            def end() -> None:
                holder.clear()
                for each in opened:
                    os.close(each)

            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await asyncio.to_thread(end)
        for adding in self._adding.values():
            adding.cancel()
        for removing in self._removing.values():
            removing.cancel()
        self._reading.close()
        self._writing.close()

    # Adding.

    @staticmethod
    def _parameters(meta: Metainfo, path: Path) -> lt.add_torrent_params:
        parameters = lt.add_torrent_params()
        try:
            os.fspath(path).encode()
        except UnicodeEncodeError:
            raise SessionError("libtorrent cannot handle the file's name") from None
        parameters.ti = lt.torrent_info(meta.encode())
        parameters.save_path = str(path.parent)
        parameters.renamed_files = {0: path.name}
        parameters.storage_mode = lt.storage_mode_t.storage_mode_sparse
        return parameters

    async def _add(
        self,
        parameters: lt.add_torrent_params,
        meta: Metainfo,
        label: str,
        listener: Listener,
        opened: int | None = None,
    ) -> Torrent:
        """Add a torrent, which reads from an open descriptor if there is one. That is closed if it is not added."""
        key = meta.info_hash
        adding: asyncio.Future[lt.torrent_handle] = self._loop.create_future()
        if opened is not None:
            self._opened.setdefault(key, []).append(opened)
        try:
            handle = await self._handle_of(parameters, key, adding)
        except BaseException:
            if opened is not None:
                if self._abandoned.get(key) is adding:
                    adding.add_done_callback(
                        lambda done: (
                            self._close_opened(key, opened)
                            if not done.cancelled() and done.exception()
                            else None
                        )
                    )
                else:
                    self._close_opened(key, opened)
            raise
        torrent = Torrent(self, handle, meta, label, listener)
        self._torrents[key] = torrent
        if self._ticker is None:
            self._tick()
        return torrent

    async def _handle_of(
        self,
        parameters: lt.add_torrent_params,
        key: str,
        future: asyncio.Future[lt.torrent_handle],
    ) -> lt.torrent_handle:
        """Have libtorrent add a torrent; what it answers arrives in the future."""
        if abandoned := self._abandoned.get(key):
            await asyncio.wait([abandoned], timeout=ANSWER_TIMEOUT)
        if self._session is None:
            raise SessionError("the session has ended")
        if key in self._torrents or key in self._adding:
            raise SessionError("there is such a torrent already")
        self._adding[key] = future
        try:
            self._session.async_add_torrent(parameters)
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await asyncio.shield(future)
        except TimeoutError:
            self._discard(key, future)
            raise SessionError("libtorrent does not answer") from None
        except asyncio.CancelledError:
            self._discard(key, future)
            raise
        finally:
            # What was given up stays known until libtorrent has added it, so that it can be removed then.
            if future.done():
                self._adding.pop(key, None)

    def _discard(self, key: str, adding: asyncio.Future[lt.torrent_handle]) -> None:
        """Have a torrent that nobody waits for any more removed as soon as it is there."""

        def remove(done: asyncio.Future[lt.torrent_handle]) -> None:
            self._adding.pop(key, None)
            self._abandoned.pop(key, None)
            if (
                self._session is not None
                and not done.cancelled()
                and done.exception() is None
            ):
                self._session.remove_torrent(done.result())

        self._abandoned[key] = adding
        adding.add_done_callback(remove)

    # Settings.

    @staticmethod
    def _pack(settings: SessionSettings) -> lt.settings_pack:
        # libtorrent's type of its settings has not all of them: "per_pid" is missing.
        return {  # type: ignore[typeddict-unknown-key]
            "user_agent": "PeMuS",
            "peer_fingerprint": "-PS0100-",
            "alert_mask": int(_ALERTS),
            "alert_queue_size": _ALERT_QUEUE,
            "enable_dht": False,
            "enable_lsd": False,
            "enable_upnp": settings.port_mapping,
            "enable_natpmp": settings.port_mapping,
            "in_enc_policy": _FORCED,
            "out_enc_policy": _FORCED,
            "allowed_enc_level": _RC4,
            "prefer_rc4": True,
            "upload_rate_limit": settings.upload_limit,
            "download_rate_limit": settings.download_limit,
            "connections_limit": settings.connections,
            "unchoke_slots_limit": -1,
            "allow_multiple_connections_per_ip": True,
            # Who comes back is welcome, even if the connection that broke is not known to be dead yet.
            "allow_multiple_connections_per_pid": True,
            # A peer whose address changed does not say so, and one that has nothing to say sends a sign of life in half of it.
            "peer_timeout": PEER_TIMEOUT,
            # A reader that has all it wants for now would be hung up on, and its next seek would hang.
            "close_redundant_connections": False,
            "send_socket_buffer_size": _SOCKET_BUFFER,
            # A peer that has just come, or that seeks, has no rate yet that the buffer could follow: with 10 KiB it got a
            # block per tick. What is in there cannot be taken back, so it is not more than a tenth of a second on a slow line.
            "send_buffer_low_watermark": _LEAST_SEND_BUFFER,
            "recv_socket_buffer_size": _SOCKET_BUFFER,
            "mixed_mode_algorithm": 0,
            # Otherwise every peer is called by uTP first, which takes half as much CPU again, and seconds where only the
            # TCP port can be reached.
            "enable_outgoing_utp": False,
            "tick_interval": TICK,
            "strict_end_game_mode": False,
            # What is asked for in advance is in the way of what a reader needs next.
            "request_queue_time": 1,
            # Pieces of libtorrent's own choice that are sent before anything that was asked for in its order.
            "allowed_fast_set_size": 0,
            "min_reconnect_time": 2,
            "stop_tracker_timeout": 1,
            # The tracker of the engine itself listens on loopback.
            "ssrf_mitigation": False,
            "webtorrent_stun_server": settings.stun_server,
            "no_atime_storage": True,
        }

    @staticmethod
    def _exempt(session: lt.session, settings: SessionSettings) -> None:
        """Put peers of the local network into a class without limits, or nobody."""
        classes = lt.ip_filter()
        everyone = 1 << int(lt.session.global_peer_class_id)
        for start, stop in (_ALL_V4, _ALL_V6):
            classes.add_rule(start, stop, everyone)
        if settings.lan_exempt:
            own = ((address, address) for address in settings.own_addresses)
            for start, stop in (*_LOCAL_NETWORKS, *own):
                classes.add_rule(start, stop, 1 << int(lt.session.local_peer_class_id))
        session.set_peer_class_filter(classes)

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
                _LOGGER.exception("News of libtorrent could not be handled")

    def _take(self, alert: lt.alert) -> None:
        match alert:
            case lt.add_torrent_alert():
                self._added(alert)
            case lt.torrent_removed_alert():
                key = str(alert.info_hashes.v1)
                self._close_opened(key)
                if (removed := self._removing.get(key)) and not removed.done():
                    removed.set_result(None)
            case lt.torrent_alert():
                if alert.handle.is_valid():
                    key = str(alert.handle.info_hashes().v1)
                    if torrent := self._torrents.get(key):
                        self._tell(torrent, alert)
            case lt.incoming_connection_alert():
                self.hurry()
            case lt.state_update_alert():
                self._update(alert.status)
            case lt.session_stats_alert():
                self._count(alert.values)
            case lt.listen_succeeded_alert():
                self._listens(alert)
            case lt.listen_failed_alert():
                # A machine without IPv6 is none of the user's worries as long as one address works.
                _LOGGER.debug("Cannot listen: %s", alert.message())
            case lt.portmap_error_alert():
                _LOGGER.info("The router opens no port: %s", alert.error.message())
            case lt.alerts_dropped_alert():
                _LOGGER.warning("libtorrent had more news than could be taken")

    @staticmethod
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
                _LOGGER.info(
                    "%s: what a peer sent is not what was shared", torrent.label
                )

    def _added(self, alert: lt.add_torrent_alert) -> None:
        key = (
            str(alert.params.ti.info_hashes().v1)
            if alert.params.ti is not None
            else str(alert.params.info_hashes.v1)
        )
        future = self._adding.get(key)
        if future is None or future.done():
            return
        if alert.error.value():
            future.set_exception(SessionError(alert.error.message()))
        else:
            future.set_result(alert.handle)

    def _listens(self, alert: lt.listen_succeeded_alert) -> None:
        if alert.socket_type != lt.listen_succeeded_alert_socket_type_t.tcp:
            return
        if not self._settings.addresses:
            # It was closed again meanwhile.
            return
        self.port = alert.port
        if self._listening is not None and not self._listening.done():
            self._listening.set_result(alert.port)

    # Pace.

    def hurry(self) -> None:
        """Look at limited peers more often, from the moment the first one is there."""
        limited = self._settings.upload_limit or self._settings.download_limit
        if limited and not self._hurrying and self._session is not None:
            self._hurrying = True
            self._session.apply_settings({"tick_interval": QUICK_TICK})
            if self._ticker is None:
                self._tick()

    def _calm_down(self) -> None:
        if self._hurrying and self._session is not None:
            self._hurrying = False
            self._session.apply_settings({"tick_interval": TICK})

    # Figures.

    def _tick(self) -> None:
        self._ticker = None
        if self._session is None:
            return
        self._session.post_session_stats()
        self._session.post_torrent_updates()
        stats = self._stats
        # Until the last news is that nothing moves any more.
        if self._torrents or stats.upload_rate or stats.download_rate or stats.peers:
            self._ticker = self._loop.call_later(STATS_INTERVAL, self._tick)

    def glance(self) -> None:
        """Look at peers more often for a moment: that one answers who was called is seen in a torrent's status alone."""
        self._glancing = self._loop.time() + GLANCES
        if self._glancer is None:
            self._glance()

    def _glance(self) -> None:
        self._glancer = None
        if self._session is not None and self._loop.time() < self._glancing:
            self._session.post_torrent_updates()
            self._glancer = self._loop.call_later(GLANCE, self._glance)

    def _update(self, statuses: Iterable[lt.torrent_status]) -> None:
        for status in statuses:
            torrent = self._torrents.get(str(status.info_hashes.v1))
            if torrent is not None:
                torrent.status = TorrentStatus(
                    upload_rate=status.upload_payload_rate,
                    download_rate=status.download_payload_rate,
                    uploaded=status.total_payload_upload,
                    downloaded=status.total_payload_download,
                    peers=status.num_peers,
                )

    def _count(self, counters: Mapping[str, int]) -> None:
        if self._counters is not None and not self._counters.done():
            self._counters.set_result(counters)
        now = time.monotonic()
        seconds = now - self._stats_at
        former, self._stats_at = self._stats, now
        uploaded = counters["net.sent_payload_bytes"]
        downloaded = counters["net.recv_payload_bytes"]
        self._stats = SessionStats(
            upload_rate=(uploaded - former.uploaded) / seconds,
            download_rate=(downloaded - former.downloaded) / seconds,
            uploaded=uploaded,
            downloaded=downloaded,
            peers=counters["peer.num_peers_connected"],
        )
        if not self._stats.peers:
            self._calm_down()
        if self._stats != former:
            self._on_stats()


def _interfaces(settings: SessionSettings) -> lt.settings_pack:
    """Return the setting that says where to listen.

    Of libtorrent's own choice, each of the machine's addresses would have another port. Should the port be taken in the
    next moment, libtorrent tries the ones after it.
    """
    if not settings.addresses:
        return {"listen_interfaces": ""}
    port = settings.port
    if not port:
        with socket.create_server(("", 0)) as probe:
            port = probe.getsockname()[1]
    listen = ",".join(f"{address}:{port}" for address in settings.addresses)
    return {"listen_interfaces": listen}
