"""The runtime data of the config entry."""

from homeassistant.config_entries import ConfigEntry, ConfigEntryState
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryNotReady

from .configuration import Configuration
from .const import DOMAIN
from .coordinator import PemusCoordinator
from .engine.process import Engine
from .errors import engine_errors
from .friends.events import async_fire_new_media
from .friends.lan import LanNeighbours
from .friends.pairings import Pairings
from .friends.presence import Presence
from .friends.terms import friend_subentries
from .issues import Issues
from .p2p.models import Event, NewMedia
from .p2p.models.rooms import RoomEvent
from .rooms.events import async_fire_room_event

type PemusConfigEntry = ConfigEntry[Home]


class Home:
    """Holds the components that live as long as the config entry is loaded.

    The engine is not one of them: it keeps running while the entry is reloaded.
    """

    def __init__(
        self, hass: HomeAssistant, entry: PemusConfigEntry, engine: Engine
    ) -> None:
        """Create the components. `async_start` starts them."""
        self.hass = hass
        self.entry = entry
        self.engine = engine
        self.coordinator = PemusCoordinator(hass, entry, engine)
        self.issues = Issues(hass, entry, self.coordinator)
        self.configuration = Configuration(hass, entry, engine, self.issues)
        self.pairings = Pairings(hass, entry, engine.client)
        self.presence = Presence(hass, entry)
        self.neighbours = LanNeighbours(
            hass, self.coordinator, self.configuration, self.pairings
        )
        self._is_following = False

    async def async_start(self) -> None:
        """Configure and start the engine, and get its status. Raises ConfigEntryNotReady."""
        with engine_errors(ConfigEntryNotReady):
            await self.configuration.async_start()
        self.entry.async_on_unload(self.issues.async_clear)
        # Before the entities' listeners, so that issues and pairings are updated first.
        self.entry.async_on_unload(self.coordinator.async_add_listener(self._on_status))
        await self.coordinator.async_config_entry_first_refresh()
        self.configuration.async_schedule_retry()

    async def async_follow_friends(self) -> None:
        """Start to follow other homes. Call it after the platforms are set up: the event entity must exist."""
        await self.pairings.async_start()
        self.entry.async_on_unload(self.pairings.async_close)
        self.entry.async_on_unload(self.presence.async_close)
        self.entry.async_on_unload(self.engine.async_subscribe(self._on_event))
        self._is_following = True
        self._on_status()
        self.entry.async_on_unload(self.neighbours.async_stop)
        await self.neighbours.async_start()

    async def async_apply_config(self) -> None:
        """Send the engine the changed configuration, and delete the pairings with removed friends."""
        before = {friend.id for friend in self.configuration.config.friends}
        await self.configuration.async_apply()
        after = {friend.id for friend in self.configuration.config.friends}
        for home in before - after:
            await self.pairings.async_forget(home)

    async def async_renew_identity(self) -> str:
        """Create a new identity, remove all friends, and return the new PeMuS ID.

        Raises EngineError, EngineUnavailable.
        """
        home = await self.engine.client.new_identity()
        for friend in friend_subentries(self.entry):
            self.hass.config_entries.async_remove_subentry(
                self.entry, friend.subentry_id
            )
        return home

    @callback
    def _on_status(self) -> None:
        if not self.coordinator.last_update_success or self.coordinator.data is None:
            return
        self.issues.async_update()
        if self._is_following:
            self.pairings.async_update(self.coordinator.data)
            self.presence.async_update(self.coordinator.data)

    @callback
    def _on_event(self, event: Event | None) -> None:
        if isinstance(event, NewMedia):
            async_fire_new_media(self.hass, self.entry, event)
        elif isinstance(event, RoomEvent):
            async_fire_room_event(self.hass, self.entry, event)


@callback
def async_get_home(hass: HomeAssistant) -> Home | None:
    """Return this home, or None if it is not loaded."""
    entries: list[PemusConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
    return entries[0].runtime_data if entries else None


@callback
def async_find_home(hass: HomeAssistant) -> Home | None:
    """Return this home, or None if it is neither loaded nor being set up."""
    for entry in hass.config_entries.async_entries(DOMAIN, include_ignore=False):
        if entry.state in {ConfigEntryState.LOADED, ConfigEntryState.SETUP_IN_PROGRESS}:
            home: Home | None = getattr(entry, "runtime_data", None)
            return home
    return None
