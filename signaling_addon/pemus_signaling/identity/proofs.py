"""Proof of an identity: the client signs a challenge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from pemus_signaling.net import base64url

from .ids import challenge, is_signed, pemus_id, statement

MAX_WRITTEN: Final = 128
"""Maximum length of a key or a signature as text, in characters."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The challenge for one client."""

    identifier: str
    """The PeMuS ID, without dashes."""
    origin: str
    """The origin of this server that the client connected to."""
    nonce: bytes = field(default_factory=challenge)

    def message(self) -> bytes:
        """Return the message to the client."""
        nonce = base64url.encode(self.nonce)
        return orjson.dumps(
            {"type": "CHALLENGE", "payload": {"nonce": nonce, "origin": self.origin}}
        )

    def met_by(self, payload: Any) -> bytes | None:
        """Return the public key in the payload of a PROVE, or None if the key or the signature is wrong."""
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
