"""Binary values in texts: base64url (RFC 4648, section 5), written without padding."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode


def encode(data: bytes) -> str:
    """Return the text of some bytes."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """Return the bytes of a text, with padding or without. Characters that do not belong in it are left out.

    Raises:
        ValueError: it cannot be the text of any bytes.

    """
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
