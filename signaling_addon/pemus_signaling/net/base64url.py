"""base64url (RFC 4648, section 5) without padding."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode


def encode(data: bytes) -> str:
    """Encode bytes."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Decode a text, with or without padding. Invalid characters are ignored. Raises ValueError if the length is invalid."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
