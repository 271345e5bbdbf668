"""The messages of pairings: handles those that come in, and sends what follows from them."""

from __future__ import annotations

from collections.abc import Callable
import logging

from ..models.codec import DecodeError, decode, encode
from ..models.homes import PairingState
from ..net.messenger import Message, Messenger
from .pairing import (
    REQUEST_BYTES,
    Pairing,
    Received,
    Request,
    Reveal,
    Step,
    Verdict,
    is_hex,
)
from .pairing_store import PairingStore
from .sas import NONCE_SIZE
from .strangers import Admission, Strangers

_LOGGER = logging.getLogger(__name__)


class Exchange:
    """Leads pairings from one state to the next. What makes no sense is ignored."""

    def __init__(
        self, messenger: Messenger, store: PairingStore, name: Callable[[], str]
    ) -> None:
        """Prepare to pair as the home of `messenger`. `name` returns what it calls itself."""
        self._messenger = messenger
        self._key = messenger.identity.key
        self._store = store
        self._name = name
        self._strangers = Strangers()

    def receive(self, message: Message) -> None:
        """Handle a message of a kind in `pairing.KINDS`."""
        envelope = message.envelope
        if envelope.sender in self._store.blocked:
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

    def decide(self, pairing: Pairing) -> Pairing:
        """End a pairing that both homes accepted, and tell the other home what was said here. Return what has become of it."""
        if (
            pairing.state is PairingState.COMPARING
            and self._store.is_confirmed(pairing)
            and pairing.confirmed_there
        ):
            self._strangers.forgive(pairing.home)
            pairing = self._store.put(pairing.end(PairingState.PAIRED))
        self.tell(pairing)
        return pairing

    def tell(self, pairing: Pairing) -> None:
        """Send the next message over all transports."""
        kind, body = self._next(pairing)
        self._messenger.send(pairing.home, kind, encode(body))

    # What comes in.

    def _requested(self, message: Message, said: Request) -> None:
        home = message.envelope.sender
        if not said.is_valid:
            return
        present = self._store.get(home)
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
                self._store.retry(home)
                return
        elif present is not None and present.refused:
            self._send(message, "verdict", Verdict(request=said.request, yes=False))
            return
        if not self._store.is_friend(home) and not self._let_in(message, said, present):
            return
        former = present if present is not None and present.is_live else None
        pairing = self._store.put(Pairing.asked_by(message, said, former))
        self._reply(message, pairing)

    def _let_in(self, message: Message, said: Request, present: Pairing | None) -> bool:
        """Tell whether a stranger's request is let in, after others made room for it."""
        admission, removed = self._strangers.admit(
            message,
            self._store.live,
            is_expected=present is not None and present.is_expected,
        )
        for each in removed:
            self._store.remove(each)
        if admission is Admission.REFUSED:
            self._send(message, "verdict", Verdict(request=said.request, yes=False))
            present = self._store.get(message.envelope.sender)
            if present is not None and present.is_hidden:
                # So that users see it, and can block it.
                self._store.put(present.refuse())
        return admission is Admission.ADMITTED

    def _was_received(self, message: Message, said: Received) -> None:
        pairing = self._find(message, said.request, incoming=False)
        if pairing is None or not is_hex(said.nonce, NONCE_SIZE):
            return
        pairing = self._store.put(pairing.after_received(message, said, self._key))
        if pairing.state is PairingState.COMPARING:
            self._reply(message, pairing)

    def _revealed(self, message: Message, said: Reveal) -> None:
        pairing = self._find(message, said.request, incoming=True)
        if pairing is None:
            if is_hex(said.request, REQUEST_BYTES) and said.yes is not False:
                # This home has forgotten it: after it ended well, or otherwise.
                is_friend = self._store.is_friend(message.envelope.sender)
                well = is_friend and said.yes is True
                verdict = Verdict(request=said.request, yes=well, paired=well)
                self._send(message, "verdict", verdict)
            return
        if pairing.is_hidden and said.yes is False:
            # Users were not shown it, and need not be.
            self._store.remove(pairing.home)
            return
        if pairing.is_live and said.yes is False:
            # A home that has forgotten its nonce can take its request back, too.
            pairing = self._store.put(pairing.end(PairingState.DENIED))
            self._reply(message, pairing)
            return
        revealed = pairing.after_reveal(message, said, self._key)
        if revealed is None:
            return
        pairing = self._store.put(revealed)
        if pairing.state is PairingState.COMPARING:
            pairing = self.decide(pairing)
        elif pairing.settled:
            self._store.remove_done()
        if self._store.get(pairing.home) is not None:
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
            pairing = self._store.put(pairing.end(PairingState.DENIED))
        elif pairing.state is PairingState.COMPARING and said.yes:
            pairing = self.decide(self._store.put(pairing.confirm_there()))
        if pairing.state is PairingState.PAIRED and said.paired and not pairing.settled:
            self._store.put(pairing.settle())
            self._store.remove_done()
        elif pairing.has_failed and said.yes is not False:
            # The other home does not know yet.
            self._reply(message, pairing)

    def _find(
        self, message: Message, request: str, *, incoming: bool
    ) -> Pairing | None:
        """Return the pairing that a message is about."""
        pairing = self._store.get(message.envelope.sender)
        if pairing is None or pairing.request != request:
            return None
        return pairing if pairing.incoming is incoming else None

    # What goes out.

    def _next(self, pairing: Pairing) -> tuple[str, Step]:
        """Return the kind and the body of the next message."""
        return pairing.message(
            key=self._key,
            name=self._name(),
            confirmed=self._store.is_confirmed(pairing),
        )

    def _reply(self, message: Message, pairing: Pairing) -> None:
        """Send the next message back over the transport of another."""
        self._send(message, *self._next(pairing))

    def _send(self, message: Message, kind: str, body: Step) -> None:
        home = message.envelope.sender
        self._messenger.send(home, kind, encode(body), transport=message.transport)
