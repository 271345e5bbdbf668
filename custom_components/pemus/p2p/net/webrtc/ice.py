"""STUN and TURN servers, which help two homes to find a path to each other (RFC 8489, RFC 8656)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class IceServer:
    """One server, in the terms of an `RTCPeerConnection`."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = None
