"""The home and its shares as devices, and what their entities have in common."""

from collections.abc import Callable, Iterable
from typing import Any, override

from homeassistant.const import Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.helpers.device_registry import DeviceEntryType, DeviceInfo
from homeassistant.helpers.entity import EntityDescription
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import CoordinatorEntity

from .const import DOMAIN
from .coordinator import PemusConfigEntry, PemusCoordinator
from .options import DEFAULTS
from .p2p.models import ShareConfig, ShareStatus
from .shares import share_id, share_subentries

MANUFACTURER = "PeMuS"
MEDIA_BROWSER = "homeassistant://media-browser/browser/app%2Cmedia-source%3A%2F%2Fpemus"


@callback
def async_update_devices(hass: HomeAssistant, entry: PemusConfigEntry) -> None:
    """Register the home, and give each device its present name."""
    registry = dr.async_get(hass)
    coordinator = entry.runtime_data
    registry.async_get_or_create(
        config_entry_id=entry.entry_id,
        identifiers={(DOMAIN, entry.entry_id)},
        entry_type=DeviceEntryType.SERVICE,
        manufacturer=MANUFACTURER,
        name=coordinator.config.home_name,
        sw_version=coordinator.data.version,
        configuration_url=MEDIA_BROWSER,
    )
    for share in coordinator.config.shares:
        if device := registry.async_get_device_by_identifier(
            (DOMAIN, share.id), entry.entry_id
        ):
            registry.async_update_device(device.id, name=share.name)


class PemusEntity(CoordinatorEntity[PemusCoordinator]):
    """An entity of the home."""

    _attr_has_entity_name = True

    def __init__(
        self, coordinator: PemusCoordinator, description: EntityDescription
    ) -> None:
        """Belong to the home, which is registered before any entity."""
        super().__init__(coordinator)
        self.entity_description = description
        entry_id = coordinator.config_entry.entry_id
        self._attr_unique_id = f"{entry_id}_{description.key}"
        self._attr_device_info = DeviceInfo(identifiers={(DOMAIN, entry_id)})


class OptionEntity(PemusEntity):
    """An entity that shows and changes the option of its key. It does so also while the engine is down."""

    @property
    @override
    def available(self) -> bool:
        """Stay available: what the user chose is known, and holds from the next start of the engine on."""
        return True

    @property
    def option(self) -> Any:
        """What the user chose, or else what counts without."""
        key = self.entity_description.key
        return self.coordinator.config_entry.options.get(key, DEFAULTS[key])

    @callback
    def set_option(self, value: Any) -> None:
        """Change the option. The update listener of the entry has the engine apply it."""
        entry = self.coordinator.config_entry
        self.hass.config_entries.async_update_entry(
            entry, options={**entry.options, self.entity_description.key: value}
        )

    @override
    async def async_added_to_hass(self) -> None:
        """Show each change, wherever it was made."""
        await super().async_added_to_hass()
        self.async_on_remove(
            self.coordinator.async_add_config_listener(self.async_write_ha_state)
        )


class ShareEntity(CoordinatorEntity[PemusCoordinator]):
    """An entity of a shared folder."""

    _attr_has_entity_name = True

    def __init__(
        self,
        coordinator: PemusCoordinator,
        description: EntityDescription,
        share: ShareConfig,
    ) -> None:
        """Belong to the share, which hangs on the home."""
        super().__init__(coordinator)
        self.entity_description = description
        self.share_id = share.id
        self._attr_unique_id = f"{share.id}_{description.key}"
        entry_id = coordinator.config_entry.entry_id
        home = dr.async_get(coordinator.hass).async_get_device_by_identifier(
            (DOMAIN, entry_id), entry_id
        )
        assert home is not None
        self._attr_device_info = DeviceInfo(
            identifiers={(DOMAIN, share.id)},
            entry_type=DeviceEntryType.SERVICE,
            manufacturer=MANUFACTURER,
            name=share.name,
            via_device_id=home.id,
        )

    @property
    def share(self) -> ShareStatus | None:
        """Return the state of the share, None until the engine knows of it."""
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
        """Tell whether the engine runs and knows the share."""
        return super().available and self.share is not None


@callback
def async_add_share_entities(
    entry: PemusConfigEntry,
    platform: Platform,
    async_add_entities: AddConfigEntryEntitiesCallback,
    make: Callable[[PemusCoordinator, ShareConfig], Iterable[ShareEntity]],
) -> None:
    """Add a platform's entities of all shares: of those there are, and of those to come.

    When a share goes, Home Assistant removes its device and entities with the subentry. What a share no longer has,
    such as the number of songs of a folder that now shares only photos, is removed here.
    """
    coordinator = entry.runtime_data
    added: set[str] = set()

    @callback
    def update() -> None:
        subentries = {
            share_id(subentry): subentry.subentry_id
            for subentry in share_subentries(entry)
        }
        wanted: set[str] = set()
        for share in coordinator.config.shares:
            entities = {
                str(entity.unique_id): entity for entity in make(coordinator, share)
            }
            wanted |= entities.keys()
            async_add_entities(
                [entity for key, entity in entities.items() if key not in added],
                config_subentry_id=subentries[share.id],
            )
        registry = er.async_get(coordinator.hass)
        for known in er.async_entries_for_config_entry(registry, entry.entry_id):
            if (
                known.config_subentry_id is not None
                and known.domain == platform
                and known.unique_id not in wanted
            ):
                registry.async_remove(known.entity_id)
        added.clear()
        added.update(wanted)

    update()
    entry.async_on_unload(coordinator.async_add_config_listener(update))
