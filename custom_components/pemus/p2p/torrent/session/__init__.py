"""The engine's one libtorrent session. This package is all of the engine that drives libtorrent."""

from .session import Listener, Session, Torrent
from .settings import ADDRESSES, SessionSettings
from .stats import SessionStats, TorrentStatus

__all__ = [
    "ADDRESSES",
    "Listener",
    "Session",
    "SessionSettings",
    "SessionStats",
    "Torrent",
    "TorrentStatus",
]
