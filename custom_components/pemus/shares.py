"""Shared folders, and the check whether a folder can be shared.

A share is a config subentry. Its title is the name of the share.
"""

import asyncio
from collections.abc import Collection
from enum import StrEnum
import os
from pathlib import Path

from homeassistant.config_entries import ConfigEntry, ConfigSubentry
from homeassistant.const import CONF_PATH
from homeassistant.core import HomeAssistant

from .const import CONF_KINDS, SUBENTRY_SHARE
from .p2p.models import Kind, ShareConfig

FOLDER_TIMEOUT = 10
"""How long to wait for a disk or network storage, in seconds."""

SYSTEM_FOLDERS = tuple(
    Path(name) for name in ("/boot", "/dev", "/etc", "/proc", "/sys")
)
"""Folders of the operating system, which cannot be shared."""


class Refusal(StrEnum):
    """Why a folder cannot be shared. Each value is a translation key."""

    NOT_ABSOLUTE = "not_absolute"
    NOT_FOUND = "not_found"
    NOT_A_FOLDER = "not_a_folder"
    NOT_READABLE = "not_readable"
    NOT_RESPONDING = "not_responding"
    ALREADY_SHARED = "already_shared"
    CONTAINS_SHARED = "contains_shared"
    INSIDE_SHARED = "inside_shared"
    CONTAINS_CONFIG = "contains_config"
    SYSTEM_FOLDER = "system_folder"


class FolderRefused(Exception):
    """The folder cannot be shared.

    Attributes:
        reason: Why the folder cannot be shared.
        share: The name of the share that it conflicts with, or "".

    """

    def __init__(self, reason: Refusal, share: str = "") -> None:
        """Store the reason and the name of the conflicting share."""
        super().__init__(reason.value)
        self.reason = reason
        self.share = share


def share_subentries(entry: ConfigEntry) -> list[ConfigSubentry]:
    """Return the shares of a config entry."""
    return entry.get_subentries_of_type(SUBENTRY_SHARE)


def share_id(subentry: ConfigSubentry) -> str:
    """Return the engine's id of a share."""
    return subentry.subentry_id.lower()


def share_config(subentry: ConfigSubentry) -> ShareConfig:
    """Return the engine's configuration of a share."""
    return ShareConfig(
        id=share_id(subentry),
        path=subentry.data[CONF_PATH],
        name=subentry.title,
        kinds=tuple(Kind(kind) for kind in subentry.data[CONF_KINDS]),
    )


async def async_check_folder(
    hass: HomeAssistant, path: str, others: Collection[ConfigSubentry]
) -> Path:
    """Return the real path of a folder that can be shared in addition to `others`.

    Raises:
        FolderRefused: The folder cannot be shared, or its disk does not answer within FOLDER_TIMEOUT.

    """
    if not Path(path).is_absolute():
        raise FolderRefused(Refusal.NOT_ABSOLUTE)
    try:
        async with asyncio.timeout(FOLDER_TIMEOUT):
            real, config = await hass.async_add_executor_job(
                _inspect, path, hass.config.config_dir
            )
    except TimeoutError:
        raise FolderRefused(Refusal.NOT_RESPONDING) from None
    _refuse_system(real, config)
    for other in others:
        _refuse_overlap(real, other)
    return real


def _inspect(path: str, config_dir: str) -> tuple[Path, Path]:
    """Return the real paths of a readable folder and of the configuration. Can block as long as the disk hangs."""
    try:
        real = Path(path).resolve(strict=True)
        with os.scandir(real) as entries:
            next(entries, None)
    except FileNotFoundError, ValueError:
        raise FolderRefused(Refusal.NOT_FOUND) from None
    except NotADirectoryError:
        raise FolderRefused(Refusal.NOT_A_FOLDER) from None
    except OSError:
        raise FolderRefused(Refusal.NOT_READABLE) from None
    return real, Path(config_dir).resolve()


def _refuse_system(real: Path, config: Path) -> None:
    """Refuse folders that contain secrets: the configuration, its hidden folders, and system folders."""
    if config.is_relative_to(real):
        raise FolderRefused(Refusal.CONTAINS_CONFIG)
    if real.is_relative_to(config) and any(
        part.startswith(".") for part in real.relative_to(config).parts
    ):
        raise FolderRefused(Refusal.SYSTEM_FOLDER)
    if any(real.is_relative_to(folder) for folder in SYSTEM_FOLDERS):
        raise FolderRefused(Refusal.SYSTEM_FOLDER)


def _refuse_overlap(real: Path, other: ConfigSubentry) -> None:
    """Refuse a folder that overlaps another share: each item belongs to one share."""
    shared = Path(other.data[CONF_PATH])
    if real == shared:
        raise FolderRefused(Refusal.ALREADY_SHARED, other.title)
    if shared.is_relative_to(real):
        raise FolderRefused(Refusal.CONTAINS_SHARED, other.title)
    if real.is_relative_to(shared):
        raise FolderRefused(Refusal.INSIDE_SHARED, other.title)
