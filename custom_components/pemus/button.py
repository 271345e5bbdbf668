"""Buttons that start a rescan."""

from typing import override

from homeassistant.components.button import ButtonEntity, ButtonEntityDescription
from homeassistant.const import EntityCategory, Platform
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .entity import PemusEntity, ShareEntity, async_add_share_entities
from .errors import engine_errors
from .home import PemusConfigEntry

# The engine ignores a rescan request while one is running, so presses need no queue.
PARALLEL_UPDATES = 0

RESCAN = ButtonEntityDescription(
    key="rescan", translation_key="rescan", entity_category=EntityCategory.CONFIG
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: PemusConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add a button to the home and one to each share."""
    async_add_entities([HomeRescanButton(entry.runtime_data.coordinator, RESCAN)])
    async_add_share_entities(
        entry,
        Platform.BUTTON,
        async_add_entities,
        lambda coordinator, share: [ShareRescanButton(coordinator, RESCAN, share)],
    )


class HomeRescanButton(PemusEntity, ButtonEntity):
    """Rescans all shares."""

    @override
    async def async_press(self) -> None:
        """Start, without waiting for the end."""
        with engine_errors(HomeAssistantError):
            await self.coordinator.engine.client.rescan()


class ShareRescanButton(ShareEntity, ButtonEntity):
    """Rescans one share."""

    @override
    async def async_press(self) -> None:
        """Start, without waiting for the end."""
        with engine_errors(HomeAssistantError):
            await self.coordinator.engine.client.rescan(self.share_id)
