"""One pairing of two homes: its messages, its states, and what leads from one state to the next.

One home asks, and drives what follows, since messages may get lost and the other home may be away for days:

    asking home                                       asked home
    request {commitment to a nonce}      ──────────▶  (kept, if it is let in)
                                         ◀──────────  received {the asked home's nonce}
    reveal {the nonce; accepted?}        ──────────▶  now both know the words
                                         ◀──────────  verdict {accepted, refused or open; paired?}

`reveal` is repeated until the verdict says that the other home is paired too. Every message is signed (see `net/messages`),
so the words only have to show that each home has the right key of the other.

Nothing here sends or waits: `exchange` and `pairings` do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto
import secrets
import time
from typing import Final, Self

from ..models.homes import PairingState, PairingStatus
from ..net.link.link import shown
from ..net.messenger import Message
from .sas import NONCE_SIZE, commitment, is_committed, words

REQUEST_LIFETIME: Final = 7 * 86400.0
"""Seconds after which a request that nobody answered expires."""
HIDDEN_LIFETIME: Final = 600.0
"""Seconds after which a request that users were never shown is forgotten. The other home can repeat it."""
ENDED_LIFETIME: Final = 3600.0
"""Seconds for which the end of a pairing is remembered. A refused home is refused automatically for as long."""

REQUEST_BYTES: Final = 16
LIVE: Final = (PairingState.WAITING, PairingState.COMPARING)
FAILED: Final = (PairingState.DENIED, PairingState.EXPIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The asking home asks."""

    request: str
    name: str
    commitment: str

    @property
    def is_valid(self) -> bool:
        """Whether the message makes sense."""
        return is_hex(self.request, REQUEST_BYTES) and is_hex(self.commitment, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The asked home has the request."""

    request: str
    name: str
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reveal:
    """The asking home reveals the nonce that it committed to, and tells what its user said."""

    request: str
    nonce: str
    yes: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The asked home tells what its user said."""

    request: str
    yes: bool | None = None
    paired: bool = False


KINDS: Final = ("request", "received", "reveal", "verdict")

type Step = Request | Received | Reveal | Verdict


class Expiry(Enum):
    """What time does to a pairing."""

    EXPIRES = auto()
    """It ends without an answer."""
    FORGOTTEN = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """A pairing with all that it takes to go on with it. Bytes are hexadecimal, times are seconds since the Unix epoch."""

    home: str
    incoming: bool
    """Whether the other home's request counts."""
    request: str
    """Random name of this attempt, chosen by the home that asks."""
    name: str = ""
    origin: str = ""
    lan: bool = False
    state: PairingState = PairingState.WAITING
    asked: bool = False
    """Whether this home's user asked, whichever home's request counts."""
    refused: bool = False
    """Whether the other home's request was refused here, so that its next ones are refused automatically."""
    trusted: bool = False
    confirmed: bool = False
    """Whether this home's user accepted."""
    confirmed_there: bool = False
    settled: bool = False
    """Whether the other home knows that both accepted."""
    key: str = ""
    """Public key of the other home, once it was heard of."""
    nonce: str = ""
    """This home's nonce."""
    commitment: str = ""
    """Of the other home, if it asks."""
    their_nonce: str = ""
    words: tuple[str, ...] = ()
    created: float
    expires: float
    ended: float = 0.0
    """When it was paired, denied or expired."""

    @classmethod
    def ask(cls, home: str, *, trusted: bool) -> Self:
        """Return a new request of this home."""
        now = time.time()
        return cls(
            home=home,
            incoming=False,
            asked=True,
            request=secrets.token_hex(REQUEST_BYTES),
            trusted=trusted,
            confirmed=trusted,
            nonce=secrets.token_hex(NONCE_SIZE),
            created=now,
            expires=now + REQUEST_LIFETIME,
        )

    @classmethod
    def asked_by(cls, message: Message, said: Request, former: Pairing | None) -> Self:
        """Return a request of another home. `former` is a request of this home's to it, which stands back."""
        now = time.time()
        trusted = former is not None and former.trusted
        return cls(
            home=message.envelope.sender,
            incoming=True,
            request=said.request,
            name=shown(said.name),
            origin=message.transport.origin,
            lan=message.transport.is_lan,
            asked=former is not None and former.asked,
            # Typing the ID was a yes to this home, whichever request counts.
            trusted=trusted,
            confirmed=trusted,
            key=message.envelope.key.hex(),
            nonce=secrets.token_hex(NONCE_SIZE),
            commitment=said.commitment,
            created=now,
            expires=now + REQUEST_LIFETIME,
        )

    @property
    def is_live(self) -> bool:
        """Whether it waits for something."""
        return self.state in LIVE

    @property
    def is_open(self) -> bool:
        """Whether it may make the homes friends, or has done so."""
        return self.is_live or self.state is PairingState.PAIRED

    @property
    def has_failed(self) -> bool:
        """Whether it was denied, or has expired."""
        return self.state in FAILED

    @property
    def is_expected(self) -> bool:
        """Whether this home's user asked, and waits for the answer."""
        return self.asked and self.is_live

    @property
    def is_hidden(self) -> bool:
        """Whether users are not shown it: there are no words yet, and nobody here asked."""
        return self.incoming and self.state is PairingState.WAITING and not self.asked

    # From one state to the next.

    def ask_too(self, *, trusted: bool) -> Self:
        """Note that this home's user asks for what is under way already. A typed ID is a yes."""
        return replace(
            self,
            asked=True,
            trusted=self.trusted or trusted,
            confirmed=self.confirmed or trusted,
        )

    def after_received(self, message: Message, said: Received, key: bytes) -> Self:
        """Go on after the asked home's answer. `key` is this home's public key."""
        if self.state is not PairingState.WAITING:
            # The first nonce counts: a second one may have been chosen after this home revealed its own.
            return self
        known = replace(
            self,
            name=shown(said.name),
            origin=message.transport.origin,
            lan=message.transport.is_lan,
            key=message.envelope.key.hex(),
        )
        return known.compare(said.nonce, key)

    def after_reveal(self, message: Message, said: Reveal, key: bytes) -> Self | None:
        """Go on after the asking home revealed its nonce; None if it did not commit to that. `key` is this home's public key."""
        if not is_hex(said.nonce, NONCE_SIZE) or not is_committed(
            bytes.fromhex(self.commitment),
            bytes.fromhex(said.nonce),
            message.envelope.key,
        ):
            return None
        pairing = self
        if pairing.state is PairingState.WAITING:
            pairing = pairing.compare(said.nonce, key)
        if pairing.state is PairingState.COMPARING and said.yes:
            return pairing.confirm_there()
        if pairing.state is PairingState.PAIRED:
            return pairing.settle()
        return pairing

    def confirm_there(self) -> Self:
        """Note that the other home's user accepted."""
        return replace(self, confirmed_there=True)

    def settle(self) -> Self:
        """Note that the other home knows that both accepted."""
        return replace(self, settled=True)

    def confirm(self) -> Self:
        """Note that this home's user accepted."""
        return replace(self, confirmed=True)

    def refuse(self) -> Self:
        """Note that this home's user refused."""
        return replace(self, refused=self.incoming).end(PairingState.DENIED)

    def end(self, state: PairingState) -> Self:
        """End in a state."""
        return replace(self, state=state, ended=time.time())

    def compare(self, their_nonce: str, key: bytes) -> Self:
        """Show the words, which follow from both nonces. `key` is this home's public key."""
        here = key, bytes.fromhex(self.nonce)
        there = bytes.fromhex(self.key), bytes.fromhex(their_nonce)
        asking, asked = (there, here) if self.incoming else (here, there)
        return replace(
            self,
            their_nonce=their_nonce,
            state=PairingState.COMPARING,
            words=words(asking, asked, self.request),
        )

    # What follows from a state.

    def message(self, *, key: bytes, name: str, confirmed: bool) -> tuple[str, Step]:
        """Return the kind and the body of the next message.

        `key` is this home's public key, `name` its name, and `confirmed` whether it accepts the other home.
        """
        request = self.request
        yes = False if self.has_failed else True if confirmed else None
        if self.incoming:
            if self.state is PairingState.WAITING:
                return "received", Received(
                    request=request, name=name, nonce=self.nonce
                )
            paired = self.state is PairingState.PAIRED
            return "verdict", Verdict(request=request, yes=yes, paired=paired)
        if self.their_nonce or yes is False:
            return "reveal", Reveal(request=request, nonce=self.nonce, yes=yes)
        made = commitment(bytes.fromhex(self.nonce), key)
        return "request", Request(request=request, name=name, commitment=made.hex())

    @property
    def has_more_to_send(self) -> bool:
        """Whether this home sends the next message again until it is answered."""
        is_done = self.state is PairingState.PAIRED and self.settled
        return not self.incoming and not is_done and not self.has_failed

    def expiry(self, *, is_friend: bool) -> Expiry | None:
        """Return what has become of it by now. `is_friend` tells whether the other home is configured as a friend."""
        now = time.time()
        if self.is_hidden and now > self.created + HIDDEN_LIFETIME:
            return Expiry.FORGOTTEN
        if self.is_live:
            return Expiry.EXPIRES if now > self.expires else None
        is_over = self.has_failed or is_friend
        if is_over and now > self.ended + ENDED_LIFETIME:
            return Expiry.FORGOTTEN
        return None

    def status(self, *, confirmed: bool) -> PairingStatus:
        """Return what users are shown. `confirmed` tells whether this home accepts the other one."""
        return PairingStatus(
            home=self.home,
            name=self.name,
            incoming=self.incoming,
            origin=self.origin,
            lan=self.lan,
            state=self.state,
            words=self.words,
            confirmed=confirmed,
            confirmed_there=self.confirmed_there,
            created=self.created,
            expires=self.expires,
        )


def is_hex(text: str, size: int) -> bool:
    """Tell whether a text is so many bytes in lower-case hexadecimal."""
    return len(text) == 2 * size and all(each in "0123456789abcdef" for each in text)
