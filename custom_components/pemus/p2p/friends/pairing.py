"""Pairing: how two homes become friends.

One home asks, and drives what follows, since messages may get lost and the other home may be away for days:

    asking home                                   asked home
    request {commitment to a number}  ──────────▶  (kept, if it may be)
                                      ◀──────────  received {the asked home's number}
    reveal {the number; said yes?}    ──────────▶  now both know the words
                                      ◀──────────  verdict {said yes, no or nothing yet; paired?}

`reveal` is repeated until the verdict says that the other home is paired too. Every message is signed (see `net/messages`), so
the only thing that the words must show is that each home has the right key of the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
import logging
import random
import secrets
import time
from typing import Final

from ..core import tasks
from ..core.errors import BadRequest, Busy, NotFound
from ..core.throttle import TokenBucket
from ..models.codec import DecodeError, decode, encode
from ..models.homes import PairingState, PairingStatus
from ..models.pemus_id import read_id
from ..net.link.link import shown
from ..net.messages import Envelope
from ..net.messenger import Message, Messenger
from .sas import NONCE_SIZE, commitment, is_committed, words
from .state import Pairing
from .strangers import Source, Tries, sources_of

LIFE: Final = 7 * 86400.0
"""Seconds until a request that nobody answered is over."""
REMEMBERED: Final = 3600.0
"""Seconds for which it is known how a pairing ended; who was denied is denied again for as long."""
MAX_OUTGOING: Final = 50
MAX_BLOCKED: Final = 1000
HIDDEN_LIFE: Final = 600.0
"""Seconds within which whoever asked has to go on, or the request is forgotten. Nobody was shown it, and it can be repeated."""
QUIET: Final = 3600.0
"""Seconds between two lines in the log about what strangers do."""
RETRIES: Final = (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
"""Seconds until a message that was not answered is sent again; the last one from then on."""
COMPARING_RETRY: Final = 3.0
"""Seconds between two looks while somebody may be sitting in front of the words."""
COMPARING_SOON: Final = 600.0
"""Seconds for which that is likely."""
TICK: Final = 0.25

_REQUEST_BYTES: Final = 16
_LIVE: Final = (PairingState.WAITING, PairingState.COMPARING)
_FAILED: Final = (PairingState.DENIED, PairingState.EXPIRED)

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A home asks."""

    request: str
    name: str
    commitment: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """The asked home got the request."""

    request: str
    name: str
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reveal:
    """The asking home tells the number that it was committed to, and what its user said."""

    request: str
    nonce: str
    yes: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the asked home's user said."""

    request: str
    yes: bool | None = None
    paired: bool = False


KINDS: Final = ("request", "received", "reveal", "verdict")


class Pairings:
    """All pairings that are under way. Everything happens in the event loop."""

    def __init__(
        self,
        post: Messenger,
        *,
        name: Callable[[], str],
        is_friend: Callable[[str], bool],
        on_change: Callable[[], None],
    ) -> None:
        """Prepare to pair as the home of `post`. `on_change` is called when something is to be shown or kept."""
        self._messenger = post
        self._name = name
        self._is_friend = is_friend
        self._on_change = on_change
        self._pairings: dict[str, Pairing] = {}
        self._blocked: dict[str, None] = {}
        self._due: dict[str, tuple[float, int]] = {}
        self._tries = Tries()
        self._may_log = TokenBucket.every(QUIET)
        self._task: asyncio.Task[None] | None = None

    def restore(self, pairings: Iterable[Pairing], blocked: Iterable[str]) -> None:
        """Go on with what was under way when the engine ended."""
        self._pairings = {each.home: each for each in pairings}
        self._blocked = dict.fromkeys(blocked)
        for home in self._pairings:
            self._soon(home)

    def start(self) -> None:
        """Begin to send what is due."""
        self._task = tasks.keep(self._drive, "pairings")

    async def stop(self) -> None:
        """Send no more."""
        await tasks.end(self._task)
        self._task = None

    # State.

    @property
    def pairings(self) -> tuple[Pairing, ...]:
        """All of them, to be kept."""
        return tuple(self._pairings.values())

    @property
    def blocked(self) -> tuple[str, ...]:
        """The homes whose requests are not shown."""
        return tuple(self._blocked)

    @property
    def statuses(self) -> tuple[PairingStatus, ...]:
        """What users are shown: requests that came in count once their words are known, or if this home asked, too."""
        return tuple(
            self._status(each)
            for each in self._pairings.values()
            if not _is_hidden(each)
        )

    def is_pairing(self, home: str) -> bool:
        """Tell whether there is a pairing with a home that is not denied or over."""
        pairing = self._pairings.get(home)
        return pairing is not None and pairing.state in (*_LIVE, PairingState.PAIRED)

    def is_expected(self, home: str) -> bool:
        """Tell whether this home's user asked a home, and has no answer yet: no flood of strangers is to keep it out."""
        pairing = self._pairings.get(home)
        return pairing is not None and pairing.asked and pairing.state in _LIVE

    # What the user does.

    def request(self, text: str, *, trusted: bool) -> PairingStatus:
        """Ask a home, by its ID as somebody typed it, to become a friend.

        Raises:
            BadRequest: the ID has a typing error, or is this home's, or a friend's.
            Busy: too many requests wait for an answer.

        """
        home = read_id(text)
        if home is None:
            raise BadRequest("this is no PeMuS ID: there is a typing error in it")
        if home == self._messenger.identity.id:
            raise BadRequest("this is the ID of this home itself")
        if self._is_friend(home):
            raise BadRequest("this home is a friend already")
        self._blocked.pop(home, None)
        present = self._pairings.get(home)
        if present is not None and present.state in (*_LIVE, PairingState.PAIRED):
            # The other home asked too, or this is asked twice: a typed ID is a yes.
            present = replace(
                present,
                asked=True,
                trusted=present.trusted or trusted,
                confirmed=present.confirmed or trusted,
            )
            self._put(present)
            self._decide(present)
            return self._status(self._pairings[home])
        waiting = [each for each in self._live() if not each.incoming]
        if len(waiting) >= MAX_OUTGOING:
            raise Busy("too many requests wait for an answer")
        now = time.time()
        pairing = Pairing(
            home=home,
            incoming=False,
            asked=True,
            request=secrets.token_hex(_REQUEST_BYTES),
            trusted=trusted,
            confirmed=trusted,
            nonce=secrets.token_hex(NONCE_SIZE),
            created=now,
            expires=now + LIFE,
        )
        self._put(pairing)
        return self._status(pairing)

    def answer(
        self,
        home: str,
        *,
        accept: bool,
        block: bool,
        words: tuple[str, ...] | None = None,
    ) -> None:
        """Say yes or no. `words` are those that the user saw, as far as that is known.

        Raises NotFound, and BadRequest while there are no words to compare yet, or if they are others by now.
        """
        pairing = self._pairings.get(home)
        if block and not accept and pairing is not None and pairing.state in _FAILED:
            # It was refused already, since it came again and again.
            self._block(home)
            self._on_change()
            return
        if pairing is None or pairing.state not in _LIVE:
            raise NotFound("there is no such request")
        if block and not accept:
            self._block(home)
        if not accept:
            pairing = replace(pairing, refused=pairing.incoming)
            self._end(pairing, PairingState.DENIED)
            self._tell(self._pairings[home])
            return
        if pairing.state is not PairingState.COMPARING:
            raise BadRequest("the other home was not reached yet: there are no words")
        if words is not None and words != pairing.words:
            raise BadRequest("the other home asked anew: the words are others by now")
        pairing = replace(pairing, confirmed=True)
        self._put(pairing)
        self._decide(pairing)

    def forget(self, home: str) -> None:
        """Take a request back, or forget how a pairing ended. Raises NotFound."""
        pairing = self._pairings.get(home)
        if pairing is None:
            raise NotFound("there is no such request")
        if pairing.state in _LIVE:
            self._tell(replace(pairing, state=PairingState.DENIED))
        self._remove(home)

    def unblock(self, home: str) -> None:
        """Show a home's requests again. Raises NotFound."""
        if home not in self._blocked:
            raise NotFound("this home is not blocked")
        del self._blocked[home]
        self._on_change()

    def befriended(self) -> None:
        """Forget pairings whose homes are among the friends by now, once the other home knows as well."""
        for home, pairing in tuple(self._pairings.items()):
            if (
                pairing.state is PairingState.PAIRED
                and pairing.settled
                and self._is_friend(home)
            ):
                self._remove(home)

    def estranged(self, home: str) -> None:
        """Take note that a home is a friend no longer: what it was let do as one does not outlast that."""
        pairing = self._pairings.get(home)
        if pairing is not None and (
            _is_hidden(pairing) or pairing.state is PairingState.PAIRED
        ):
            self._remove(home)

    def retry(self, home: str | None = None) -> None:
        """Try at once to reach a home, or all of them."""
        for each in self._pairings if home is None else (home,):
            if each in self._pairings:
                self._soon(each)

    # What comes in.

    def receive(self, letter: Message) -> None:
        """Take in a message of a kind in KINDS. What makes no sense is ignored."""
        envelope = letter.envelope
        if envelope.sender in self._blocked:
            return
        try:
            match envelope.kind:
                case "request":
                    self._requested(letter, decode(Request, envelope.body))
                case "received":
                    self._was_received(letter, decode(Received, envelope.body))
                case "reveal":
                    self._revealed(letter, decode(Reveal, envelope.body))
                case "verdict":
                    self._judged(letter, decode(Verdict, envelope.body))
        except DecodeError as err:
            _LOGGER.debug("A message of %s is left out: %s", envelope.sender, err)

    def _requested(self, letter: Message, said: Request) -> None:
        home = letter.envelope.sender
        if not _is_hex(said.request, _REQUEST_BYTES) or not _is_hex(
            said.commitment, 32
        ):
            return
        present = self._pairings.get(home)
        if present is not None and present.request == said.request:
            # It is asked again, because the answer was lost.
            if present.incoming:
                self._reply(letter, present)
            return
        if present is not None and present.state is PairingState.COMPARING:
            # Words that are shown stay. If the other home knows nothing of them any more, it says so to this, and the
            # request that it repeats is the next one.
            self._reply(letter, present)
            return
        if present is not None and present.state in _LIVE and not present.incoming:
            # Both asked at the same time: that of the home with the lower ID counts.
            if self._messenger.identity.id < home:
                self._soon(home)
                return
        elif present is not None and present.refused:
            self._send(letter, "verdict", Verdict(request=said.request, yes=False))
            return
        if not self._is_friend(home) and not self._may_ask(letter, said):
            return
        if present is not None and present.state not in _LIVE:
            present = None
        # Whoever typed the ID meant this home, whichever of the requests counts.
        trusted = present is not None and present.trusted
        now = time.time()
        pairing = Pairing(
            home=home,
            incoming=True,
            request=said.request,
            name=shown(said.name),
            origin=letter.way.origin,
            lan=letter.way.is_lan,
            asked=present is not None and present.asked,
            trusted=trusted,
            confirmed=trusted,
            key=letter.envelope.key.hex(),
            nonce=secrets.token_hex(NONCE_SIZE),
            commitment=said.commitment,
            created=now,
            expires=now + LIFE,
        )
        self._put(pairing)
        self._reply(letter, pairing)

    def _was_received(self, letter: Message, said: Received) -> None:
        pairing = self._ours(letter.envelope, said.request, incoming=False)
        if pairing is None or not _is_hex(said.nonce, NONCE_SIZE):
            return
        # The first number counts: a second one could have been chosen after this home's was told.
        if pairing.state is PairingState.WAITING:
            pairing = replace(
                pairing,
                name=shown(said.name),
                origin=letter.way.origin,
                lan=letter.way.is_lan,
                key=letter.envelope.key.hex(),
                their_nonce=said.nonce,
                state=PairingState.COMPARING,
            )
            pairing = replace(pairing, words=self._words(pairing))
            self._put(pairing)
        if pairing.state is PairingState.COMPARING:
            self._reply(letter, pairing)

    def _revealed(self, letter: Message, said: Reveal) -> None:
        pairing = self._ours(letter.envelope, said.request, incoming=True)
        if pairing is None:
            if not _is_hex(said.request, _REQUEST_BYTES) or said.yes is False:
                return
            # It was over for this home before the other one heard of it, well or not.
            well = self._is_friend(letter.envelope.sender) and said.yes is True
            verdict = Verdict(request=said.request, yes=well, paired=well)
            self._send(letter, "verdict", verdict)
            return
        if _is_hidden(pairing) and said.yes is False:
            # Nobody was shown it, and nobody needs to know.
            self._remove(pairing.home)
            return
        if pairing.state in _LIVE and said.yes is False:
            # Also from who has forgotten its number.
            self._end(pairing, PairingState.DENIED)
            self._reply(letter, self._pairings[pairing.home])
            return
        if not _is_hex(said.nonce, NONCE_SIZE) or not is_committed(
            bytes.fromhex(pairing.commitment),
            bytes.fromhex(said.nonce),
            letter.envelope.key,
        ):
            return
        if pairing.state is PairingState.WAITING:
            pairing = replace(
                pairing, their_nonce=said.nonce, state=PairingState.COMPARING
            )
            pairing = replace(pairing, words=self._words(pairing))
            self._put(pairing)
        if pairing.state is PairingState.COMPARING:
            if said.yes and not pairing.confirmed_there:
                pairing = replace(pairing, confirmed_there=True)
                self._put(pairing)
            self._decide(self._pairings[pairing.home])
        elif pairing.state is PairingState.PAIRED and not pairing.settled:
            self._put(replace(pairing, settled=True))
            self.befriended()
        if pairing.home in self._pairings:
            self._reply(letter, self._pairings[pairing.home])

    def _judged(self, letter: Message, said: Verdict) -> None:
        pairing = self._ours(letter.envelope, said.request, incoming=False)
        if pairing is None:
            if not _is_hex(said.request, _REQUEST_BYTES):
                return
            if said.yes is not False and not said.paired:
                # The other home shows words for a request that was forgotten here.
                over = Reveal(request=said.request, nonce="", yes=False)
                self._send(letter, "reveal", over)
            return
        if pairing.state in _LIVE and said.yes is False:
            self._end(pairing, PairingState.DENIED)
        elif pairing.state is PairingState.COMPARING and said.yes:
            pairing = replace(pairing, confirmed_there=True)
            self._put(pairing)
            self._decide(pairing)
        pairing = self._pairings.get(pairing.home, pairing)
        if pairing.state is PairingState.PAIRED and said.paired and not pairing.settled:
            self._put(replace(pairing, settled=True))
            self.befriended()
        elif pairing.state in _FAILED and said.yes is not False:
            # The other home has not heard of it.
            self._reply(letter, pairing)

    # Inside.

    def _ours(
        self, envelope: Envelope, request: str, *, incoming: bool
    ) -> Pairing | None:
        """Return the pairing that a message is about; None for one that nobody here knows of."""
        pairing = self._pairings.get(envelope.sender)
        if (
            pairing is None
            or pairing.request != request
            or pairing.incoming is not incoming
        ):
            return None
        return pairing

    def _words(self, pairing: Pairing) -> tuple[str, ...]:
        here = self._messenger.identity.key, bytes.fromhex(pairing.nonce)
        there = bytes.fromhex(pairing.key), bytes.fromhex(pairing.their_nonce)
        asking, asked = (there, here) if pairing.incoming else (here, there)
        return words(asking, asked, pairing.request)

    def _decide(self, pairing: Pairing) -> None:
        """See whether both said yes, and tell the other home what was said here."""
        if (
            pairing.state is PairingState.COMPARING
            and self._is_confirmed(pairing)
            and pairing.confirmed_there
        ):
            self._end(pairing, PairingState.PAIRED)
            pairing = self._pairings[pairing.home]
        self._tell(pairing)

    def _is_confirmed(self, pairing: Pairing) -> bool:
        """Tell whether this home said yes. For as long as the other one is a friend, it has."""
        return pairing.confirmed or self._is_friend(pairing.home)

    def _tell(self, pairing: Pairing) -> None:
        """Send the message that is next, by all ways."""
        kind, message = self._message(pairing)
        self._messenger.send(pairing.home, kind, encode(message))

    def _reply(self, letter: Message, pairing: Pairing) -> None:
        kind, message = self._message(pairing)
        self._send(letter, kind, message)

    def _send(self, letter: Message, kind: str, message: object) -> None:
        self._messenger.send(
            letter.envelope.sender, kind, encode(message), way=letter.way
        )

    def _message(
        self, pairing: Pairing
    ) -> tuple[str, Request | Received | Reveal | Verdict]:
        """Return what the other home has to be told next."""
        request = pairing.request
        if pairing.incoming and pairing.state is PairingState.WAITING:
            return "received", Received(
                request=request, name=self._name(), nonce=pairing.nonce
            )
        yes = True if self._is_confirmed(pairing) else None
        if pairing.state in _FAILED:
            yes = False
        if pairing.incoming:
            paired = pairing.state is PairingState.PAIRED
            return "verdict", Verdict(request=request, yes=yes, paired=paired)
        if pairing.their_nonce or yes is False:
            return "reveal", Reveal(request=request, nonce=pairing.nonce, yes=yes)
        made = commitment(bytes.fromhex(pairing.nonce), self._messenger.identity.key)
        return "request", Request(
            request=request, name=self._name(), commitment=made.hex()
        )

    def _put(self, pairing: Pairing) -> None:
        self._pairings[pairing.home] = pairing
        if not pairing.incoming:
            self._soon(pairing.home, keep=True)
        self._on_change()

    def _end(self, pairing: Pairing, state: PairingState) -> None:
        if state is PairingState.PAIRED:
            self._tries.forgive(pairing.home)
        self._put(replace(pairing, state=state, ended=time.time()))

    def _remove(self, home: str) -> None:
        del self._pairings[home]
        self._due.pop(home, None)
        self._on_change()

    def _block(self, home: str) -> None:
        self._blocked[home] = None
        if len(self._blocked) > MAX_BLOCKED:
            del self._blocked[next(iter(self._blocked))]

    def _live(self) -> list[Pairing]:
        return [each for each in self._pairings.values() if each.state in _LIVE]

    def _may_ask(self, letter: Message, said: Request) -> bool:
        """Tell whether a request of a home that is no friend is let in, and count it."""
        home = letter.envelope.sender
        present = self._pairings.get(home)
        if self._tries.is_spent(home):
            self._warn("%s asks again and again to be a friend, and is refused", home)
            self._send(letter, "verdict", Verdict(request=said.request, yes=False))
            if present is not None and _is_hidden(present):
                # So that users see it, and can block it.
                self._end(replace(present, refused=True), PairingState.DENIED)
            return False
        sources: tuple[Source, ...] = ()
        # The user of this home named the one that is expected: it takes nobody's place, and nobody takes its.
        if not self.is_expected(home):
            sources = sources_of(letter.way.origin, is_lan=letter.way.is_lan)
            if not self._tries.has_room(sources):
                self._warn("Too many homes ask to be friends: %s is left out", home)
                return False
            if not self._make_room(home, sources):
                self._warn("Too many requests wait: %s is left out", home)
                return False
        self._tries.add(home, sources)
        return True

    def _make_room(self, home: str, sources: Iterable[Source]) -> bool:
        """See to it that a home's request fits: those that nobody was shown make room for it."""
        waiting = {
            each.home: (each, sources_of(each.origin, is_lan=each.lan))
            for each in self._live()
            if each.incoming and not each.asked and each.home != home
        }
        for source in sources:
            there = [each for each, of in waiting.values() if source in of]
            if len(there) < source.kind.waiting:
                continue
            hidden = [each for each in there if _is_hidden(each)]
            if not hidden:
                return False
            oldest = min(hidden, key=lambda each: each.created).home
            self._remove(oldest)
            del waiting[oldest]
        return True

    def _warn(self, text: str, home: str) -> None:
        level = logging.WARNING if self._may_log.take() else logging.DEBUG
        _LOGGER.log(level, text, home)

    def _soon(self, home: str, *, keep: bool = False) -> None:
        if not (keep and home in self._due):
            self._due[home] = (0.0, 0)

    def _status(self, pairing: Pairing) -> PairingStatus:
        """Return what users are shown of a pairing."""
        return PairingStatus(
            home=pairing.home,
            name=pairing.name,
            incoming=pairing.incoming,
            origin=pairing.origin,
            lan=pairing.lan,
            state=pairing.state,
            words=pairing.words,
            confirmed=self._is_confirmed(pairing),
            confirmed_there=pairing.confirmed_there,
            created=pairing.created,
            expires=pairing.expires,
        )

    async def _drive(self) -> None:
        """Send again what was not answered, and end what took too long."""
        while True:
            now, clock = time.monotonic(), time.time()
            for home, pairing in tuple(self._pairings.items()):
                self._expire(pairing, clock)
                if home in self._pairings and not self._pairings[home].incoming:
                    self._send_due(self._pairings[home], now)
            await asyncio.sleep(TICK)

    def _expire(self, pairing: Pairing, clock: float) -> None:
        if _is_hidden(pairing) and clock > pairing.created + HIDDEN_LIFE:
            self._remove(pairing.home)
            return
        if pairing.state in _LIVE:
            if clock > pairing.expires:
                self._end(pairing, PairingState.EXPIRED)
            return
        over = pairing.state is not PairingState.PAIRED or self._is_friend(pairing.home)
        if over and clock > pairing.ended + REMEMBERED:
            self._remove(pairing.home)

    def _send_due(self, pairing: Pairing, now: float) -> None:
        if pairing.state is PairingState.PAIRED and pairing.settled:
            return
        if pairing.state in _FAILED:
            return
        due, attempt = self._due.get(pairing.home, (0.0, 0))
        if now < due:
            return
        pause = RETRIES[min(attempt + 1, len(RETRIES) - 1)]
        recent = time.time() - pairing.created < COMPARING_SOON
        if pairing.state is not PairingState.WAITING and recent:
            pause = COMPARING_RETRY
        pause *= random.uniform(0.8, 1.2)
        self._due[pairing.home] = (now + pause, attempt + 1)
        self._tell(pairing)


def _is_hidden(pairing: Pairing) -> bool:
    """Tell whether users are not shown a request: its words are not known yet, and nobody here asked."""
    return (
        pairing.incoming and pairing.state is PairingState.WAITING and not pairing.asked
    )


def _is_hex(text: str, size: int) -> bool:
    return len(text) == 2 * size and all(each in "0123456789abcdef" for each in text)
