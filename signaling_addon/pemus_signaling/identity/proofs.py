"""How a client proves over its socket that an identity is its own: it signs what it is challenged with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from pemus_signaling.net import base64url

from .ids import challenge, is_signed, pemus_id, statement

MAX_WRITTEN: Final = 128
"""Characters of a key or a signature, as they are sent."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """What one client has to sign, once."""

    identifier: str
    """The PeMuS ID, without dashes."""
    origin: str
    """This server's, as the client sees it."""
    nonce: bytes = field(default_factory=challenge)

    def message(self) -> bytes:
        """Return what the client is sent."""
        nonce = base64url.encode(self.nonce)
        return orjson.dumps(
            {"type": "CHALLENGE", "payload": {"nonce": nonce, "origin": self.origin}}
        )

    def met_by(self, payload: Any) -> bytes | None:
        """Return the public key if the payload of a PROVE holds it, and a signature by it; else None."""
        if not isinstance(payload, dict):
            return None
        key, signature = _read(payload.get("key")), _read(payload.get("signature"))
        if key is None or signature is None or pemus_id(key) != self.identifier:
            return None
        signed = statement(self.origin, self.nonce, self.identifier)
        return key if is_signed(key, signature, signed) else None


def _read(text: Any) -> bytes | None:
    if not isinstance(text, str) or len(text) > MAX_WRITTEN:
        return None
    try:
        return base64url.decode(text)
    except ValueError:
        return None
