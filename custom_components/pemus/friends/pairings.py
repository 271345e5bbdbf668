"""Pairings with other homes, from the request to the friend.

The engine performs a pairing and reports its state in the status. A discovery flow shows each pairing that needs an
answer, and a notification shows how it ended. The friend is added here when both homes have confirmed, whether or not
a dialog is open.
"""

import asyncio
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
import logging
import time
from typing import Any, Final

from homeassistant.components import persistent_notification
from homeassistant.config_entries import (
    SOURCE_IGNORE,
    SOURCE_INTEGRATION_DISCOVERY,
    SOURCE_ZEROCONF,
    ConfigEntry,
)
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.data_entry_flow import UnknownFlow
from homeassistant.helpers import discovery_flow
from homeassistant.helpers.event import async_call_later
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
STEP_OFFER: Final = "zeroconf_confirm"
"""Step in which a dialog offers a home in the local network and the user has not reacted yet."""
USER_STEPS: Final = {"compare", "incoming", "shares"}
"""Steps in which a dialog waits for the user's answer."""
STEP_END: Final = "end"
"""Step in which a dialog shows how the pairing ended."""
END_TIMEOUT: Final = 60
"""How long a dialog stays in STEP_END, in seconds."""

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
        self._known: dict[str, PairingStatus] = {}
        self._blocked: tuple[str, ...] = ()
        self._begun: dict[str, float] = {}
        """The start times of requests that the engine's status does not contain yet."""
        self._shown: dict[str, PairingStatus] = {}
        """Pairings that are shown to the user."""
        self._ended: set[tuple[str, float]] = set()
        self._answering: set[str] = set()
        self._waiting: list[tuple[str, frozenset[Step], asyncio.Future[Step]]] = []
        self._texts: Mapping[str, str] = {}
        self._is_started = False
        self._lingering: dict[str, CALLBACK_TYPE] = {}

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
                self._linger(home)
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
            self._staying(flow_id),
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
        with self._granting(home, terms):
            await self._answer(home, PairingAnswer(accept=True, words=words), flow_id)

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
            await self._answer(home, PairingAnswer(accept=False, block=block), flow_id)
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
        """Delete the pairing with a removed friend, if there is one."""
        if home in self._known:
            await self._forget(home)

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

    @contextmanager
    def _staying(self, flow_id: str | None) -> Generator[None]:
        """Keep a dialog open until the engine has processed the user's answer."""
        if flow_id is None:
            yield
            return
        self._answering.add(flow_id)
        try:
            yield
        finally:
            self._answering.discard(flow_id)

    async def _answer(
        self, home: str, answer: PairingAnswer, flow_id: str | None
    ) -> None:
        with self._staying(flow_id):
            await self._client.answer_pairing(home, answer)

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
        if find_friend(self._entry, home) is not None or self._is_ignored(home):
            return False
        if home in self._blocked:
            return False
        pairing = self._known.get(home)
        return pairing is None or _is_over(pairing) or _is_half_made(pairing)

    @callback
    def async_offer_no_more(self, home: str) -> None:
        """Withdraw the offer of a home that has left the local network. A request that was sent continues."""
        self._end_dialogs(home, {STEP_OFFER})

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
                self._show(pairing)
        self._announce()
        self._tell_waiting()

    def _is_asked(self, pairing: PairingStatus) -> bool:
        """Return whether a pairing needs an answer of the user."""
        if pairing.state is not PairingState.COMPARING or pairing.confirmed:
            return False
        if pairing.incoming:
            return not self._is_ignored(request_id(pairing.home))
        # Usually, the dialog that offered the other home continues and shows the words.
        return pairing.home in self._shown or not self.has_dialog(pairing.home)

    def _is_ignored(self, unique_id: str) -> bool:
        """Return whether the user ignores discovery flows with this unique id."""
        entry = self._hass.config_entries.async_entry_for_domain_unique_id(
            DOMAIN, unique_id
        )
        return entry is not None and entry.source == SOURCE_IGNORE

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
            self._end_dialogs(home, USER_STEPS)
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
        self._end_dialogs(home, {STEP_OFFER})
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
        self._end_dialogs(pairing.home, USER_STEPS)
        # The engine keeps declined incoming requests for a while, to decline repetitions.
        if not pairing.incoming:
            self._notify(f"ended_{pairing.home}", f"request_{pairing.state}", pairing)
            self._entry.async_create_background_task(
                self._hass, self._forget(pairing.home), "PeMuS pairing that ended"
            )

    async def _forget(self, home: str) -> None:
        try:
            await self._client.forget_pairing(home)
        except (EngineError, EngineUnavailable) as err:
            _LOGGER.debug("Failed to delete the pairing with %s: %s", home, err)

    def _tell_waiting(self) -> None:
        still = []
        for home, steps, future in self._waiting:
            if future.done():
                continue
            if (step := self.step(home)) not in steps:
                future.set_result(step)
                self._linger(home)
            else:
                still.append((home, steps, future))
        self._waiting = still

    @callback
    def _linger(self, home: str) -> None:
        """End dialogs that show only the result after END_TIMEOUT."""

        @callback
        def end(_now: datetime) -> None:
            del self._lingering[home]
            self._end_dialogs(home, {STEP_END})

        if (cancel := self._lingering.pop(home, None)) is not None:
            cancel()
        self._lingering[home] = async_call_later(
            self._hass, END_TIMEOUT, HassJob(end, cancel_on_shutdown=True)
        )

    # Dialogs, events and notifications

    def _show(self, pairing: PairingStatus) -> None:
        """Show a pairing among the discovered devices, and nowhere else."""
        home = pairing.home
        self._shown[home] = pairing
        # The same home may be offered because it is in the local network.
        self._end_dialogs(home, {STEP_OFFER})
        if not self.has_dialog(home):
            discovery_flow.async_create_flow(
                self._hass,
                DOMAIN,
                {"source": SOURCE_INTEGRATION_DISCOVERY},
                {"home": home, "words": list(pairing.words)},
            )

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
        self._end_dialogs(home, USER_STEPS)

    def has_dialog(self, home: str, but: str | None = None) -> bool:
        """Return whether there is a dialog for a home that does not just show the result.

        `but`: the flow id of a dialog to ignore.
        """
        return any(
            flow_id != but
            for flow_id in self._dialogs(
                home, lambda flow: flow.get("step_id") != STEP_END
            )
        )

    def _dialogs(self, home: str, matches: Callable[[Any], bool]) -> list[str]:
        """Return the flow ids of the matching dialogs for a home."""
        return [
            flow["flow_id"]
            for unique_id in (home, request_id(home))
            for flow in self._hass.config_entries.flow.async_progress_by_handler(
                DOMAIN,
                include_uninitialized=True,
                match_context={"unique_id": unique_id},
            )
            if flow["context"]["source"]
            in {SOURCE_INTEGRATION_DISCOVERY, SOURCE_ZEROCONF}
            and matches(flow)
        ]

    def _end_dialogs(self, home: str, steps: set[str]) -> None:
        """End the dialogs for a home at one of these steps, except those whose answer is being processed."""
        for flow_id in self._dialogs(home, lambda flow: flow.get("step_id") in steps):
            if flow_id in self._answering:
                continue
            try:
                self._hass.config_entries.flow.async_abort(flow_id)
            except UnknownFlow:
                _LOGGER.debug("The dialog for %s has already ended", home)

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


def request_id(home: str) -> str:
    """Return the unique id of the discovery flow for a home's request.

    It differs from the id of the flow that offers the home, so that a user who ignores a neighbour's home still sees
    its requests.
    """
    return f"request_{home}"


def _is_over(pairing: PairingStatus) -> bool:
    """Return whether a pairing has ended."""
    return pairing.state not in {PairingState.WAITING, PairingState.COMPARING}


def _is_half_made(pairing: PairingStatus) -> bool:
    """Return whether this home sent the request and its user has not compared the words yet."""
    return not pairing.incoming and not pairing.confirmed and not _is_over(pairing)
