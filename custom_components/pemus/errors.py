"""Translates the engine's errors."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from homeassistant.exceptions import HomeAssistantError

from .const import DOMAIN
from .engine.client import EngineError, EngineOutdated, EngineUnavailable
from .p2p.models import ErrorKey

_KEYS: Final = {
    ErrorKey.NOT_FOUND: "not_found",
    ErrorKey.UNAVAILABLE: "folder_unavailable",
    ErrorKey.BUSY: "engine_busy",
    ErrorKey.GONE: "gone",
    ErrorKey.DISK_FULL: "no_room",
}
_REMOTE_KEYS: Final = _KEYS | {ErrorKey.UNAVAILABLE: "home_unavailable"}


@contextmanager
def engine_errors(
    kind: type[HomeAssistantError], *, remote: bool = False
) -> Generator[None]:
    """Raise the engine client's errors as `kind`, with a translation key.

    `remote`: the request concerns another home, whose errors have their own texts.
    """
    keys = _REMOTE_KEYS if remote else _KEYS
    try:
        yield
    except EngineOutdated as err:
        raise kind(
            translation_domain=DOMAIN, translation_key="engine_outdated"
        ) from err
    except EngineUnavailable as err:
        raise kind(
            translation_domain=DOMAIN, translation_key="engine_unavailable"
        ) from err
    except EngineError as err:
        raise kind(
            translation_domain=DOMAIN,
            translation_key=keys.get(err.key, "engine_error"),
            translation_placeholders={"error": err.message},
        ) from err
