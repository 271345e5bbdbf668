"""The actions: read the folders again, search, and keep what other homes share."""

from typing import Any, Final

from homeassistant.core import (
    HomeAssistant,
    ServiceCall,
    ServiceResponse,
    SupportsResponse,
    callback,
)
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import config_validation as cv, device_registry as dr
from homeassistant.helpers.service import async_register_admin_service
import voluptuous as vol

from .const import CONF_KINDS, DOMAIN
from .coordinator import PemusCoordinator, async_get_coordinator
from .errors import engine_errors
from .identifiers import ITEM_PREFIX, MEDIA_SOURCE, remote_item
from .p2p.models import Item, Kind, SearchQuery
from .stream import subtitles_path, thumbnail_path

SERVICE_PIN: Final = "pin"
SERVICE_RESCAN: Final = "rescan"
SERVICE_SEARCH: Final = "search"
SERVICE_UNPIN: Final = "unpin"

ATTR_LIMIT: Final = "limit"
ATTR_MEDIA_CONTENT_ID: Final = "media_content_id"
ATTR_QUERY: Final = "query"
ATTR_SHARE: Final = "share"

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 500

PIN_SCHEMA = vol.Schema({vol.Required(ATTR_MEDIA_CONTENT_ID): cv.string})

RESCAN_SCHEMA = vol.Schema({vol.Optional(ATTR_SHARE): cv.string})

SEARCH_SCHEMA = vol.Schema(
    {
        vol.Required(ATTR_QUERY): vol.All(cv.string, vol.Strip, vol.Length(min=1)),
        vol.Optional(CONF_KINDS, default=list(Kind)): vol.All(
            cv.ensure_list, vol.Length(min=1), [vol.Coerce(Kind)]
        ),
        vol.Optional(ATTR_LIMIT, default=DEFAULT_LIMIT): vol.All(
            vol.Coerce(int), vol.Range(min=1, max=MAX_LIMIT)
        ),
        vol.Optional(ATTR_SHARE): cv.string,
    }
)


@callback
def async_register(hass: HomeAssistant) -> None:
    """Register the actions. Who changes something must be an administrator; everybody may search."""
    for name, action, schema in (
        (SERVICE_RESCAN, _async_rescan, RESCAN_SCHEMA),
        (SERVICE_PIN, _async_pin, PIN_SCHEMA),
        (SERVICE_UNPIN, _async_unpin, PIN_SCHEMA),
    ):
        async_register_admin_service(hass, DOMAIN, name, action, schema)
    hass.services.async_register(
        DOMAIN,
        SERVICE_SEARCH,
        _async_search,
        SEARCH_SCHEMA,
        supports_response=SupportsResponse.ONLY,
    )


async def _async_rescan(call: ServiceCall) -> None:
    """Have one share, or all of them, read again."""
    coordinator = _coordinator(call.hass)
    await coordinator.async_rescan(_share(coordinator, call.data.get(ATTR_SHARE)))


async def _async_pin(call: ServiceCall) -> None:
    """Have an item of another home fetched whole, and kept."""
    client = _coordinator(call.hass).engine.client
    owner, item_id = _remote_item(call)
    with engine_errors(HomeAssistantError, remote=True):
        await client.pin(owner, item_id)


async def _async_unpin(call: ServiceCall) -> None:
    """Let an item of another home go when room is needed."""
    client = _coordinator(call.hass).engine.client
    owner, item_id = _remote_item(call)
    with engine_errors(HomeAssistantError, remote=True):
        await client.unpin(owner, item_id)


async def _async_search(call: ServiceCall) -> ServiceResponse:
    """Return the items that match, best first."""
    coordinator = _coordinator(call.hass)
    query = SearchQuery(
        text=call.data[ATTR_QUERY],
        kinds=tuple(dict.fromkeys(call.data[CONF_KINDS])),
        below=_share(coordinator, call.data.get(ATTR_SHARE)) or "",
        limit=call.data[ATTR_LIMIT],
    )
    with engine_errors(HomeAssistantError):
        found = await coordinator.engine.client.search(query)
    return {"items": [_result(item) for item in found.items]}


def _coordinator(hass: HomeAssistant) -> PemusCoordinator:
    """Return the coordinator of this home."""
    if (coordinator := async_get_coordinator(hass)) is None:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="not_loaded"
        )
    return coordinator


def _remote_item(call: ServiceCall) -> tuple[str, str]:
    """Return owner and id of the item that an action is about."""
    wanted: str = call.data[ATTR_MEDIA_CONTENT_ID].strip()
    remote = None
    if wanted.startswith(MEDIA_SOURCE):
        remote = remote_item(wanted.removeprefix(MEDIA_SOURCE))
    if remote is None:
        raise ServiceValidationError(
            translation_domain=DOMAIN,
            translation_key="not_remote",
            translation_placeholders={"media": wanted},
        )
    return remote


def _share(coordinator: PemusCoordinator, wanted: str | None) -> str | None:
    """Return the id of the share that a device or a name stands for, None for all of them."""
    if wanted is None:
        return None
    device = dr.async_get(coordinator.hass).async_get(wanted)
    known = set() if device is None else {key for _, key in device.identifiers}
    if coordinator.config_entry.entry_id in known:
        return None
    for share in coordinator.config.shares:
        if share.id in known or share.name.casefold() == wanted.strip().casefold():
            return share.id
    raise ServiceValidationError(
        translation_domain=DOMAIN,
        translation_key="no_such_share",
        translation_placeholders={"share": wanted},
    )


def _result(item: Item) -> dict[str, Any]:
    """Return what an automation needs to choose an item and to play it."""
    return {
        "media_content_id": f"{MEDIA_SOURCE}{ITEM_PREFIX}{item.id}",
        "media_content_type": item.content_type,
        "kind": item.kind.value,
        "title": item.title,
        "artist": item.artist,
        "album": item.album,
        "duration": item.duration,
        "thumbnail": thumbnail_path(item.id) if item.has_thumbnail else None,
        "subtitles": [
            {
                "name": subtitle.name,
                "language": subtitle.language,
                "url": subtitles_path(item.id, subtitle.index),
            }
            for subtitle in item.subtitles
        ],
    }
