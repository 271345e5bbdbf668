"""Pairing with other homes: what users do, what comes in, and what is sent again until it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
import logging
import random
import time
from typing import Final

from ..core import tasks
from ..core.errors import BadRequest, Busy, NotFound
from ..models.codec import DecodeError, decode, encode
from ..models.homes import PairingState, PairingStatus
from ..models.pemus_id import read_id
from ..net.messenger import Message, Messenger
from .pairing import (
    REQUEST_BYTES,
    Expiry,
    Pairing,
    Received,
    Request,
    Reveal,
    Step,
    Verdict,
    is_hex,
)
from .sas import NONCE_SIZE
from .strangers import Admission, Strangers

MAX_OUTGOING: Final = 50
"""Requests of this home that wait for an answer."""
MAX_BLOCKED: Final = 1000
RESEND_DELAYS: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)
"""Seconds until an unanswered message is sent again; the last one from then on."""
COMPARING_DELAY: Final = 3.0
"""The same, while somebody is probably looking at the words."""
COMPARING_TIME: Final = 600.0
"""Seconds after the request for which that is probable."""
TICK: Final = 0.25
"""Seconds between two looks at what is due."""
FAREWELL_TIME: Final = 0.5
"""How long to wait for the last messages to be sent, in seconds."""

_LOGGER = logging.getLogger(__name__)


class Resending:
    """When the next message of each pairing is due."""

    def __init__(self) -> None:
        """Begin with none."""
        self._due: dict[str, tuple[float, int]] = {}
        """When, by the monotonic clock, and how often it was sent already."""

    def at_once(self, home: str) -> None:
        """Send the next message at once, and begin with the shortest delay."""
        self._due[home] = 0.0, 0

    def add(self, home: str) -> None:
        """Send a message at once if none is due yet."""
        self._due.setdefault(home, (0.0, 0))

    def remove(self, home: str) -> None:
        """Send nothing more."""
        self._due.pop(home, None)

    def take(self, pairing: Pairing) -> bool:
        """Tell whether a pairing's message is due now, and if so plan the next one."""
        now = time.monotonic()
        due, count = self._due.get(pairing.home, (0.0, 0))
        if now < due:
            return False
        delay = RESEND_DELAYS[min(count, len(RESEND_DELAYS) - 1)]
        is_recent = time.time() - pairing.created < COMPARING_TIME
        if pairing.state is not PairingState.WAITING and is_recent:
            delay = COMPARING_DELAY
        self._due[pairing.home] = now + delay * random.uniform(0.8, 1.2), count + 1
        return True


class Pairings:
    """All pairings of this home. Everything happens in the event loop."""

    def __init__(
        self,
        messenger: Messenger,
        *,
        name: Callable[[], str],
        is_friend: Callable[[str], bool],
        on_change: Callable[[], None],
    ) -> None:
        """Prepare to pair as the home of `messenger`. `on_change` is called when there is something to show or to save."""
        self._messenger = messenger
        self._name = name
        self._is_friend = is_friend
        self._on_change = on_change
        self._pairings: dict[str, Pairing] = {}
        self._blocked: dict[str, None] = {}
        self._resending = Resending()
        self._strangers = Strangers()
        self._task: asyncio.Task[None] | None = None

    def restore(self, pairings: Iterable[Pairing], blocked: Iterable[str]) -> None:
        """Go on with what was under way when the engine stopped."""
        self._pairings = {each.home: each for each in pairings}
        self._blocked = dict.fromkeys(blocked)
        self.retry()

    def start(self) -> None:
        """Start to send what is due."""
        self._task = tasks.keep(self._run, "pairings")

    async def stop(self) -> None:
        """Send nothing more."""
        await tasks.end(self._task)
        self._task = None

    # State.

    @property
    def pairings(self) -> tuple[Pairing, ...]:
        """All of them, to be saved."""
        return tuple(self._pairings.values())

    @property
    def blocked(self) -> tuple[str, ...]:
        """The homes whose requests are not shown."""
        return tuple(self._blocked)

    @property
    def statuses(self) -> tuple[PairingStatus, ...]:
        """What users are shown. Requests of others count once their words are known, or if this home asked too."""
        return tuple(
            each.status(confirmed=self._is_confirmed(each))
            for each in self._pairings.values()
            if not each.is_hidden
        )

    @property
    def is_active(self) -> bool:
        """Whether this home's user asked or accepted another home."""
        return any(each.asked or each.confirmed for each in self._pairings.values())

    def is_pairing(self, home: str) -> bool:
        """Tell whether there is a pairing with a home that has not failed."""
        pairing = self._pairings.get(home)
        return pairing is not None and pairing.is_open

    def is_expected(self, home: str) -> bool:
        """Tell whether this home's user asked a home, and waits for the answer: no flood of strangers must keep it out."""
        pairing = self._pairings.get(home)
        return pairing is not None and pairing.asked and pairing.is_live

    # What the user does.

    def request(self, text: str, *, trusted: bool) -> PairingStatus:
        """Ask a home to become a friend, by its ID as somebody typed it.

        Raises:
            BadRequest: the ID has a typing error, or is this home's own, or a friend's.
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
        if present is not None and present.is_open:
            # The other home asked too, or this home asks twice.
            present = present.ask_too(trusted=trusted)
            self._put(present)
            self._decide(present)
        else:
            outgoing = (not each.incoming for each in self._live())
            if sum(outgoing) >= MAX_OUTGOING:
                raise Busy("too many requests wait for an answer")
            self._put(Pairing.ask(home, time.time(), trusted=trusted))
        pairing = self._pairings[home]
        return pairing.status(confirmed=self._is_confirmed(pairing))

    def answer(
        self,
        home: str,
        *,
        accept: bool,
        block: bool,
        words: tuple[str, ...] | None = None,
    ) -> None:
        """Accept or refuse a home. `words` are those that the user saw, if that is known.

        Raises NotFound, and BadRequest while there are no words to compare, or if they have changed.
        """
        pairing = self._pairings.get(home)
        if block and not accept and pairing is not None and pairing.has_failed:
            # It was refused automatically, since it asked again and again.
            self._block(home)
            self._on_change()
            return
        if pairing is None or not pairing.is_live:
            raise NotFound("there is no such request")
        if block and not accept:
            self._block(home)
        if not accept:
            pairing = pairing.refuse(time.time())
            self._put(pairing)
            self._tell(pairing)
            return
        if pairing.state is not PairingState.COMPARING:
            raise BadRequest("the other home was not reached yet: there are no words")
        if words is not None and words != pairing.words:
            raise BadRequest("the other home asked anew: the words have changed")
        pairing = pairing.confirm()
        self._put(pairing)
        self._decide(pairing)

    def forget(self, home: str) -> None:
        """Take a request back, or forget how a pairing ended. Raises NotFound."""
        pairing = self._pairings.get(home)
        if pairing is None:
            raise NotFound("there is no such request")
        if pairing.is_live:
            self._tell(pairing.end(PairingState.DENIED, time.time()))
        self._remove(home)

    async def forget_all(self) -> None:
        """Take all requests back, and tell the other homes, before this home becomes another one."""
        for home in tuple(self._pairings):
            self.forget(home)
        await asyncio.sleep(FAREWELL_TIME)

    def unblock(self, home: str) -> None:
        """Show a home's requests again. Raises NotFound."""
        if home not in self._blocked:
            raise NotFound("this home is not blocked")
        del self._blocked[home]
        self._on_change()

    # What happens to friends.

    def befriended(self) -> None:
        """Forget pairings that made a friend, once the other home knows as well."""
        for home, pairing in tuple(self._pairings.items()):
            is_done = pairing.state is PairingState.PAIRED and pairing.settled
            if is_done and self._is_friend(home):
                self._remove(home)

    def estranged(self, home: str) -> None:
        """Forget what a home was allowed as a friend: it is none any more."""
        pairing = self._pairings.get(home)
        if pairing is not None and (
            pairing.is_hidden or pairing.state is PairingState.PAIRED
        ):
            self._remove(home)

    def retry(self, home: str | None = None) -> None:
        """Try at once to reach a home, or all of them."""
        for each in self._pairings if home is None else (home,):
            if each in self._pairings:
                self._resending.at_once(each)

    # What comes in.

    def receive(self, message: Message) -> None:
        """Take in a message of a kind in `pairing.KINDS`. What makes no sense is ignored."""
        envelope = message.envelope
        if envelope.sender in self._blocked:
            return
        try:
            match envelope.kind:
                case "request":
                    self._requested(message, decode(Request, envelope.body))
                case "received":
                    self._was_received(message, decode(Received, envelope.body))
                case "reveal":
                    self._revealed(message, decode(Reveal, envelope.body))
                case "verdict":
                    self._judged(message, decode(Verdict, envelope.body))
        except DecodeError as err:
            _LOGGER.debug("Ignored a message of %s: %s", envelope.sender, err)

    def _requested(self, message: Message, said: Request) -> None:
        home = message.envelope.sender
        if not said.is_valid:
            return
        present = self._pairings.get(home)
        if present is not None and present.request == said.request:
            # The answer was lost.
            if present.incoming:
                self._reply(message, present)
            return
        if present is not None and present.state is PairingState.COMPARING:
            # Words that are shown stay. If the other home has forgotten them, it says so to this reply, and its next
            # repetition of the request is let in.
            self._reply(message, present)
            return
        if present is not None and present.is_live and not present.incoming:
            # Both asked at the same time: the request of the home with the lower ID counts.
            if self._messenger.identity.id < home:
                self._resending.at_once(home)
                return
        elif present is not None and present.refused:
            self._send(message, "verdict", Verdict(request=said.request, yes=False))
            return
        if not self._is_friend(home) and not self._let_in(message, said):
            return
        former = present if present is not None and present.is_live else None
        pairing = Pairing.asked_by(message, said, former, time.time())
        self._put(pairing)
        self._reply(message, pairing)

    def _let_in(self, message: Message, said: Request) -> bool:
        """Tell whether a stranger's request is let in, after others made room for it."""
        home = message.envelope.sender
        admission, removed = self._strangers.admit(
            message, self._live(), is_expected=self.is_expected(home)
        )
        for each in removed:
            self._remove(each)
        if admission is Admission.REFUSED:
            self._send(message, "verdict", Verdict(request=said.request, yes=False))
            present = self._pairings.get(home)
            if present is not None and present.is_hidden:
                # So that users see it, and can block it.
                self._put(present.refuse(time.time()))
        return admission is Admission.ADMITTED

    def _was_received(self, message: Message, said: Received) -> None:
        pairing = self._find(message, said.request, incoming=False)
        if pairing is None or not is_hex(said.nonce, NONCE_SIZE):
            return
        pairing = self._update(
            pairing,
            pairing.after_received(message, said, self._messenger.identity.key),
        )
        if pairing.state is PairingState.COMPARING:
            self._reply(message, pairing)

    def _revealed(self, message: Message, said: Reveal) -> None:
        pairing = self._find(message, said.request, incoming=True)
        if pairing is None:
            if is_hex(said.request, REQUEST_BYTES) and said.yes is not False:
                # This home has forgotten it: after it ended well, or otherwise.
                well = self._is_friend(message.envelope.sender) and said.yes is True
                verdict = Verdict(request=said.request, yes=well, paired=well)
                self._send(message, "verdict", verdict)
            return
        if pairing.is_hidden and said.yes is False:
            # Users were not shown it, and need not be.
            self._remove(pairing.home)
            return
        if pairing.is_live and said.yes is False:
            # A home that has forgotten its nonce can take its request back, too.
            pairing = pairing.end(PairingState.DENIED, time.time())
            self._put(pairing)
            self._reply(message, pairing)
            return
        revealed = pairing.after_reveal(message, said, self._messenger.identity.key)
        if revealed is None:
            return
        pairing = self._update(pairing, revealed)
        if pairing.state is PairingState.COMPARING:
            pairing = self._decide(pairing)
        elif pairing.settled:
            self.befriended()
        if pairing.home in self._pairings:
            self._reply(message, pairing)

    def _judged(self, message: Message, said: Verdict) -> None:
        pairing = self._find(message, said.request, incoming=False)
        if pairing is None:
            is_open = said.yes is not False and not said.paired
            if is_hex(said.request, REQUEST_BYTES) and is_open:
                # The other home shows words for a request that this home has forgotten.
                over = Reveal(request=said.request, nonce="", yes=False)
                self._send(message, "reveal", over)
            return
        if pairing.is_live and said.yes is False:
            pairing = pairing.end(PairingState.DENIED, time.time())
            self._put(pairing)
        elif pairing.state is PairingState.COMPARING and said.yes:
            pairing = self._decide(self._update(pairing, pairing.confirm_there()))
        if pairing.state is PairingState.PAIRED and said.paired and not pairing.settled:
            self._put(pairing.settle())
            self.befriended()
        elif pairing.has_failed and said.yes is not False:
            # The other home does not know yet.
            self._reply(message, pairing)

    def _find(
        self, message: Message, request: str, *, incoming: bool
    ) -> Pairing | None:
        """Return the pairing that a message is about."""
        pairing = self._pairings.get(message.envelope.sender)
        if pairing is None or (pairing.request, pairing.incoming) != (
            request,
            incoming,
        ):
            return None
        return pairing

    # What goes out.

    def _decide(self, pairing: Pairing) -> Pairing:
        """End a pairing that both homes accepted, and tell the other home what was said here. Return what has become of it."""
        if (
            pairing.state is PairingState.COMPARING
            and self._is_confirmed(pairing)
            and pairing.confirmed_there
        ):
            self._strangers.forgive(pairing.home)
            pairing = pairing.end(PairingState.PAIRED, time.time())
            self._put(pairing)
        self._tell(pairing)
        return pairing

    def _is_confirmed(self, pairing: Pairing) -> bool:
        """Tell whether this home accepts the other one. It does as long as that is a friend."""
        return pairing.confirmed or self._is_friend(pairing.home)

    def _message(self, pairing: Pairing) -> tuple[str, Step]:
        return pairing.message(
            key=self._messenger.identity.key,
            name=self._name(),
            confirmed=self._is_confirmed(pairing),
        )

    def _tell(self, pairing: Pairing) -> None:
        """Send the next message by all ways."""
        kind, message = self._message(pairing)
        self._messenger.send(pairing.home, kind, encode(message))

    def _reply(self, message: Message, pairing: Pairing) -> None:
        """Send the next message back the way that another came."""
        self._send(message, *self._message(pairing))

    def _send(self, message: Message, kind: str, body: Step) -> None:
        home = message.envelope.sender
        self._messenger.send(home, kind, encode(body), way=message.way)

    # Keeping them.

    def _update(self, former: Pairing, pairing: Pairing) -> Pairing:
        if pairing != former:
            self._put(pairing)
        return pairing

    def _put(self, pairing: Pairing) -> None:
        self._pairings[pairing.home] = pairing
        if not pairing.incoming:
            self._resending.add(pairing.home)
        self._on_change()

    def _remove(self, home: str) -> None:
        del self._pairings[home]
        self._resending.remove(home)
        self._on_change()

    def _block(self, home: str) -> None:
        self._blocked[home] = None
        if len(self._blocked) > MAX_BLOCKED:
            del self._blocked[next(iter(self._blocked))]

    def _live(self) -> list[Pairing]:
        return [each for each in self._pairings.values() if each.is_live]

    async def _run(self) -> None:
        """Send again what was not answered, and end what took too long."""
        while True:
            for pairing in self.pairings:
                self._expire(pairing)
                present = self._pairings.get(pairing.home)
                if present is None or not present.has_more_to_send:
                    continue
                if self._resending.take(present):
                    self._tell(present)
            await asyncio.sleep(TICK)

    def _expire(self, pairing: Pairing) -> None:
        now = time.time()
        match pairing.expiry(now, is_friend=self._is_friend(pairing.home)):
            case Expiry.FORGOTTEN:
                self._remove(pairing.home)
            case Expiry.EXPIRES:
                self._put(pairing.end(PairingState.EXPIRED, now))
            case Expiry.NONE:
                pass
