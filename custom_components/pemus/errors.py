"""The engine's errors in the user's language."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from homeassistant.exceptions import HomeAssistantError

from .client import EngineError, EngineUnavailable
from .const import DOMAIN
from .p2p.models import ErrorKey

_KEYS: Final = {
    ErrorKey.NOT_FOUND: "not_found",
    ErrorKey.UNAVAILABLE: "folder_unavailable",
    ErrorKey.BUSY: "engine_busy",
}


@contextmanager
def engine_errors(kind: type[HomeAssistantError]) -> Generator[None]:
    """Raise errors of the engine's client as `kind`, with a translation key."""
    try:
        yield
    except EngineUnavailable as err:
        raise kind(
            translation_domain=DOMAIN, translation_key="engine_unavailable"
        ) from err
    except EngineError as err:
        raise kind(
            translation_domain=DOMAIN,
            translation_key=_KEYS.get(err.key, "engine_error"),
            translation_placeholders={"error": err.message},
        ) from err
