"""How a guest of a room and its home prove to each other that they have the secret of the room's link.

Both authenticate what the connection is made of with a key from the secret (HMAC, RFC 2104): the room, a random number of
each end, and the certificates' fingerprints on both sides. A signalling server that changed anything, or connected somebody
else, is detected here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
import hmac
from typing import Final

from ..messages import from_base64url, to_base64url
from .frames import Hello
from .handshake import Answer, Offer

_KEY_DOMAIN: Final = b"pemus room key 1"
_DOMAIN: Final = b"pemus guest 1"
_GUEST: Final = b"guest"
_HOME: Final = b"home"


@dataclass(slots=True)
class GuestProof:
    """The home's side of the proof."""

    secret: bytes
    transcript: tuple[bytes, ...]
    allows_spoken: bool
    """Whether a guest may come without the secret. A password proves then that it may."""
    has_secret: bool = field(default=False, init=False)
    """Whether the guest has proven that it has the secret."""

    def sign(self, hello: Hello) -> Hello:
        """Return this home's first frame with its proof."""
        return replace(hello, signature=to_base64url(self._mac(self.secret, _HOME)))

    def is_signed(self, hello: Hello) -> bool:
        """Tell whether the guest may go on. Raises BadEnvelope."""
        proof = from_base64url(hello.signature)
        self.has_secret = hmac.compare_digest(proof, self._mac(self.secret, _GUEST))
        return self.has_secret or (
            self.allows_spoken and hmac.compare_digest(proof, self._mac(b"", _GUEST))
        )

    def _mac(self, secret: bytes, role: bytes) -> bytes:
        key = sha256(statement(_KEY_DOMAIN, secret)).digest()
        return hmac.digest(key, statement(_DOMAIN, role, *self.transcript), "sha256")


def guest_transcript(
    slug: str, host: str, offer: Offer, answer: Answer
) -> tuple[bytes, ...]:
    """Return what a connection is made of. Raises BadEnvelope, and BadDescription without fingerprints."""
    from ..webrtc.connection import fingerprints

    return (
        slug.encode(),
        host.encode(),
        offer.connection.encode(),
        from_base64url(offer.nonce),
        from_base64url(answer.nonce),
        fingerprints(offer.sdp),
        fingerprints(answer.sdp),
        sha256(offer.sdp.encode()).digest(),
        sha256(answer.sdp.encode()).digest(),
    )


def statement(*parts: bytes) -> bytes:
    """Return all parts, each after its length in four bytes."""
    return b"".join(len(part).to_bytes(4) + part for part in parts)
