"""Numbers about the library, its shares and other homes, and what the engine is doing."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import (
    PERCENTAGE,
    EntityCategory,
    Platform,
    UnitOfDataRate,
    UnitOfInformation,
)
from homeassistant.core import CALLBACK_TYPE, HassJob, HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.event import async_call_later
from homeassistant.helpers.typing import StateType
from homeassistant.util import dt as dt_util

from .coordinator import PemusConfigEntry, PemusCoordinator
from .entity import PemusEntity, ShareEntity, async_add_share_entities
from .p2p.models import (
    Counts,
    Kind,
    ScanState,
    ShareConfig,
    ShareStatus,
    Status,
    SwarmStatus,
)
from .supervisor import EngineState

# The coordinator pushes; nothing is asked for.
PARALLEL_UPDATES = 0

LIMITED = "limited"
"""The engine runs, but without its own environment: a state of its own to whoever looks at it."""

PACE: Final = 10
"""Seconds between two states of a sensor whose number changes all the time while a film plays. Each is a row in the
home's database; who wants every second asks for the transfers."""


@dataclass(frozen=True, kw_only=True)
class HomeSensorDescription(SensorEntityDescription):
    """A sensor of the home."""

    value: Callable[[Status], StateType]


@dataclass(frozen=True, kw_only=True)
class SwarmSensorDescription(SensorEntityDescription):
    """A sensor of what goes to and comes from other homes."""

    value: Callable[[SwarmStatus], StateType]


@dataclass(frozen=True, kw_only=True)
class ShareSensorDescription(SensorEntityDescription):
    """A sensor of a shared folder."""

    value: Callable[[ShareStatus], StateType | datetime]
    kind: Kind | None = None
    """Only for shares with this kind of media."""


COUNTS: dict[str, Kind] = {
    "videos": Kind.VIDEO,
    "songs": Kind.MUSIC,
    "photos": Kind.PHOTO,
}


def _home_count(key: str, kind: Kind) -> HomeSensorDescription:
    """Describe how many items of a kind there are."""
    return HomeSensorDescription(
        key=key,
        translation_key=key,
        state_class=SensorStateClass.MEASUREMENT,
        value=lambda status: _count(status.counts, kind),
    )


def _share_count(key: str, kind: Kind) -> ShareSensorDescription:
    """Describe how many items of a kind a share has."""
    return ShareSensorDescription(
        key=key,
        translation_key=key,
        state_class=SensorStateClass.MEASUREMENT,
        kind=kind,
        value=lambda share: _count(share.counts, kind),
    )


def _count(counts: Counts, kind: Kind) -> int:
    """Return the number of items of a kind."""
    return {
        Kind.VIDEO: counts.video,
        Kind.MUSIC: counts.music,
        Kind.PHOTO: counts.photo,
    }[kind]


HOME_SENSORS: tuple[HomeSensorDescription, ...] = (
    *(_home_count(key, kind) for key, kind in COUNTS.items()),
    HomeSensorDescription(
        key="library_size",
        translation_key="library_size",
        device_class=SensorDeviceClass.DATA_SIZE,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfInformation.BYTES,
        suggested_unit_of_measurement=UnitOfInformation.GIGABYTES,
        suggested_display_precision=1,
        value=lambda status: status.counts.size,
    ),
    HomeSensorDescription(
        key="scan_state",
        translation_key="scan_state",
        device_class=SensorDeviceClass.ENUM,
        options=list(ScanState),
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda status: status.scan_state,
    ),
    HomeSensorDescription(
        key="scan_progress",
        translation_key="scan_progress",
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=PERCENTAGE,
        suggested_display_precision=0,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda status: status.progress,
    ),
    HomeSensorDescription(
        key="engine_memory",
        translation_key="engine_memory",
        device_class=SensorDeviceClass.DATA_SIZE,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfInformation.BYTES,
        suggested_unit_of_measurement=UnitOfInformation.MEGABYTES,
        suggested_display_precision=0,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value=lambda status: status.rss,
    ),
)

SWARM_SENSORS: tuple[SwarmSensorDescription, ...] = (
    SwarmSensorDescription(
        key="upload_rate",
        translation_key="upload_rate",
        device_class=SensorDeviceClass.DATA_RATE,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfDataRate.BYTES_PER_SECOND,
        suggested_unit_of_measurement=UnitOfDataRate.MEGABITS_PER_SECOND,
        suggested_display_precision=1,
        value=lambda swarm: swarm.upload_rate,
    ),
    SwarmSensorDescription(
        key="download_rate",
        translation_key="download_rate",
        device_class=SensorDeviceClass.DATA_RATE,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfDataRate.BYTES_PER_SECOND,
        suggested_unit_of_measurement=UnitOfDataRate.MEGABITS_PER_SECOND,
        suggested_display_precision=1,
        value=lambda swarm: swarm.download_rate,
    ),
    SwarmSensorDescription(
        key="peers",
        translation_key="peers",
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda swarm: swarm.peers,
    ),
    SwarmSensorDescription(
        key="active_seeds",
        translation_key="active_seeds",
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda swarm: swarm.active_seeds,
    ),
    SwarmSensorDescription(
        key="hashed",
        translation_key="hashed",
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=PERCENTAGE,
        suggested_display_precision=0,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda swarm: _percent(swarm.hashed, swarm.hashable),
    ),
    SwarmSensorDescription(
        key="cache_used",
        translation_key="cache_used",
        device_class=SensorDeviceClass.DATA_SIZE,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfInformation.BYTES,
        suggested_unit_of_measurement=UnitOfInformation.GIGABYTES,
        suggested_display_precision=1,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda swarm: swarm.cache_used,
    ),
)


def _percent(part: int, whole: int) -> float | None:
    """Return how much of the whole a part is, None where there is nothing."""
    return min(100 * part / whole, 100.0) if whole else None


ENGINE_STATE = SensorEntityDescription(
    key="engine_state",
    translation_key="engine_state",
    device_class=SensorDeviceClass.ENUM,
    options=[*EngineState, LIMITED],
    entity_category=EntityCategory.DIAGNOSTIC,
)

SHARE_SENSORS: tuple[ShareSensorDescription, ...] = (
    *(_share_count(key, kind) for key, kind in COUNTS.items()),
    ShareSensorDescription(
        key="last_scan",
        translation_key="last_scan",
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda share: (
            None
            if share.last_scan is None
            else dt_util.utc_from_timestamp(share.last_scan)
        ),
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: PemusConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the sensors of the home and of its shares."""
    coordinator = entry.runtime_data
    async_add_entities(
        [
            *(HomeSensor(coordinator, description) for description in HOME_SENSORS),
            *(SwarmSensor(coordinator, description) for description in SWARM_SENSORS),
            EngineStateSensor(coordinator, ENGINE_STATE),
        ]
    )
    async_add_share_entities(entry, Platform.SENSOR, async_add_entities, _share_sensors)


def _share_sensors(
    coordinator: PemusCoordinator, share: ShareConfig
) -> Iterable[ShareSensor]:
    """Make the sensors that suit the share."""
    return (
        ShareSensor(coordinator, description, share)
        for description in SHARE_SENSORS
        if description.kind is None or description.kind in share.kinds
    )


class HomeSensor(PemusEntity, SensorEntity):
    """A number about the whole library."""

    entity_description: HomeSensorDescription

    @property
    @override
    def native_value(self) -> StateType:
        """Return what the engine said last."""
        return self.entity_description.value(self.coordinator.data)


class SwarmSensor(PemusEntity, SensorEntity):
    """A number about other homes. There is none while the engine runs without what it needs for them."""

    entity_description: SwarmSensorDescription
    _shown_available = False
    _pausing: CALLBACK_TYPE | None = None
    _late = False
    """Whether something changed during the pause."""

    @property
    @override
    def available(self) -> bool:
        """Tell whether the engine runs, and can reach other homes."""
        return super().available and self.coordinator.data.swarm is not None

    @property
    @override
    def native_value(self) -> StateType:
        """Return what the engine said last."""
        swarm = self.coordinator.data.swarm
        return None if swarm is None else self.entity_description.value(swarm)

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        """Show what changed: at once after a time of rest, and then at a pace."""
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
            self.hass, PACE, HassJob(self._paused, cancel_on_shutdown=True)
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
        """End the pause with the entity."""
        await super().async_added_to_hass()
        self.async_on_remove(self._end_pause)


class EngineStateSensor(PemusEntity, SensorEntity):
    """What the engine process is up to. It tells that also while the engine is down."""

    @property
    @override
    def available(self) -> bool:
        """Stay available: this sensor is there to tell why the others are not."""
        return True

    @property
    @override
    def native_value(self) -> StateType:
        """Return the state of the process."""
        engine = self.coordinator.engine
        if engine.state is EngineState.RUNNING and engine.limited is not None:
            return LIMITED
        return engine.state


class ShareSensor(ShareEntity, SensorEntity):
    """A number about a shared folder."""

    entity_description: ShareSensorDescription

    @property
    @override
    def native_value(self) -> StateType | datetime:
        """Return what the engine said last."""
        return None if self.share is None else self.entity_description.value(self.share)
