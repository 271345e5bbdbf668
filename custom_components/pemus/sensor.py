"""Sensors of the library, its shares, transfers, friends, rooms, and the engine."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, override

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
    UnitOfTime,
)
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.typing import StateType
from homeassistant.util import dt as dt_util

from .coordinator import PemusCoordinator
from .engine.process import EngineState
from .entity import (
    FriendEntity,
    PacedEntity,
    PemusEntity,
    RoomEntity,
    ShareEntity,
    async_add_friend_entities,
    async_add_room_entities,
    async_add_share_entities,
)
from .home import PemusConfigEntry
from .p2p.models import (
    Counts,
    Kind,
    ScanState,
    ShareConfig,
    ShareStatus,
    Status,
    SwarmStatus,
)
from .p2p.models.homes import FriendConfig, FriendStatus, PathKind
from .p2p.models.rooms import RoomConfig, RoomState, RoomStatus

# The coordinator pushes; entities do not poll.
PARALLEL_UPDATES = 0

NO_PATH = "none"
"""No link to the friend is open."""
LIMITED = "limited"
"""The engine runs in limited mode. Shown instead of EngineState.RUNNING."""

_RATE: Final[dict[str, Any]] = {
    "device_class": SensorDeviceClass.DATA_RATE,
    "state_class": SensorStateClass.MEASUREMENT,
    "native_unit_of_measurement": UnitOfDataRate.BYTES_PER_SECOND,
    "suggested_unit_of_measurement": UnitOfDataRate.MEGABITS_PER_SECOND,
    "suggested_display_precision": 1,
    "entity_registry_enabled_default": False,
}
"""A transfer rate in bytes/s, shown in Mbit/s."""
_SIZE: Final[dict[str, Any]] = {
    "device_class": SensorDeviceClass.DATA_SIZE,
    "native_unit_of_measurement": UnitOfInformation.BYTES,
    "suggested_unit_of_measurement": UnitOfInformation.GIGABYTES,
    "suggested_display_precision": 1,
}
"""A size in bytes, shown in GB."""


@dataclass(frozen=True, kw_only=True)
class HomeSensorDescription(SensorEntityDescription):
    """A sensor of the home."""

    value: Callable[[Status], StateType]


@dataclass(frozen=True, kw_only=True)
class SwarmSensorDescription(SensorEntityDescription):
    """A sensor of the transfers to and from other homes."""

    value: Callable[[SwarmStatus], StateType]


@dataclass(frozen=True, kw_only=True)
class FriendSensorDescription(SensorEntityDescription):
    """A sensor of a friend."""

    value: Callable[[FriendStatus], StateType | datetime]
    is_restless: bool = False
    """Whether the value changes all the time during playback."""


@dataclass(frozen=True, kw_only=True)
class RoomSensorDescription(SensorEntityDescription):
    """A sensor of a room."""

    value: Callable[[RoomStatus], StateType]


@dataclass(frozen=True, kw_only=True)
class ShareSensorDescription(SensorEntityDescription):
    """A sensor of a shared folder."""

    value: Callable[[ShareStatus], StateType | datetime]
    kind: Kind | None = None
    """The sensor exists only for shares with this kind of media."""


COUNTS: dict[str, Kind] = {
    "videos": Kind.VIDEO,
    "songs": Kind.MUSIC,
    "photos": Kind.PHOTO,
}


def _home_count(key: str, kind: Kind) -> HomeSensorDescription:
    """Describe the number of items of a kind."""
    return HomeSensorDescription(
        key=key,
        translation_key=key,
        state_class=SensorStateClass.MEASUREMENT,
        value=lambda status: _count(status.counts, kind),
    )


def _share_count(key: str, kind: Kind) -> ShareSensorDescription:
    """Describe the number of items of a kind in a share."""
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
        state_class=SensorStateClass.MEASUREMENT,
        **_SIZE,
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
        native_unit_of_measurement=PERCENTAGE,
        suggested_display_precision=0,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
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


def _swarm_total(
    key: str, value: Callable[[SwarmStatus], StateType]
) -> SwarmSensorDescription:
    """Describe the bytes sent to or received from other homes. They restart at 0 with the engine."""
    return SwarmSensorDescription(
        key=key,
        translation_key=key,
        state_class=SensorStateClass.TOTAL_INCREASING,
        **_SIZE,
        value=value,
    )


SWARM_SENSORS: tuple[SwarmSensorDescription, ...] = (
    _swarm_total("sent", lambda swarm: swarm.uploaded),
    _swarm_total("received", lambda swarm: swarm.downloaded),
    SwarmSensorDescription(
        key="upload_rate",
        translation_key="upload_rate",
        **_RATE,
        value=lambda swarm: swarm.upload_rate,
    ),
    SwarmSensorDescription(
        key="download_rate",
        translation_key="download_rate",
        **_RATE,
        value=lambda swarm: swarm.download_rate,
    ),
    SwarmSensorDescription(
        key="peers",
        translation_key="peers",
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value=lambda swarm: swarm.peers,
    ),
    SwarmSensorDescription(
        key="active_seeds",
        translation_key="active_seeds",
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value=lambda swarm: swarm.active_seeds,
    ),
    SwarmSensorDescription(
        key="hashed",
        translation_key="hashed",
        native_unit_of_measurement=PERCENTAGE,
        suggested_display_precision=0,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda swarm: _percent(swarm.hashed, swarm.hashable),
    ),
    SwarmSensorDescription(
        key="cache_used",
        translation_key="cache_used",
        state_class=SensorStateClass.MEASUREMENT,
        **_SIZE,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda swarm: swarm.cache_used,
    ),
)


def _percent(part: int, whole: int) -> float | None:
    """Return a part as a percentage of the whole, or None if the whole is 0."""
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
        value=lambda share: _moment(share.last_scan),
    ),
)


def _moment(timestamp: float | None) -> datetime | None:
    """Return a Unix time as a datetime."""
    return None if timestamp is None else dt_util.utc_from_timestamp(timestamp)


def _last_seen(friend: FriendStatus) -> datetime | None:
    """Return when a friend was last seen, rounded down to the minute to limit the number of states."""
    moment = _moment(friend.last_seen)
    return None if moment is None else moment.replace(second=0, microsecond=0)


def _friend_rate(
    key: str, value: Callable[[FriendStatus], StateType]
) -> FriendSensorDescription:
    """Describe the transfer rate to or from a friend."""
    return FriendSensorDescription(
        key=key,
        translation_key=key,
        **_RATE,
        value=value,
        is_restless=True,
    )


FRIEND_SENSORS: tuple[FriendSensorDescription, ...] = (
    FriendSensorDescription(
        key="path",
        translation_key="path",
        device_class=SensorDeviceClass.ENUM,
        options=[*PathKind, NO_PATH],
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda friend: friend.path or NO_PATH,
    ),
    FriendSensorDescription(
        key="round_trip",
        translation_key="round_trip",
        device_class=SensorDeviceClass.DURATION,
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=UnitOfTime.SECONDS,
        suggested_unit_of_measurement=UnitOfTime.MILLISECONDS,
        suggested_display_precision=0,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value=lambda friend: friend.rtt,
        is_restless=True,
    ),
    FriendSensorDescription(
        key="lost_packets",
        translation_key="lost_packets",
        state_class=SensorStateClass.MEASUREMENT,
        native_unit_of_measurement=PERCENTAGE,
        suggested_display_precision=1,
        entity_category=EntityCategory.DIAGNOSTIC,
        entity_registry_enabled_default=False,
        value=lambda friend: None if friend.lost is None else 100 * friend.lost,
        is_restless=True,
    ),
    _friend_rate("download_rate", lambda friend: friend.download_rate),
    _friend_rate("upload_rate", lambda friend: friend.upload_rate),
    FriendSensorDescription(
        key="items",
        translation_key="items",
        state_class=SensorStateClass.MEASUREMENT,
        value=lambda friend: friend.items,
    ),
    FriendSensorDescription(
        key="last_seen",
        translation_key="last_seen",
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=_last_seen,
    ),
)


ROOM_SENSORS: tuple[RoomSensorDescription, ...] = (
    RoomSensorDescription(
        key="room_state",
        translation_key="room_state",
        device_class=SensorDeviceClass.ENUM,
        options=list(RoomState),
        value=lambda room: room.state,
    ),
    RoomSensorDescription(
        key="room_guests",
        translation_key="room_guests",
        state_class=SensorStateClass.MEASUREMENT,
        value=lambda room: room.guests,
    ),
    RoomSensorDescription(
        key="room_queue",
        translation_key="room_queue",
        state_class=SensorStateClass.MEASUREMENT,
        entity_registry_enabled_default=False,
        value=lambda room: room.waiting,
    ),
    RoomSensorDescription(
        key="room_downloads",
        translation_key="room_downloads",
        state_class=SensorStateClass.TOTAL_INCREASING,
        value=lambda room: room.downloads,
    ),
    RoomSensorDescription(
        key="sent",
        translation_key="sent",
        state_class=SensorStateClass.TOTAL_INCREASING,
        **_SIZE,
        value=lambda room: room.uploaded,
    ),
    RoomSensorDescription(
        key="upload_rate",
        translation_key="upload_rate",
        **_RATE,
        value=lambda room: room.upload_rate,
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: PemusConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the sensors of the home, of its shares and of its friends."""
    coordinator = entry.runtime_data.coordinator
    async_add_entities(
        [
            *(HomeSensor(coordinator, description) for description in HOME_SENSORS),
            *(SwarmSensor(coordinator, description) for description in SWARM_SENSORS),
            EngineStateSensor(coordinator, ENGINE_STATE),
        ]
    )
    async_add_share_entities(entry, Platform.SENSOR, async_add_entities, _share_sensors)
    async_add_friend_entities(
        entry,
        Platform.SENSOR,
        async_add_entities,
        _friend_sensors,
    )
    async_add_room_entities(entry, Platform.SENSOR, async_add_entities, _room_sensors)


def _share_sensors(
    coordinator: PemusCoordinator, share: ShareConfig
) -> Iterable[ShareSensor]:
    """Create the sensors of a share."""
    return (
        ShareSensor(coordinator, description, share)
        for description in SHARE_SENSORS
        if description.kind is None or description.kind in share.kinds
    )


def _friend_sensors(
    coordinator: PemusCoordinator, friend: FriendConfig
) -> Iterable[FriendSensor]:
    """Create the sensors of a friend."""
    return (
        (RestlessFriendSensor if description.is_restless else FriendSensor)(
            coordinator, description, friend
        )
        for description in FRIEND_SENSORS
    )


def _room_sensors(
    coordinator: PemusCoordinator, room: RoomConfig
) -> Iterable[RoomSensor]:
    """Create the sensors of a room."""
    return (RoomSensor(coordinator, description, room) for description in ROOM_SENSORS)


class HomeSensor(PemusEntity, SensorEntity):
    """A sensor of the library or the engine."""

    entity_description: HomeSensorDescription

    @property
    @override
    def native_value(self) -> StateType:
        """Return the current value."""
        return self.entity_description.value(self.coordinator.data)


class SwarmSensor(PacedEntity, PemusEntity, SensorEntity):
    """A sensor of the transfers. Unavailable in limited mode."""

    entity_description: SwarmSensorDescription

    @property
    @override
    def available(self) -> bool:
        """Return whether the engine runs and provides the transfers."""
        return super().available and self.coordinator.data.swarm is not None

    @property
    @override
    def native_value(self) -> StateType:
        """Return the current value."""
        swarm = self.coordinator.data.swarm
        return None if swarm is None else self.entity_description.value(swarm)


class EngineStateSensor(PemusEntity, SensorEntity):
    """The state of the engine's process."""

    @property
    @override
    def available(self) -> bool:
        """Always available: this sensor explains why the others are not."""
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
    """A sensor of a share."""

    entity_description: ShareSensorDescription

    @property
    @override
    def native_value(self) -> StateType | datetime:
        """Return the current value."""
        return None if self.share is None else self.entity_description.value(self.share)


class RoomSensor(PacedEntity, RoomEntity, SensorEntity):
    """A sensor of a room."""

    entity_description: RoomSensorDescription

    @property
    @override
    def native_value(self) -> StateType:
        """Return the current value."""
        return None if self.room is None else self.entity_description.value(self.room)


class FriendSensor(FriendEntity, SensorEntity):
    """A sensor of a friend."""

    entity_description: FriendSensorDescription

    @property
    @override
    def native_value(self) -> StateType | datetime:
        """Return the current value."""
        if (friend := self.friend) is None:
            return None
        return self.entity_description.value(friend)


class RestlessFriendSensor(PacedEntity, FriendSensor):
    """A sensor of a friend that changes all the time during playback."""
