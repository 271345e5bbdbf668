"""The figures of the session and its torrents, and how often libtorrent looks at its peers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
import time
from typing import Final

import libtorrent as lt

from ...core.timer import Timer
from .settings import TICK_INTERVAL

STATS_INTERVAL: Final = 1.0
"""Seconds between two updates of the figures, while there are torrents."""
CONNECT_INTERVAL: Final = 0.1
"""Seconds between two updates of the torrents' figures after this home connected to a peer."""
CONNECT_WATCH: Final = 2.0
"""Seconds for which they are updated so often."""
QUICK_TICK: Final = 5
"""Milliseconds between two rounds of libtorrent's work while there are peers and a limit. In each round a limited peer may
send a little more, and the first piece takes dozens of rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStats:
    """The figures of the session."""

    upload_rate: float = 0.0
    """Bytes of files per second."""
    download_rate: float = 0.0
    uploaded: int = 0
    """Bytes of files since the session started."""
    downloaded: int = 0
    peers: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TorrentStatus:
    """The figures of one torrent."""

    upload_rate: int = 0
    download_rate: int = 0
    uploaded: int = 0
    downloaded: int = 0
    peers: int = 0

    @classmethod
    def of(cls, status: lt.torrent_status) -> TorrentStatus:
        """Return libtorrent's figures."""
        return cls(
            upload_rate=status.upload_payload_rate,
            download_rate=status.download_payload_rate,
            uploaded=status.total_payload_upload,
            downloaded=status.total_payload_download,
            peers=status.num_peers,
        )


class StatsPoller:
    """Asks libtorrent for figures. The answers arrive as alerts."""

    def __init__(
        self, session: lt.session, torrents: Sized, on_stats: Callable[[], None]
    ) -> None:
        """Prepare to poll while there are `torrents`. `on_stats` is called when `stats` has changed."""
        self.stats = SessionStats()
        self.counted: asyncio.Future[Mapping[str, int]] = (
            asyncio.get_running_loop().create_future()
        )
        """The session's first counters."""
        self._session: lt.session | None = session
        self._torrents = torrents
        self._on_stats = on_stats
        self._counted_at = 0.0
        self._is_limited = self._is_quick = False
        self._watched_until = 0.0
        self._polling = Timer(self.poll)
        self._watching = Timer(self._watch)
        session.post_session_stats()

    def close(self) -> None:
        """Stop, and let go of libtorrent's session."""
        self._session = None
        self._polling.cancel()
        self._watching.cancel()

    def start(self) -> None:
        """Poll from now on: there is a torrent or a peer."""
        if not self._polling.is_running:
            self.poll()

    def poll(self) -> None:
        """Ask for all figures, and again later until nothing moves any more."""
        if self._session is None:
            return
        self._session.post_session_stats()
        self._session.post_torrent_updates()
        stats = self.stats
        if self._torrents or stats.upload_rate or stats.download_rate or stats.peers:
            self._polling.start(STATS_INTERVAL)

    def watch_connecting(self) -> None:
        """Update the torrents' figures more often for a moment: only they show that a peer answered."""
        self._watched_until = time.monotonic() + CONNECT_WATCH
        if not self._watching.is_running:
            self._watch()

    def hurry(self) -> None:
        """Serve limited peers more often, from the moment when the first one is there."""
        if self._is_limited and not self._is_quick and self._session is not None:
            self._set_quick(True)
            self.start()

    def limit(self, is_limited: bool) -> None:
        """Note that settings were applied, with the usual tick, and whether they have a limit."""
        self._is_limited, self._is_quick = is_limited, False

    def count(self, counters: Mapping[str, int]) -> None:
        """Take the session's counters."""
        if not self.counted.done():
            self.counted.set_result(counters)
        now = time.monotonic()
        seconds = now - self._counted_at
        former, self._counted_at = self.stats, now
        uploaded = counters["net.sent_payload_bytes"]
        downloaded = counters["net.recv_payload_bytes"]
        self.stats = SessionStats(
            upload_rate=(uploaded - former.uploaded) / seconds,
            download_rate=(downloaded - former.downloaded) / seconds,
            uploaded=uploaded,
            downloaded=downloaded,
            peers=counters["peer.num_peers_connected"],
        )
        if self._is_quick and not self.stats.peers:
            self._set_quick(False)
        if self.stats != former:
            self._on_stats()

    def _set_quick(self, is_quick: bool) -> None:
        if self._session is not None:
            self._is_quick = is_quick
            tick = QUICK_TICK if is_quick else TICK_INTERVAL
            self._session.apply_settings({"tick_interval": tick})

    def _watch(self) -> None:
        if self._session is not None and time.monotonic() < self._watched_until:
            self._session.post_torrent_updates()
            self._watching.start(CONNECT_INTERVAL)
