"""The runtime data of the config entry: all parts of this home on Home Assistant's side."""

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

type PemusConfigEntry = ConfigEntry[Home]


class Home:
    """The runtime data of the config entry.

    The engine is not one of its parts: it outlives a reload of the entry.
    """

    def __init__(
        self, hass: HomeAssistant, entry: PemusConfigEntry, engine: Engine
    ) -> None:
        """Make the parts. Nothing happens yet."""
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
        """Configure and start the engine, and get its state. Raises ConfigEntryNotReady."""
        with engine_errors(ConfigEntryNotReady):
            await self.configuration.async_start()
        self.entry.async_on_unload(self.issues.async_clear)
        # The first listener, so that what the entities show is known here already.
        self.entry.async_on_unload(self.coordinator.async_add_listener(self._on_status))
        await self.coordinator.async_config_entry_first_refresh()
        self.configuration.async_schedule_retry()

    async def async_follow_friends(self) -> None:
        """Follow what happens with other homes. The event entity must be there to tell of it."""
        await self.pairings.async_start()
        self.entry.async_on_unload(self.pairings.async_close)
        self.entry.async_on_unload(self.presence.async_close)
        self.entry.async_on_unload(self.engine.async_subscribe(self._on_event))
        self._is_following = True
        self._on_status()
        self.entry.async_on_unload(self.neighbours.async_stop)
        await self.neighbours.async_start()

    async def async_apply_config(self) -> None:
        """Send the engine what the user changed, and forget how pairings with former friends ended."""
        before = {friend.id for friend in self.configuration.config.friends}
        await self.configuration.async_apply()
        after = {friend.id for friend in self.configuration.config.friends}
        for home in before - after:
            await self.pairings.async_forget(home)

    async def async_renew_identity(self) -> str:
        """Become another home, which no friend knows, and return its PeMuS ID. Raises EngineError, EngineUnavailable."""
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


@callback
def async_get_home(hass: HomeAssistant) -> Home | None:
    """Return this home, or None unless it is set up."""
    entries: list[PemusConfigEntry] = hass.config_entries.async_loaded_entries(DOMAIN)
    return entries[0].runtime_data if entries else None


@callback
def async_find_home(hass: HomeAssistant) -> Home | None:
    """Return this home, even while part of it is still being set up."""
    for entry in hass.config_entries.async_entries(DOMAIN, include_ignore=False):
        if entry.state in {ConfigEntryState.LOADED, ConfigEntryState.SETUP_IN_PROGRESS}:
            home: Home | None = getattr(entry, "runtime_data", None)
            return home
    return None
