"""Pairings with other homes, from the request to the friend.

The engine performs a pairing and reports its state in the status. A discovery flow shows each pairing that needs an
answer, and a notification shows how it ended. The friend is added here when both homes have confirmed, whether or not
a dialog is open.
"""

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from enum import StrEnum
import logging
import time
from typing import Final

from homeassistant.components import persistent_notification
from homeassistant.config_entries import ConfigEntry
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.start import async_at_started
from homeassistant.helpers.translation import async_get_translations
from homeassistant.util.hass_dict import HassKey

from custom_components.pemus.const import DOMAIN
from custom_components.pemus.engine.client import (
    EngineClient,
    EngineError,
    EngineUnavailable,
)
from custom_components.pemus.p2p.models import Status
from custom_components.pemus.p2p.models.homes import (
    PairingAnswer,
    PairingQuery,
    PairingState,
    PairingStatus,
    PeersStatus,
)
from custom_components.pemus.p2p.models.pemus_id import grouped, read_id

from .dialogs import STEP_OFFER, USER_STEPS, Dialogs, request_id
from .events import EVENT_PAIRED, EVENT_REQUESTED, async_fire
from .terms import (
    Terms,
    as_markdown,
    async_add_friend,
    async_grant,
    clean_name,
    find_friend,
    short,
)

STATUS_DELAY: Final = 3.0
"""How long a new request can be missing in the engine's status, in seconds."""
DATA_ANNOUNCED: HassKey[set[tuple[str, float]]] = HassKey("pemus_requests_announced")
"""Requests for which an event was sent. Kept across reloads, so that each is announced once."""

_LOGGER = logging.getLogger(__name__)


class Step(StrEnum):
    """The progress of a pairing."""

    WAITING = "waiting"
    """The other home has not been reached yet."""
    COMPARING = "comparing"
    """Both homes show the words, and this one has not answered yet."""
    CONFIRMED = "confirmed"
    """This home has confirmed, and the other one has not."""
    PAIRED = "paired"
    DENIED = "denied"
    EXPIRED = "expired"
    OVER = "over"
    """The pairing ended, and its result is no longer known."""
    UNLOADED = "unloaded"
    """The pairing continues, but cannot be followed until the config entry is loaded again."""


class Pairings:
    """All pairings of this home while its config entry is loaded."""

    def __init__(
        self, hass: HomeAssistant, entry: ConfigEntry, client: EngineClient
    ) -> None:
        """Start without pairings."""
        self._hass = hass
        self._entry = entry
        self._client = client
        self.dialogs = Dialogs(hass)
        self._known: dict[str, PairingStatus] = {}
        self._blocked: tuple[str, ...] = ()
        self._begun: dict[str, float] = {}
        """The start times of requests that the engine's status does not contain yet."""
        self._shown: dict[str, PairingStatus] = {}
        """Pairings that are shown to the user."""
        self._ended: set[tuple[str, float]] = set()
        self._waiting: list[tuple[str, frozenset[Step], asyncio.Future[Step]]] = []
        self._texts: Mapping[str, str] = {}
        self._is_started = False

    async def async_start(self) -> None:
        """Load the texts of notifications in the language of this Home Assistant."""
        self._texts = await async_get_translations(
            self._hass, self._hass.config.language, "common", {DOMAIN}
        )
        self._entry.async_on_unload(async_at_started(self._hass, self._on_started))

    @callback
    def _on_started(self, _hass: HomeAssistant) -> None:
        """Announce requests to automations, which are loaded now."""
        self._is_started = True
        self._announce()

    @callback
    def async_close(self) -> None:
        """End all dialogs. They are shown again when the entry is loaded again."""
        for home in list(self._shown):
            self._withdraw(home)
        for home, _, future in self._waiting:
            if not future.done():
                future.set_result(Step.UNLOADED)
                self.dialogs.async_end_later(home)
        self._waiting.clear()

    # What the user does

    async def async_request(
        self, text: str, terms: Terms, *, trusted: bool, flow_id: str | None = None
    ) -> str:
        """Send a friend request with the terms of the friendship. Return the PeMuS ID of the other home.

        `trusted`: the ID comes from a person and not from the local network. `flow_id`: the dialog that sends the
        request; it must not be ended meanwhile. Raises EngineError, EngineUnavailable.
        """
        home = read_id(text)
        # Grant before the request: if the other home has sent a request too, both are friends immediately. A home from
        # the local network is granted nothing until the words have been compared.
        with (
            self._granting(home if trusted else None, terms),
            self.dialogs.answering(flow_id),
        ):
            pairing = await self._client.request_pairing(
                PairingQuery(home=text, trusted=trusted)
            )
        known = self._known.get(pairing.home)
        if known is None or known.created != pairing.created or not _is_over(known):
            self._known[pairing.home] = pairing
            self._begun[pairing.home] = time.monotonic()
        return pairing.home

    async def async_accept(
        self,
        home: str,
        terms: Terms,
        flow_id: str | None = None,
        words: tuple[str, ...] | None = None,
    ) -> None:
        """Confirm a pairing.

        `flow_id`: the dialog that confirms; it must not be ended meanwhile. `words`: the words that the user saw; by
        default the current ones. Raises EngineError, EngineUnavailable.
        """
        if words is None and (pairing := self._known.get(home)) is not None:
            words = pairing.words
        with self._granting(home, terms), self.dialogs.answering(flow_id):
            await self._client.answer_pairing(
                home, PairingAnswer(accept=True, words=words)
            )

    async def async_deny(
        self, home: str, *, block: bool = False, flow_id: str | None = None
    ) -> None:
        """Decline a pairing. `block`: decline all later requests of this home as well.

        Raises EngineError, EngineUnavailable.
        """
        key = None
        if (pairing := self._known.get(home)) is not None:
            # The user's own answer needs no notification.
            key = (home, pairing.created)
            self._ended.add(key)
        try:
            with self.dialogs.answering(flow_id):
                await self._client.answer_pairing(
                    home, PairingAnswer(accept=False, block=block)
                )
        except BaseException:
            # The answer did not reach the engine, so the user is asked again.
            self._ended.discard(key)
            self._shown.pop(home, None)
            raise
        async_grant(self._hass, self._entry, home, None)

    async def async_take_back(self, home: str) -> None:
        """Withdraw a request of this home. Raises EngineError, EngineUnavailable."""
        await self._client.forget_pairing(home)
        self._begun.pop(home, None)

    async def async_forget(self, home: str) -> None:
        """Delete the pairing with a home that has ended, if there is one."""
        if home not in self._known:
            return
        try:
            await self._client.forget_pairing(home)
        except (EngineError, EngineUnavailable) as err:
            _LOGGER.debug("Failed to delete the pairing with %s: %s", home, err)

    @contextmanager
    def _granting(self, home: str | None, terms: Terms) -> Generator[None]:
        """Store the terms of a home. Restore the previous ones if the body fails."""
        if home is None:
            yield
            return
        before = async_grant(self._hass, self._entry, home, terms)
        try:
            yield
        except BaseException:
            async_grant(self._hass, self._entry, home, before)
            raise

    # State

    def pairing(self, home: str) -> PairingStatus | None:
        """Return the pairing with a home, or None."""
        return self._known.get(home)

    def step(self, home: str) -> Step:
        """Return the progress of the pairing with a home."""
        if find_friend(self._entry, home) is not None:
            return Step.PAIRED
        if (pairing := self._known.get(home)) is None:
            return Step.OVER
        if pairing.state is PairingState.COMPARING and pairing.confirmed:
            return Step.CONFIRMED
        return Step(pairing.state)

    def may_offer(self, home: str) -> bool:
        """Return whether a home in the local network can be offered to the user.

        That is, the user can send it a request, or has sent one and not compared the words yet. Friends and ignored or
        blocked homes are not offered.
        """
        if find_friend(self._entry, home) is not None or self.dialogs.is_ignored(home):
            return False
        if home in self._blocked:
            return False
        pairing = self._known.get(home)
        return pairing is None or _is_over(pairing) or _is_half_made(pairing)

    def own_requests(self) -> list[PairingStatus]:
        """Return the open requests of this home."""
        return [
            pairing
            for pairing in self._known.values()
            if not pairing.incoming and not _is_over(pairing)
        ]

    async def async_leave(self, home: str, *steps: Step) -> Step:
        """Wait until a pairing has left these steps. Return its new step."""
        if (step := self.step(home)) not in steps:
            return step
        future: asyncio.Future[Step] = self._hass.loop.create_future()
        self._waiting.append((home, frozenset(steps), future))
        return await future

    # Updates from the engine

    @callback
    def async_update(self, status: Status) -> None:
        """Update the pairings from the engine's status."""
        if (peers := status.peers) is None:
            return
        self._take(peers)
        for pairing in self._known.values():
            if pairing.state is PairingState.PAIRED:
                self._befriend(pairing)
            elif _is_over(pairing):
                self._end(pairing)
        asked = {
            home: pairing
            for home, pairing in self._known.items()
            if self._is_asked(pairing)
        }
        for home, shown in list(self._shown.items()):
            # A new request of the same home has different words.
            if home not in asked or asked[home].words != shown.words:
                self._withdraw(home)
        for home, pairing in asked.items():
            if home not in self._shown:
                self._shown[home] = pairing
                self.dialogs.async_show(pairing)
        self._announce()
        self._tell_waiting()

    def _is_asked(self, pairing: PairingStatus) -> bool:
        """Return whether a pairing needs an answer of the user."""
        if pairing.state is not PairingState.COMPARING or pairing.confirmed:
            return False
        if pairing.incoming:
            return not self.dialogs.is_ignored(request_id(pairing.home))
        # Usually, the dialog that offered the other home continues and shows the words.
        return pairing.home in self._shown or not self.dialogs.exists(pairing.home)

    def _take(self, peers: PeersStatus) -> None:
        self._blocked = peers.blocked
        listed = {pairing.home: pairing for pairing in peers.pairings}
        now = time.monotonic()
        for home, begun in list(self._begun.items()):
            if home in listed or now - begun > STATUS_DELAY:
                del self._begun[home]
            elif home in self._known:
                listed[home] = self._known[home]
        gone = self._known.keys() - listed.keys()
        self._known = listed
        for home in gone:
            self.dialogs.async_end(home, USER_STEPS)
            if find_friend(self._entry, home) is None:
                async_grant(self._hass, self._entry, home, None)
        keys = {(pairing.home, pairing.created) for pairing in listed.values()}
        self._ended &= keys
        if (told := self._hass.data.get(DATA_ANNOUNCED)) is not None:
            told &= keys

    def _befriend(self, pairing: PairingStatus) -> None:
        """Add a friend after both homes have confirmed. The pairing ends when the engine has the configuration."""
        home, key = pairing.home, (pairing.home, pairing.created)
        if key in self._ended or find_friend(self._entry, home) is not None:
            return
        # The pairing lasts until the other home knows. A friend that is removed meanwhile must not be added again.
        self._ended.add(key)
        terms = async_grant(self._hass, self._entry, home, None) or Terms()
        friend = async_add_friend(self._hass, self._entry, home, pairing.name, terms)
        self.dialogs.async_end(home, {STEP_OFFER})
        async_fire(self._hass, EVENT_PAIRED, {"home_id": home, "name": friend.title})
        if not terms.shares or not pairing.incoming:
            text = "paired" if terms.shares else "paired_without_shares"
            self._notify(f"paired_{home}", text, pairing)

    def _end(self, pairing: PairingStatus) -> None:
        """End a failed pairing. Notify the user if this home sent the request."""
        key = (pairing.home, pairing.created)
        if key in self._ended:
            return
        self._ended.add(key)
        async_grant(self._hass, self._entry, pairing.home, None)
        self.dialogs.async_end(pairing.home, USER_STEPS)
        # The engine keeps declined incoming requests for a while, to decline repetitions.
        if not pairing.incoming:
            self._notify(f"ended_{pairing.home}", f"request_{pairing.state}", pairing)
            self._entry.async_create_background_task(
                self._hass, self.async_forget(pairing.home), "PeMuS pairing that ended"
            )

    def _tell_waiting(self) -> None:
        still = []
        for home, steps, future in self._waiting:
            if future.done():
                continue
            if (step := self.step(home)) not in steps:
                future.set_result(step)
                self.dialogs.async_end_later(home)
            else:
                still.append((home, steps, future))
        self._waiting = still

    # Dialogs, events and notifications

    def _announce(self) -> None:
        """Send the event for each new request. Wait until Home Assistant has started, because automations load late."""
        if not self._is_started:
            return
        told = self._hass.data.setdefault(DATA_ANNOUNCED, set())
        for home, pairing in self._shown.items():
            key = (home, pairing.created)
            if not pairing.incoming or key in told:
                continue
            told.add(key)
            async_fire(
                self._hass,
                EVENT_REQUESTED,
                {
                    "home_id": home,
                    "name": clean_name(pairing.name),
                    "origin": pairing.origin,
                    "lan": pairing.lan,
                    "words": " ".join(pairing.words),
                },
            )

    def _withdraw(self, home: str) -> None:
        """Stop asking the user about a pairing."""
        del self._shown[home]
        self.dialogs.async_end(home, USER_STEPS)

    def _notify(self, notification: str, text: str, pairing: PairingStatus) -> None:
        """Show a notification. Text from the other home is escaped."""
        placeholders = {
            "home": as_markdown(pairing.name) or short(pairing.home),
            "id": grouped(pairing.home),
        }
        prefix = f"component.{DOMAIN}.common.notify_{text}"
        persistent_notification.async_create(
            self._hass,
            self._texts[f"{prefix}_message"].format(**placeholders),
            self._texts[f"{prefix}_title"].format(**placeholders),
            f"{DOMAIN}_{notification}",
        )


def _is_over(pairing: PairingStatus) -> bool:
    """Return whether a pairing has ended."""
    return pairing.state not in {PairingState.WAITING, PairingState.COMPARING}


def _is_half_made(pairing: PairingStatus) -> bool:
    """Return whether this home sent the request and its user has not compared the words yet."""
    return not pairing.incoming and not pairing.confirmed and not _is_over(pairing)
