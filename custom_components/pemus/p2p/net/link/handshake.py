"""How two homes agree on a connection and prove to each other what it connects.

Offers and answers travel as signed messages. Once the connection is open, both ends sign a transcript of what it was made
of: both IDs and keys, a random number of each home, and the certificates' fingerprints on both sides. A server between
the homes that changed anything is detected here at the latest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
import secrets
from typing import Final, NamedTuple, Protocol

from ..identity import Identity, is_signed
from ..messages import from_base64url, to_base64url
from .frames import Hello

NONCE_SIZE: Final = 16
"""Bytes of a nonce, and of the name of an attempt."""

_DOMAIN: Final = b"pemus link 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A home wants a link."""

    connection: str
    """Random name of the attempt."""
    nonce: str
    sdp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A home agrees to a link."""

    connection: str
    nonce: str
    sdp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A home refuses a link."""

    connection: str
    reason: str


KINDS: Final = ("offer", "answer", "refused")
"""The kinds of messages that open links."""


class Party(NamedTuple):
    """A home at one end of a link."""

    home: str
    key: bytes


class Proof(Protocol):
    """What both ends of one connection prove to each other with their first frames."""

    def sign(self, hello: Hello) -> Hello:
        """Return this home's first frame with its signature."""

    def is_signed(self, hello: Hello) -> bool:
        """Tell whether the other end signed its first frame. Raises BadEnvelope."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What both ends of one connection sign."""

    identity: Identity
    peer_key: bytes
    offering: bool
    """Whether this home made the offer."""
    transcript: tuple[bytes, ...]

    def sign(self, hello: Hello) -> Hello:
        """Return this home's first frame with its signature."""
        statement = self._statement(offering=self.offering)
        return replace(hello, signature=to_base64url(self.identity.sign(*statement)))

    def is_signed(self, hello: Hello) -> bool:
        """Tell whether the other home signed its first frame. Raises BadEnvelope."""
        statement = self._statement(offering=not self.offering)
        return is_signed(self.peer_key, from_base64url(hello.signature), *statement)

    def _statement(self, *, offering: bool) -> tuple[bytes, ...]:
        role = b"offering" if offering else b"answering"
        return (_DOMAIN, role, *self.transcript)


def make_offer(sdp: str) -> Offer:
    """Return an offer of a connection with this description."""
    return Offer(
        connection=secrets.token_hex(NONCE_SIZE),
        nonce=to_base64url(secrets.token_bytes(NONCE_SIZE)),
        sdp=sdp,
    )


def make_answer(offer: Offer, sdp: str) -> Answer:
    """Return the answer to an offer."""
    nonce = to_base64url(secrets.token_bytes(NONCE_SIZE))
    return Answer(connection=offer.connection, nonce=nonce, sdp=sdp)


def transcript(
    offering: Party, answering: Party, offer: Offer, answer: Answer
) -> tuple[bytes, ...]:
    """Return what a connection was made of. Raises BadEnvelope, and BadDescription without fingerprints."""
    from ..webrtc.connection import fingerprints

    return (
        offering.home.encode(),
        offering.key,
        answering.home.encode(),
        answering.key,
        offer.connection.encode(),
        from_base64url(offer.nonce),
        from_base64url(answer.nonce),
        fingerprints(offer.sdp),
        fingerprints(answer.sdp),
        sha256(offer.sdp.encode()).digest(),
        sha256(answer.sdp.encode()).digest(),
    )
