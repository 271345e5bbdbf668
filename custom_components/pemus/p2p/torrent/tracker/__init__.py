"""The tracker on loopback, through which libtorrent finds the WebRTC peers of other homes."""

from .introductions import MAX_MESSAGE, Introduction
from .meeting import MAX_WAITING
from .outbox import Send
from .tracker import MAX_TORRENTS, LoopbackTracker, SignalingRelay

__all__ = [
    "MAX_MESSAGE",
    "MAX_TORRENTS",
    "MAX_WAITING",
    "Introduction",
    "LoopbackTracker",
    "Send",
    "SignalingRelay",
]
