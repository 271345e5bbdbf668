"""Pairings with other homes, from the first request to the friend, however they were begun and whoever looks on.

The engine carries them out, and says in its status how far each is. A dialog among the discovered
devices shows each, and comes and goes with what the engine says; a notification says how it ended. The friend itself is made here when both
homes have said yes, so that it does not matter whether a dialog is still open.
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

NEWS_DELAY: Final = 3.0
"""Seconds after which the engine's status tells of a request that was just made."""
STEP_OFFER: Final = "zeroconf_confirm"
"""Step in which a dialog offers a home that the local network shows; nobody has touched it yet."""
STEPS_OF_USER: Final = {"compare", "incoming", "shares"}
"""Steps in which a dialog waits for the user's word about a pairing."""
STEP_END: Final = "end"
"""Step in which a dialog has only to say how it ended."""
LINGER: Final = 60
"""Seconds for which it stays there. Whoever closed it before does not care."""

# What was told to the user, so that a reload of the integration does not tell it again.
DATA_TOLD: HassKey[set[tuple[str, float]]] = HassKey("pemus_requests_told")

_LOGGER = logging.getLogger(__name__)


class Step(StrEnum):
    """How far a pairing is, for whoever waits for it."""

    WAITING = "waiting"
    """The other home was not reached yet."""
    COMPARING = "comparing"
    """Both homes show the words, and this one has not said anything yet."""
    CONFIRMED = "confirmed"
    """This home said yes, and the other one has still to."""
    PAIRED = "paired"
    DENIED = "denied"
    EXPIRED = "expired"
    OVER = "over"
    """It ended, and nobody knows how any more."""
    UNLOADED = "unloaded"
    """It goes on, but nobody follows it until this home is loaded again."""


class Pairings:
    """All pairings of this home, for as long as its config entry is loaded."""

    def __init__(
        self, hass: HomeAssistant, entry: ConfigEntry, client: EngineClient
    ) -> None:
        """Know of none yet."""
        self._hass = hass
        self._entry = entry
        self._client = client
        self._known: dict[str, PairingStatus] = {}
        self._blocked: tuple[str, ...] = ()
        self._begun: dict[str, float] = {}
        """When requests were made that the engine's status has not told of yet."""
        self._shown: dict[str, PairingStatus] = {}
        """Pairings that the user was asked about."""
        self._ended: set[tuple[str, float]] = set()
        self._answering: set[str] = set()
        self._waiting: list[tuple[str, frozenset[Step], asyncio.Future[Step]]] = []
        self._texts: Mapping[str, str] = {}
        self._is_started = False
        self._lingering: dict[str, CALLBACK_TYPE] = {}

    async def async_start(self) -> None:
        """Get ready to speak the home's language."""
        self._texts = await async_get_translations(
            self._hass, self._hass.config.language, "common", {DOMAIN}
        )
        self._entry.async_on_unload(async_at_started(self._hass, self._on_started))

    @callback
    def _on_started(self, _hass: HomeAssistant) -> None:
        """Tell automations what is asked, now that they listen."""
        self._is_started = True
        self._announce()

    @callback
    def async_close(self) -> None:
        """Take back what is shown: it is shown again when the home is loaded again."""
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
        """Ask a home to become a friend, who then may have what the terms say; return its PeMuS ID.

        `trusted`: a person gave the ID, and not the local network. `flow_id`: the dialog in which that was done, which
        goes on. Raises EngineError, EngineUnavailable.
        """
        home = read_id(text)
        # Before it is asked: if it has asked as well, both are friends at once. To who was found in the local network
        # nothing is granted before the words were compared.
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
        """Say yes to a pairing. `flow_id`: the dialog in which that was said, which goes on.

        `words`: those that the user saw, which are those that are known here unless the caller knows better. Raises
        EngineError, EngineUnavailable.
        """
        if words is None and (pairing := self._known.get(home)) is not None:
            words = pairing.words
        with self._granting(home, terms):
            await self._answer(home, PairingAnswer(accept=True, words=words), flow_id)

    async def async_deny(
        self, home: str, *, block: bool = False, flow_id: str | None = None
    ) -> None:
        """Say no to a pairing, and to all later ones with this home if it is blocked.

        Raises EngineError, EngineUnavailable.
        """
        key = None
        if (pairing := self._known.get(home)) is not None:
            # Nobody needs to be told what they said themselves.
            key = (home, pairing.created)
            self._ended.add(key)
        try:
            await self._answer(home, PairingAnswer(accept=False, block=block), flow_id)
        except BaseException:
            # It was not said. They are asked again, and may say yes then.
            self._ended.discard(key)
            self._shown.pop(home, None)
            raise
        async_grant(self._hass, self._entry, home, None)

    async def async_take_back(self, home: str) -> None:
        """Take a request of this home back. Raises EngineError, EngineUnavailable."""
        await self._client.forget_pairing(home)
        self._begun.pop(home, None)

    async def async_forget(self, home: str) -> None:
        """Forget how a pairing ended, if there was one: its home is no friend any more."""
        if home in self._known:
            await self._forget(home)

    @contextmanager
    def _granting(self, home: str | None, terms: Terms) -> Generator[None]:
        """Remember what a home may have, unless what is done meanwhile fails."""
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
        """Let a dialog stay in which the user said something, until the engine has answered."""
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

    # Who waits

    def pairing(self, home: str) -> PairingStatus | None:
        """Return the pairing with a home, None if there is none."""
        return self._known.get(home)

    def step(self, home: str) -> Step:
        """Return how far the pairing with a home is."""
        if find_friend(self._entry, home) is not None:
            return Step.PAIRED
        if (pairing := self._known.get(home)) is None:
            return Step.OVER
        if pairing.state is PairingState.COMPARING and pairing.confirmed:
            return Step.CONFIRMED
        return Step(pairing.state)

    def may_offer(self, home: str) -> bool:
        """Tell whether a home that the local network shows is to be offered: to be asked, or to go on with its request.

        It is not if it asks itself, if it is only for the other home to answer any more, or if nobody wants it.
        """
        if find_friend(self._entry, home) is not None or self._is_ignored(home):
            return False
        if home in self._blocked:
            return False
        pairing = self._known.get(home)
        return pairing is None or _is_over(pairing) or _is_half_made(pairing)

    @callback
    def async_offer_no_more(self, home: str) -> None:
        """Take the offer of a home back that the local network does not show any more. What was asked goes on."""
        self._end_dialogs(home, {STEP_OFFER})

    def own_requests(self) -> list[PairingStatus]:
        """Return the requests of this home that are under way."""
        return [
            pairing
            for pairing in self._known.values()
            if not pairing.incoming and not _is_over(pairing)
        ]

    async def async_leave(self, home: str, *steps: Step) -> Step:
        """Wait until the pairing with a home is no longer at one of these steps; return where it is then."""
        if (step := self.step(home)) not in steps:
            return step
        future: asyncio.Future[Step] = self._hass.loop.create_future()
        self._waiting.append((home, frozenset(steps), future))
        return await future

    # What the engine says

    @callback
    def async_update(self, status: Status) -> None:
        """Take in how far each pairing is now."""
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
            # Another request in the place of the former one has other words.
            if home not in asked or asked[home].words != shown.words:
                self._withdraw(home)
        for home, pairing in asked.items():
            if home not in self._shown:
                self._show(pairing)
        self._announce()
        self._tell_waiting()

    def _is_asked(self, pairing: PairingStatus) -> bool:
        """Tell whether the user is to be asked about a pairing, whether or not that was done."""
        if pairing.state is not PairingState.COMPARING or pairing.confirmed:
            return False
        if pairing.incoming:
            return not self._is_ignored(request_id(pairing.home))
        # Mostly the dialog in which this home was found goes on with the words.
        return pairing.home in self._shown or not self.has_dialog(pairing.home)

    def _is_ignored(self, unique_id: str) -> bool:
        """Tell whether the user does not want to see dialogs with this unique id."""
        entry = self._hass.config_entries.async_entry_for_domain_unique_id(
            DOMAIN, unique_id
        )
        return entry is not None and entry.source == SOURCE_IGNORE

    def _take(self, peers: PeersStatus) -> None:
        self._blocked = peers.blocked
        listed = {pairing.home: pairing for pairing in peers.pairings}
        now = time.monotonic()
        for home, begun in list(self._begun.items()):
            if home in listed or now - begun > NEWS_DELAY:
                del self._begun[home]
            elif home in self._known:
                listed[home] = self._known[home]
        gone = self._known.keys() - listed.keys()
        self._known = listed
        for home in gone:
            self._end_dialogs(home, STEPS_OF_USER)
            if find_friend(self._entry, home) is None:
                async_grant(self._hass, self._entry, home, None)
        keys = {(pairing.home, pairing.created) for pairing in listed.values()}
        self._ended &= keys
        if (told := self._hass.data.get(DATA_TOLD)) is not None:
            told &= keys

    def _befriend(self, pairing: PairingStatus) -> None:
        """Make a home a friend that both homes said yes to. Once the engine knows of it, the pairing is over."""
        home, key = pairing.home, (pairing.home, pairing.created)
        if key in self._ended or find_friend(self._entry, home) is not None:
            return
        # The other home may still have to hear of it. Who is removed meanwhile stays removed.
        self._ended.add(key)
        terms = async_grant(self._hass, self._entry, home, None) or Terms()
        friend = async_add_friend(self._hass, self._entry, home, pairing.name, terms)
        self._end_dialogs(home, {STEP_OFFER})
        async_fire(self._hass, EVENT_PAIRED, {"home_id": home, "name": friend.title})
        if not terms.shares or not pairing.incoming:
            text = "paired" if terms.shares else "paired_without_shares"
            self._notify(f"paired_{home}", text, pairing)

    def _end(self, pairing: PairingStatus) -> None:
        """Let go of a pairing that came to nothing; who asked may want to know."""
        key = (pairing.home, pairing.created)
        if key in self._ended:
            return
        self._ended.add(key)
        async_grant(self._hass, self._entry, pairing.home, None)
        self._end_dialogs(pairing.home, STEPS_OF_USER)
        # The engine remembers for a while whom it was that was denied, and denies them again.
        if not pairing.incoming:
            self._notify(f"ended_{pairing.home}", f"request_{pairing.state}", pairing)
            self._entry.async_create_background_task(
                self._hass, self._forget(pairing.home), "PeMuS pairing that ended"
            )

    async def _forget(self, home: str) -> None:
        try:
            await self._client.forget_pairing(home)
        except (EngineError, EngineUnavailable) as err:
            _LOGGER.debug("The pairing with %s was not forgotten: %s", home, err)

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
        """Take dialogs away, after a while, that have only to say how they ended."""

        @callback
        def end(_now: datetime) -> None:
            del self._lingering[home]
            self._end_dialogs(home, {STEP_END})

        if (cancel := self._lingering.pop(home, None)) is not None:
            cancel()
        self._lingering[home] = async_call_later(
            self._hass, LINGER, HassJob(end, cancel_on_shutdown=True)
        )

    # What the user sees

    def _show(self, pairing: PairingStatus) -> None:
        """Show the user a pairing among the discovered devices: there and nowhere else, so that it is answered once."""
        home = pairing.home
        self._shown[home] = pairing
        # The same home, on offer because the local network shows it.
        self._end_dialogs(home, {STEP_OFFER})
        if not self.has_dialog(home):
            discovery_flow.async_create_flow(
                self._hass,
                DOMAIN,
                {"source": SOURCE_INTEGRATION_DISCOVERY},
                {"home": home, "words": list(pairing.words)},
            )

    def _announce(self) -> None:
        """Tell automations of requests, each once. Before Home Assistant has started none of them would hear it."""
        if not self._is_started:
            return
        told = self._hass.data.setdefault(DATA_TOLD, set())
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
        """No longer ask the user about a pairing."""
        del self._shown[home]
        self._end_dialogs(home, STEPS_OF_USER)

    def has_dialog(self, home: str, but: str | None = None) -> bool:
        """Tell whether there is a dialog about a home that has more to do than to say how it ended.

        `but`: the flow id of one that does not count.
        """
        return any(
            flow_id != but
            for flow_id in self._dialogs(
                home, lambda flow: flow.get("step_id") != STEP_END
            )
        )

    def _dialogs(self, home: str, matches: Callable[[Any], bool]) -> list[str]:
        """Return the dialogs about a home that match."""
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
        """End the dialogs about a home that are at one of these steps, but for one whose answer is being given."""
        for flow_id in self._dialogs(home, lambda flow: flow.get("step_id") in steps):
            if flow_id in self._answering:
                continue
            try:
                self._hass.config_entries.flow.async_abort(flow_id)
            except UnknownFlow:
                _LOGGER.debug("A dialog about %s ended by itself", home)

    def _notify(self, notification: str, text: str, pairing: PairingStatus) -> None:
        """Show a notification about a home. All that comes from there is shown as text, and nothing else."""
        said = {
            "home": as_markdown(pairing.name) or short(pairing.home),
            "id": grouped(pairing.home),
        }
        prefix = f"component.{DOMAIN}.common.notify_{text}"
        persistent_notification.async_create(
            self._hass,
            self._texts[f"{prefix}_message"].format(**said),
            self._texts[f"{prefix}_title"].format(**said),
            f"{DOMAIN}_{notification}",
        )


def request_id(home: str) -> str:
    """Return the unique id of the dialog about a home's request.

    It is another one than that of the dialog that offers the home: who does not care that the neighbours have PeMuS may
    yet want to hear from them.
    """
    return f"request_{home}"


def _is_over(pairing: PairingStatus) -> bool:
    """Tell whether nothing more becomes of a pairing."""
    return pairing.state not in {PairingState.WAITING, PairingState.COMPARING}


def _is_half_made(pairing: PairingStatus) -> bool:
    """Tell whether this home asked, and its user has still to compare the words."""
    return not pairing.incoming and not pairing.confirmed and not _is_over(pairing)
