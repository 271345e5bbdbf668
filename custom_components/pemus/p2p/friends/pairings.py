"""Pairing with other homes: what users do, and what is sent again until it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from ..core import tasks
from ..core.errors import BadRequest, Busy, NotFound
from ..models.homes import PairingState, PairingStatus
from ..models.pemus_id import read_id
from ..net.messenger import Message, Messenger
from .exchange import Exchange
from .pairing import Expiry, Pairing
from .pairing_store import PairingStore

MAX_OUTGOING: Final = 50
"""Requests of this home that wait for an answer."""
TICK: Final = 0.25
"""Seconds between two looks at what is due."""
FAREWELL_TIME: Final = 0.5
"""How long to wait for the last messages to be sent, in seconds."""


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
        self._own_id = messenger.identity.id
        self._store = PairingStore(is_friend, on_change)
        self._exchange = Exchange(messenger, self._store, name)
        self._task: asyncio.Task[None] | None = None

    def restore(self, pairings: Iterable[Pairing], blocked: Iterable[str]) -> None:
        """Go on with what was under way when the engine stopped."""
        self._store.restore(pairings, blocked)

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
        return self._store.all

    @property
    def blocked(self) -> tuple[str, ...]:
        """The homes whose requests are not shown."""
        return tuple(self._store.blocked)

    @property
    def statuses(self) -> tuple[PairingStatus, ...]:
        """What users are shown. Requests of others count once their words are known, or if this home asked too."""
        return tuple(
            map(self._status, (each for each in self.pairings if not each.is_hidden))
        )

    @property
    def is_active(self) -> bool:
        """Whether this home's user asked or accepted another home."""
        return any(each.asked or each.confirmed for each in self.pairings)

    def is_pairing(self, home: str) -> bool:
        """Tell whether there is a pairing with a home that has not failed."""
        pairing = self._store.get(home)
        return pairing is not None and pairing.is_open

    def is_expected(self, home: str) -> bool:
        """Tell whether this home's user asked a home, and waits for the answer: no flood of strangers must keep it out."""
        pairing = self._store.get(home)
        return pairing is not None and pairing.is_expected

    def _status(self, pairing: Pairing) -> PairingStatus:
        return pairing.status(confirmed=self._store.is_confirmed(pairing))

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
        if home == self._own_id:
            raise BadRequest("this is the ID of this home itself")
        if self._store.is_friend(home):
            raise BadRequest("this home is a friend already")
        self._store.unblock(home)
        present = self._store.get(home)
        if present is not None and present.is_open:
            # The other home asked too, or this home asks twice.
            present = self._store.put(present.ask_too(trusted=trusted))
            return self._status(self._exchange.decide(present))
        if sum(not each.incoming for each in self._store.live) >= MAX_OUTGOING:
            raise Busy("too many requests wait for an answer")
        return self._status(self._store.put(Pairing.ask(home, trusted=trusted)))

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
        pairing = self._store.get(home)
        # A home that asked again and again was refused automatically, and can still be blocked.
        is_blocked = block and not accept
        if pairing is None or not (
            pairing.is_live or (is_blocked and pairing.has_failed)
        ):
            raise NotFound("there is no such request")
        if is_blocked:
            self._store.block(home)
        if not pairing.is_live:
            return
        if not accept:
            self._exchange.tell(self._store.put(pairing.refuse()))
            return
        if pairing.state is not PairingState.COMPARING:
            raise BadRequest("the other home was not reached yet: there are no words")
        if words is not None and words != pairing.words:
            raise BadRequest("the other home asked anew: the words have changed")
        self._exchange.decide(self._store.put(pairing.confirm()))

    def forget(self, home: str) -> None:
        """Take a request back, or forget how a pairing ended. Raises NotFound."""
        pairing = self._store.get(home)
        if pairing is None:
            raise NotFound("there is no such request")
        if pairing.is_live:
            self._exchange.tell(pairing.end(PairingState.DENIED))
        self._store.remove(home)

    async def forget_all(self) -> None:
        """Take all requests back, and tell the other homes, before this home becomes another one."""
        for each in self.pairings:
            self.forget(each.home)
        await asyncio.sleep(FAREWELL_TIME)

    def unblock(self, home: str) -> None:
        """Show a home's requests again. Raises NotFound."""
        if home not in self.blocked:
            raise NotFound("this home is not blocked")
        self._store.unblock(home)

    # What happens to friends.

    def befriended(self) -> None:
        """Forget pairings that made a friend, once the other home knows as well."""
        self._store.remove_done()

    def estranged(self, home: str) -> None:
        """Forget what a home was allowed as a friend: it is none any more."""
        pairing = self._store.get(home)
        if pairing is not None and (
            pairing.is_hidden or pairing.state is PairingState.PAIRED
        ):
            self._store.remove(home)

    # What comes in, and what goes out again.

    def receive(self, message: Message) -> None:
        """Handle a message of a kind in `pairing.KINDS`."""
        self._exchange.receive(message)

    def retry(self, home: str | None = None) -> None:
        """Try at once to reach a home, or all of them."""
        self._store.retry(home)

    async def _run(self) -> None:
        """Send again what was not answered, and end what took too long."""
        while True:
            for pairing in self.pairings:
                self._expire(pairing)
                present = self._store.get(pairing.home)
                if present is None or not present.has_more_to_send:
                    continue
                if self._store.take_due(present):
                    self._exchange.tell(present)
            await asyncio.sleep(TICK)

    def _expire(self, pairing: Pairing) -> None:
        match pairing.expiry(is_friend=self._store.is_friend(pairing.home)):
            case Expiry.FORGOTTEN:
                self._store.remove(pairing.home)
            case Expiry.EXPIRES:
                self._store.put(pairing.end(PairingState.EXPIRED))
