"""The home, its shares, its friends and its rooms as devices, and what their entities have in common."""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, override

from homeassistant.config_entries import ConfigSubentry
from homeassistant.const import CONF_ID, Platform
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.helpers.device_registry import DeviceEntryType, DeviceInfo
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.entity import Entity, EntityDescription
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from .configuration import SIGNAL_CONFIG_CHANGED
from .const import DOMAIN
from .coordinator import PemusCoordinator
from .friends.terms import friend_subentries
from .home import PemusConfigEntry
from .options import DEFAULTS
from .p2p.models import ShareConfig, ShareStatus
from .p2p.models.homes import FriendConfig, FriendStatus
from .p2p.models.rooms import RoomConfig, RoomStatus
from .rooms.terms import room_id, room_subentries
from .shares import share_id, share_subentries

MANUFACTURER = "PeMuS"
MODEL_SHARE = "Shared folder"
MODEL_FRIEND = "Friend"
MODEL_ROOM = "Room"
MEDIA_BROWSER = "homeassistant://media-browser/browser/app%2Cmedia-source%3A%2F%2Fpemus"


UPDATE_INTERVAL: Final = 10
"""Minimum time between two states of a frequently changing entity, in seconds. Each state is a row in the recorder's
database. The WebSocket command for transfers is faster."""


@callback
def async_update_devices(hass: HomeAssistant, entry: PemusConfigEntry) -> None:
    """Register the home's device, and update the names of all devices."""
    registry = dr.async_get(hass)
    config = entry.runtime_data.configuration.config
    registry.async_get_or_create(
        config_entry_id=entry.entry_id,
        identifiers={(DOMAIN, entry.entry_id)},
        entry_type=DeviceEntryType.SERVICE,
        manufacturer=MANUFACTURER,
        name=config.home_name,
        sw_version=entry.runtime_data.coordinator.data.version,
        configuration_url=MEDIA_BROWSER,
    )
    named: tuple[ShareConfig | FriendConfig | RoomConfig, ...] = (
        *config.shares,
        *config.friends,
        *config.rooms,
    )
    for each in named:
        if device := registry.async_get_device_by_identifier(
            (DOMAIN, each.id), entry.entry_id
        ):
            registry.async_update_device(device.id, name=each.name)


class PemusEntity(CoordinatorEntity[PemusCoordinator]):
    """An entity of the home."""

    _attr_has_entity_name = True

    def __init__(
        self, coordinator: PemusCoordinator, description: EntityDescription
    ) -> None:
        """Attach the entity to the home's device, which is registered first."""
        super().__init__(coordinator)
        self.entity_description = description
        entry_id = coordinator.config_entry.entry_id
        self._attr_unique_id = f"{entry_id}_{description.key}"
        self._attr_device_info = DeviceInfo(identifiers={(DOMAIN, entry_id)})


class OptionEntity(PemusEntity):
    """An entity that shows and changes the option of its key."""

    @property
    @override
    def available(self) -> bool:
        """Always available: the option applies when the engine starts."""
        return True

    @property
    def option(self) -> Any:
        """The option, or its default."""
        key = self.entity_description.key
        return self.coordinator.config_entry.options.get(key, DEFAULTS[key])

    @callback
    def set_option(self, value: Any) -> None:
        """Change the option. The update listener of the entry sends it to the engine."""
        entry = self.coordinator.config_entry
        self.hass.config_entries.async_update_entry(
            entry, options={**entry.options, self.entity_description.key: value}
        )

    @override
    async def async_added_to_hass(self) -> None:
        """Update the state when the configuration changes."""
        await super().async_added_to_hass()
        self.async_on_remove(
            async_dispatcher_connect(
                self.hass, SIGNAL_CONFIG_CHANGED, self.async_write_ha_state
            )
        )


class PacedEntity(CoordinatorEntity[PemusCoordinator]):
    """An entity that shows a change immediately, and further changes every UPDATE_INTERVAL."""

    _shown_available = False
    _pausing: CALLBACK_TYPE | None = None
    _late = False
    """Whether the state changed during the pause."""

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        """Update the state now, or after the pause."""
        if self._pausing is not None and self.available == self._shown_available:
            self._late = True
            return
        self._show()

    @callback
    def _show(self) -> None:
        self._end_pause()
        self._late = False
        self._shown_available = self.available
        self.async_write_ha_state()
        self._pausing = async_call_later(
            self.hass, UPDATE_INTERVAL, HassJob(self._paused, cancel_on_shutdown=True)
        )

    @callback
    def _paused(self, _now: datetime) -> None:
        self._pausing = None
        if self._late:
            self._show()

    @callback
    def _end_pause(self) -> None:
        if self._pausing is not None:
            self._pausing()
            self._pausing = None

    @override
    async def async_added_to_hass(self) -> None:
        """Cancel the pause when the entity is removed."""
        await super().async_added_to_hass()
        self.async_on_remove(self._end_pause)


class SubentryEntity(CoordinatorEntity[PemusCoordinator]):
    """An entity of a share's, friend's or room's device, which is connected via the home's device."""

    _attr_has_entity_name = True
    model: str
    """The device model. Actions and blueprints filter devices by it."""

    def __init__(
        self,
        coordinator: PemusCoordinator,
        description: EntityDescription,
        config: ShareConfig | FriendConfig | RoomConfig,
    ) -> None:
        """Attach the entity to the device of the share, friend or room."""
        super().__init__(coordinator)
        self.entity_description = description
        self._attr_unique_id = f"{config.id}_{description.key}"
        entry_id = coordinator.config_entry.entry_id
        home = dr.async_get(coordinator.hass).async_get_device_by_identifier(
            (DOMAIN, entry_id), entry_id
        )
        assert home is not None
        self._attr_device_info = DeviceInfo(
            identifiers={(DOMAIN, config.id)},
            entry_type=DeviceEntryType.SERVICE,
            manufacturer=MANUFACTURER,
            model=self.model,
            name=config.name,
            via_device_id=home.id,
        )


class ShareEntity(SubentryEntity):
    """An entity of a shared folder."""

    model = MODEL_SHARE

    def __init__(
        self,
        coordinator: PemusCoordinator,
        description: EntityDescription,
        share: ShareConfig,
    ) -> None:
        """Attach the entity to the device of the share."""
        super().__init__(coordinator, description, share)
        self.share_id = share.id

    @property
    def share(self) -> ShareStatus | None:
        """Return the status of the share, or None until the engine knows it."""
        return next(
            (
                share
                for share in self.coordinator.data.shares
                if share.id == self.share_id
            ),
            None,
        )

    @property
    @override
    def available(self) -> bool:
        """Return whether the engine runs and knows the share."""
        return super().available and self.share is not None


class FriendEntity(SubentryEntity):
    """An entity of a friend."""

    model = MODEL_FRIEND

    def __init__(
        self,
        coordinator: PemusCoordinator,
        description: EntityDescription,
        friend: FriendConfig,
    ) -> None:
        """Attach the entity to the device of the friend."""
        super().__init__(coordinator, description, friend)
        self.home_id = friend.id

    @property
    def friend(self) -> FriendStatus | None:
        """Return the status of the friend, or None until the engine knows it."""
        if (peers := self.coordinator.data.peers) is None:
            return None
        return next(
            (friend for friend in peers.friends if friend.id == self.home_id), None
        )

    @property
    @override
    def available(self) -> bool:
        """Return whether the engine runs and knows the friend. An offline friend is available as well."""
        return super().available and self.friend is not None


class RoomEntity(SubentryEntity):
    """An entity of a room."""

    model = MODEL_ROOM

    def __init__(
        self,
        coordinator: PemusCoordinator,
        description: EntityDescription,
        room: RoomConfig,
    ) -> None:
        """Attach the entity to the device of the room."""
        super().__init__(coordinator, description, room)
        self.room_id = room.id

    @property
    def room(self) -> RoomStatus | None:
        """Return the status of the room, or None until the engine knows it."""
        return next(
            (room for room in self.coordinator.data.rooms if room.id == self.room_id),
            None,
        )

    @property
    @override
    def available(self) -> bool:
        """Return whether the engine runs and knows the room."""
        return super().available and self.room is not None


@callback
def async_add_share_entities(
    entry: PemusConfigEntry,
    platform: Platform,
    async_add_entities: AddConfigEntryEntitiesCallback,
    make: Callable[[PemusCoordinator, ShareConfig], Iterable[ShareEntity]],
) -> None:
    """Add a platform's entities of all current and future shares.

    Entities that no longer apply are removed, such as the number of songs of a share that now has only photos.
    """
    home = entry.runtime_data
    coordinator = home.coordinator

    def wanted() -> dict[str, list[ShareEntity]]:
        shares = {share.id: share for share in home.configuration.config.shares}
        return {
            subentry.subentry_id: list(make(coordinator, shares[share_id(subentry)]))
            for subentry in share_subentries(entry)
            if share_id(subentry) in shares
        }

    _async_add(entry, platform, async_add_entities, share_subentries, wanted)


@callback
def async_add_friend_entities(
    entry: PemusConfigEntry,
    platform: Platform,
    async_add_entities: AddConfigEntryEntitiesCallback,
    make: Callable[[PemusCoordinator, FriendConfig], Iterable[FriendEntity]],
) -> None:
    """Add a platform's entities of all current and future friends."""
    home = entry.runtime_data
    coordinator = home.coordinator

    def wanted() -> dict[str, list[FriendEntity]]:
        friends = {friend.id: friend for friend in home.configuration.config.friends}
        return {
            subentry.subentry_id: list(
                make(coordinator, friends[subentry.data[CONF_ID]])
            )
            for subentry in friend_subentries(entry)
            if subentry.data[CONF_ID] in friends
        }

    _async_add(entry, platform, async_add_entities, friend_subentries, wanted)


@callback
def async_add_room_entities(
    entry: PemusConfigEntry,
    platform: Platform,
    async_add_entities: AddConfigEntryEntitiesCallback,
    make: Callable[[PemusCoordinator, RoomConfig], Iterable[RoomEntity]],
) -> None:
    """Add a platform's entities of all current and future rooms."""
    home = entry.runtime_data
    coordinator = home.coordinator

    def wanted() -> dict[str, list[RoomEntity]]:
        rooms = {room.id: room for room in home.configuration.config.rooms}
        return {
            subentry.subentry_id: list(make(coordinator, rooms[room_id(subentry)]))
            for subentry in room_subentries(entry)
            if room_id(subentry) in rooms
        }

    _async_add(entry, platform, async_add_entities, room_subentries, wanted)


@callback
def _async_add(
    entry: PemusConfigEntry,
    platform: Platform,
    async_add_entities: AddConfigEntryEntitiesCallback,
    subentries: Callable[[PemusConfigEntry], Iterable[ConfigSubentry]],
    make: Callable[[], dict[str, list[Any]]],
) -> None:
    """Add entities by subentry, now and after each change of the configuration. Remove those that no longer apply.

    Home Assistant removes the device and entities of a removed subentry.
    """
    hass = entry.runtime_data.hass
    added: set[str] = set()

    @callback
    def update() -> None:
        wanted: set[str] = set()
        entities: list[Entity]
        for subentry_id, entities in make().items():
            new = [entity for entity in entities if entity.unique_id not in added]
            wanted |= {str(entity.unique_id) for entity in entities}
            async_add_entities(new, config_subentry_id=subentry_id)
        theirs = {subentry.subentry_id for subentry in subentries(entry)}
        registry = er.async_get(hass)
        for known in er.async_entries_for_config_entry(registry, entry.entry_id):
            if (
                known.config_subentry_id in theirs
                and known.domain == platform
                and known.unique_id not in wanted
            ):
                registry.async_remove(known.entity_id)
        added.clear()
        added.update(wanted)

    update()
    entry.async_on_unload(async_dispatcher_connect(hass, SIGNAL_CONFIG_CHANGED, update))
