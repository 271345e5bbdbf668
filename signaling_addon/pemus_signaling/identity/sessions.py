"""Sessions: tokens for HTTP requests of clients that have proven an identity.

A session is a bearer token, `BODY.SIGNATURE` in base64url. The body contains the public key and the time when the session
expires. The signature is an HMAC (RFC 2104) with a secret of the server, so sessions need no storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
import hmac
import secrets
import time
from typing import Final

from pemus_signaling.net import base64url

from .ids import KEY_BYTES, pemus_id

LIFE: Final = 3600
"""How long a session is valid, in seconds."""

SKEW: Final = 300
"""How much the clocks of nodes may differ, in seconds."""

_PURPOSE: Final = b"pemus session 1"
_LENGTH: Final = KEY_BYTES + 8
_MAX_TOKEN: Final = 256


@dataclass(frozen=True, slots=True)
class Session:
    """A client that has proven its identity."""

    id: str
    """The PeMuS ID, without dashes."""
    key: bytes
    """The public key."""
    expires: float
    """When the session expires, in seconds since 1970."""


class Sessions:
    """Issues and reads sessions."""

    def __init__(self, secret: bytes | None = None) -> None:
        """Sign with a secret. By default, it is a random one, and sessions end with the process."""
        self._secret = secret or secrets.token_bytes(32)

    def share(self, secret: bytes) -> None:
        """Sign with another secret, which all nodes share."""
        self._secret = secret

    def issue(self, key: bytes, now: float | None = None) -> tuple[str, float]:
        """Return a token for the owner of a key, and the time when it expires."""
        expires = int(time.time() if now is None else now) + LIFE
        body = key + expires.to_bytes(8)
        signature = self._sign(body)
        token = f"{base64url.encode(body)}.{base64url.encode(signature)}"
        return token, float(expires)

    def read(self, token: str, now: float | None = None) -> Session | None:
        """Return the session of a token, or None if the token is invalid or has expired."""
        if len(token) > _MAX_TOKEN:
            return None
        written_body, dot, written_signature = token.partition(".")
        try:
            body = base64url.decode(written_body)
            signature = base64url.decode(written_signature)
        except ValueError:
            return None
        if (
            not dot
            or len(body) != _LENGTH
            or not hmac.compare_digest(signature, self._sign(body))
        ):
            return None
        key, expires = body[:KEY_BYTES], int.from_bytes(body[KEY_BYTES:])
        now = time.time() if now is None else now
        # A session that was issued while the clock was ahead would last too long.
        if not now < expires <= now + LIFE + SKEW:
            return None
        return Session(pemus_id(key), key, float(expires))

    def _sign(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, _PURPOSE + body, sha256)
