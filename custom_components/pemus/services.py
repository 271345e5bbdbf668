"""The actions: rescan, search, manage friends, play and pin their media, and share with guests."""

import asyncio
from dataclasses import replace
from typing import Any, Final

from homeassistant.components.media_player import (
    ATTR_MEDIA_CONTENT_ID,
    ATTR_MEDIA_CONTENT_TYPE,
    DOMAIN as MEDIA_PLAYER,
    SERVICE_PLAY_MEDIA,
)
from homeassistant.config_entries import ConfigSubentry
from homeassistant.const import CONF_ID, CONF_NAME, CONF_PASSWORD
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
from homeassistant.util import dt as dt_util
from homeassistant.util.json import JsonValueType
import voluptuous as vol

from .addresses import Addresses, async_base
from .const import CONF_KINDS, CONF_NOTE, CONF_UPLOAD_LIMIT, DOMAIN, MEDIA_SOURCE
from .engine.client import EngineError
from .errors import engine_errors
from .flows.forms import is_over
from .friends.pairings import Step
from .friends.terms import (
    Terms,
    clean_name,
    friend_name,
    friend_subentries,
    read_invitation,
)
from .home import Home, async_get_home
from .options import MIN_RATE, NO_LIMIT, is_rate
from .p2p.models import Item, Kind, SearchQuery
from .p2p.models.items import ItemRef, home_node
from .p2p.models.rooms import MAX_GUESTS, MAX_NOTE, MAX_PASSWORD, MAX_TITLE, RoomFolder
from .rooms.sharing import NotShareable, async_resolve, async_wait_for_link
from .rooms.terms import (
    CONF_DOWNLOADS,
    CONF_EXPIRES,
    CONF_GUESTS,
    RoomTerms,
    async_add_room,
    link,
    qr_code,
    room_id,
    room_subentries,
    spoken_code,
)
from .search import async_search
from .shares import share_id, share_subentries

SERVICE_ANSWER_REQUEST: Final = "answer_request"
SERVICE_CHANGE_ROOM: Final = "change_room"
SERVICE_DISCONNECT_GUEST: Final = "disconnect_guest"
SERVICE_PIN: Final = "pin"
SERVICE_PLAY_FROM_FRIEND: Final = "play_from_friend"
SERVICE_REMOVE_FRIEND: Final = "remove_friend"
SERVICE_REQUEST_FRIEND: Final = "request_friend"
SERVICE_RESCAN: Final = "rescan"
SERVICE_SEARCH: Final = "search"
SERVICE_SHARE: Final = "share"
SERVICE_UNPIN: Final = "unpin"
SERVICE_UNSHARE: Final = "unshare"

ATTR_ACCEPT: Final = "accept"
ATTR_BLOCK: Final = "block"
ATTR_FRIEND: Final = "friend"
ATTR_GUEST: Final = "guest"
ATTR_HOME_ID: Final = "home_id"
ATTR_LIMIT: Final = "limit"
ATTR_QUERY: Final = "query"
ATTR_ROOM: Final = "room"
ATTR_SHARES: Final = "shares"
ATTR_SHARE: Final = "share"

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 500
SIGNING_BATCH: Final = 25
"""Results whose addresses are signed in one turn of the event loop."""

ANSWERABLE: Final = {Step.WAITING, Step.COMPARING, Step.CONFIRMED}
"""Steps of a pairing that can be answered."""

PIN_SCHEMA = vol.Schema({vol.Required(ATTR_MEDIA_CONTENT_ID): cv.string})

SHARES_FIELD = {
    vol.Optional(ATTR_SHARES, default=list): vol.All(cv.ensure_list, [cv.string])
}

REQUEST_SCHEMA = vol.Schema({vol.Required(ATTR_HOME_ID): cv.string, **SHARES_FIELD})

ANSWER_SCHEMA = vol.Schema(
    {
        vol.Required(ATTR_HOME_ID): cv.string,
        vol.Required(ATTR_ACCEPT): cv.boolean,
        vol.Optional(ATTR_BLOCK, default=False): cv.boolean,
        **SHARES_FIELD,
    }
)

REMOVE_SCHEMA = vol.Schema({vol.Required(ATTR_FRIEND): cv.string})

KINDS_FIELD = {
    vol.Optional(CONF_KINDS, default=list(Kind)): vol.All(
        cv.ensure_list, vol.Length(min=1), [vol.Coerce(Kind)]
    )
}
QUERY_FIELD = {
    vol.Required(ATTR_QUERY): vol.All(cv.string, vol.Strip, vol.Length(min=1))
}

PLAY_SCHEMA = cv.make_entity_service_schema(
    {vol.Required(ATTR_FRIEND): cv.string, **QUERY_FIELD, **KINDS_FIELD}
)

ROOM_TERMS_FIELDS = {
    vol.Optional(CONF_NAME): vol.All(cv.string, vol.Length(max=MAX_TITLE)),
    vol.Optional(CONF_PASSWORD): vol.All(cv.string, vol.Length(max=MAX_PASSWORD)),
    vol.Optional(CONF_EXPIRES): cv.datetime,
    vol.Optional(CONF_DOWNLOADS): cv.positive_int,
    vol.Optional(CONF_GUESTS): vol.All(
        vol.Coerce(int), vol.Range(min=1, max=MAX_GUESTS)
    ),
    vol.Optional(CONF_UPLOAD_LIMIT): vol.Coerce(float),
    vol.Optional(CONF_NOTE): vol.All(cv.string, vol.Length(max=MAX_NOTE)),
}

SHARE_SCHEMA = vol.Schema(
    {
        vol.Optional(ATTR_MEDIA_CONTENT_ID, default=list): vol.All(
            cv.ensure_list, [cv.string]
        ),
        **SHARES_FIELD,
        **ROOM_TERMS_FIELDS,
    }
)

CHANGE_ROOM_SCHEMA = vol.Schema(
    {vol.Required(ATTR_ROOM): cv.string, **ROOM_TERMS_FIELDS}
)

DISCONNECT_GUEST_SCHEMA = vol.Schema(
    {vol.Required(ATTR_ROOM): cv.string, vol.Required(ATTR_GUEST): cv.string}
)

UNSHARE_SCHEMA = vol.Schema({vol.Required(ATTR_ROOM): cv.string})

RESCAN_SCHEMA = vol.Schema({vol.Optional(ATTR_SHARE): cv.string})

SEARCH_SCHEMA = vol.Schema(
    {
        **QUERY_FIELD,
        **KINDS_FIELD,
        vol.Optional(ATTR_LIMIT, default=DEFAULT_LIMIT): vol.All(
            vol.Coerce(int), vol.Range(min=1, max=MAX_LIMIT)
        ),
        vol.Exclusive(ATTR_SHARE, "place"): cv.string,
        vol.Exclusive(ATTR_FRIEND, "place"): cv.string,
    }
)


@callback
def async_register(hass: HomeAssistant) -> None:
    """Register the actions. Only search and play are open to users who are not administrators."""
    for name, action, schema in (
        (SERVICE_RESCAN, _async_rescan, RESCAN_SCHEMA),
        (SERVICE_PIN, _async_pin, PIN_SCHEMA),
        (SERVICE_UNPIN, _async_unpin, PIN_SCHEMA),
        (SERVICE_REQUEST_FRIEND, _async_request_friend, REQUEST_SCHEMA),
        (SERVICE_ANSWER_REQUEST, _async_answer_request, ANSWER_SCHEMA),
        (SERVICE_REMOVE_FRIEND, _async_remove_friend, REMOVE_SCHEMA),
        (SERVICE_DISCONNECT_GUEST, _async_disconnect_guest, DISCONNECT_GUEST_SCHEMA),
        (SERVICE_UNSHARE, _async_unshare, UNSHARE_SCHEMA),
    ):
        async_register_admin_service(hass, DOMAIN, name, action, schema)
    for name, answer, schema in (
        (SERVICE_SHARE, _async_share, SHARE_SCHEMA),
        (SERVICE_CHANGE_ROOM, _async_change_room, CHANGE_ROOM_SCHEMA),
    ):
        async_register_admin_service(
            hass, DOMAIN, name, answer, schema, SupportsResponse.OPTIONAL
        )
    hass.services.async_register(
        DOMAIN, SERVICE_PLAY_FROM_FRIEND, _async_play_from_friend, PLAY_SCHEMA
    )
    hass.services.async_register(
        DOMAIN,
        SERVICE_SEARCH,
        _async_search,
        SEARCH_SCHEMA,
        supports_response=SupportsResponse.ONLY,
    )


async def _async_rescan(call: ServiceCall) -> None:
    """Rescan one share or all shares."""
    home = _home(call.hass)
    share = _share(home, call.data.get(ATTR_SHARE))
    with engine_errors(HomeAssistantError):
        await home.engine.client.rescan(share)


async def _async_pin(call: ServiceCall) -> None:
    """Fetch a friend's item completely, and keep it."""
    client = _home(call.hass).engine.client
    ref = _friends_item(call)
    with engine_errors(HomeAssistantError, remote=True):
        await client.pin(ref)


async def _async_unpin(call: ServiceCall) -> None:
    """Stop keeping a friend's item."""
    client = _home(call.hass).engine.client
    ref = _friends_item(call)
    with engine_errors(HomeAssistantError, remote=True):
        await client.unpin(ref)


async def _async_search(call: ServiceCall) -> ServiceResponse:
    """Return the matching items, best first."""
    home = _home(call.hass)
    friend = call.data.get(ATTR_FRIEND)
    if friend is None:
        below = _share(home, call.data.get(ATTR_SHARE)) or ""
    else:
        below = home_node(_friend(home, friend).data[CONF_ID])
    query = SearchQuery(
        text=call.data[ATTR_QUERY],
        kinds=tuple(dict.fromkeys(call.data[CONF_KINDS])),
        below=below,
        limit=call.data[ATTR_LIMIT],
    )
    everywhere = not {ATTR_FRIEND, ATTR_SHARE} & call.data.keys()
    with engine_errors(HomeAssistantError, remote=friend is not None):
        found = await async_search(home, query, with_friends=everywhere)
    base = async_base(call.hass)
    results: list[JsonValueType] = []
    for number, each in enumerate(found.items):
        if number % SIGNING_BATCH == SIGNING_BATCH - 1:
            await asyncio.sleep(0)
        results.append(_result(home, each, base))
    return {"items": results}


async def _async_request_friend(call: ServiceCall) -> None:
    """Send a friend request."""
    home = _home(call.hass)
    home_id = _home_id(call)
    terms = Terms(shares=_shares(home, call.data[ATTR_SHARES]))
    with engine_errors(HomeAssistantError, remote=True):
        await home.pairings.async_request(home_id, terms, trusted=True)


async def _async_answer_request(call: ServiceCall) -> None:
    """Confirm or decline a friend request."""
    home = _home(call.hass)
    home_id = _home_id(call)
    if home.pairings.step(home_id) not in ANSWERABLE:
        raise _no_such_request()
    terms = Terms(shares=_shares(home, call.data[ATTR_SHARES]))
    with engine_errors(HomeAssistantError, remote=True):
        try:
            if call.data[ATTR_ACCEPT]:
                await home.pairings.async_accept(home_id, terms)
            else:
                block = call.data[ATTR_BLOCK]
                await home.pairings.async_deny(home_id, block=block)
        except EngineError as err:
            if is_over(err):
                raise _no_such_request() from err
            raise


async def _async_remove_friend(call: ServiceCall) -> None:
    """Remove a friend. The update listener of the entry makes the engine end all transfers."""
    home = _home(call.hass)
    friend = _friend(home, call.data[ATTR_FRIEND])
    call.hass.config_entries.async_remove_subentry(home.entry, friend.subentry_id)


async def _async_play_from_friend(call: ServiceCall) -> None:
    """Search a friend's library, and play the best available item on media players."""
    home = _home(call.hass)
    friend = _friend(home, call.data[ATTR_FRIEND])
    home_id: str = friend.data[CONF_ID]
    query = SearchQuery(
        text=call.data[ATTR_QUERY],
        kinds=tuple(dict.fromkeys(call.data[CONF_KINDS])),
        below=home_node(home_id),
        limit=DEFAULT_LIMIT,
    )
    with engine_errors(HomeAssistantError, remote=True):
        found = (await home.engine.client.search(query)).items
    item = next((item for item in found if item.available), None)
    if item is None:
        raise ServiceValidationError(
            translation_domain=DOMAIN,
            translation_key="friend_offline" if found else "nothing_found",
            translation_placeholders={"friend": friend.title, "query": query.text},
        )
    target = {
        field: call.data[field]
        for field in map(str, cv.ENTITY_SERVICE_FIELDS)
        if field in call.data
    }
    await call.hass.services.async_call(
        MEDIA_PLAYER,
        SERVICE_PLAY_MEDIA,
        {
            **target,
            ATTR_MEDIA_CONTENT_ID: f"{MEDIA_SOURCE}{item.ref.node}",
            ATTR_MEDIA_CONTENT_TYPE: item.content_type,
        },
        blocking=True,
        context=call.context,
    )


async def _async_share(call: ServiceCall) -> ServiceResponse:
    """Share media with guests, and return the link."""
    home = _home(call.hass)
    shares = {
        _share(home, each): each for each in dict.fromkeys(call.data[ATTR_SHARES])
    }
    if None in shares:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="home_as_share"
        )
    with engine_errors(HomeAssistantError):
        try:
            items, folders = await async_resolve(home, call.data[ATTR_MEDIA_CONTENT_ID])
        except NotShareable as err:
            raise ServiceValidationError(
                translation_domain=DOMAIN,
                translation_key="not_shareable",
                translation_placeholders={"media": str(err)},
            ) from err
        folders += tuple(RoomFolder(share=str(each), path="") for each in shares)
        if not items and not folders:
            raise ServiceValidationError(
                translation_domain=DOMAIN, translation_key="nothing_to_share"
            )
        name = call.data.get(CONF_NAME) or await _room_name(home, items, folders)
    terms = await _room_terms(call, RoomTerms.new(items, folders))
    room = async_add_room(call.hass, home.entry, name, terms)
    return await _room_response(home, room)


async def _async_change_room(call: ServiceCall) -> ServiceResponse:
    """Change the terms of a room, and return its link."""
    home = _home(call.hass)
    room = _room(home, call.data[ATTR_ROOM])
    terms = await _room_terms(call, RoomTerms.of(room.data))
    call.hass.config_entries.async_update_subentry(
        home.entry,
        room,
        data=terms.as_dict(),
        title=clean_name(call.data.get(CONF_NAME, "")) or room.title,
    )
    return await _room_response(home, room)


async def _async_unshare(call: ServiceCall) -> None:
    """Remove a room. The update listener of the entry makes the engine send all guests away."""
    home = _home(call.hass)
    room = _room(home, call.data[ATTR_ROOM])
    call.hass.config_entries.async_remove_subentry(home.entry, room.subentry_id)


async def _async_disconnect_guest(call: ServiceCall) -> None:
    """Send a guest away."""
    home = _home(call.hass)
    room = _room(home, call.data[ATTR_ROOM])
    with engine_errors(HomeAssistantError):
        try:
            guest = call.data[ATTR_GUEST]
            await home.engine.client.disconnect_guest(room_id(room), guest)
        except EngineError as err:
            if not is_over(err):
                raise
            raise ServiceValidationError(
                translation_domain=DOMAIN, translation_key="no_such_guest"
            ) from err


async def _room_terms(call: ServiceCall, terms: RoomTerms) -> RoomTerms:
    """Return the terms of a room with those in an action's data. Raises ServiceValidationError."""
    data = call.data
    given = {
        key: data[key]
        for key in (CONF_DOWNLOADS, CONF_GUESTS, CONF_UPLOAD_LIMIT, CONF_NOTE)
        if key in data
    }
    if not is_rate(given.get(CONF_UPLOAD_LIMIT, NO_LIMIT)):
        raise ServiceValidationError(
            translation_domain=DOMAIN,
            translation_key="rate_too_low",
            translation_placeholders={"least": str(MIN_RATE)},
        )
    if CONF_EXPIRES in data:
        # Without a time zone, it is the local time.
        given[CONF_EXPIRES] = dt_util.as_utc(data[CONF_EXPIRES]).timestamp()
    if CONF_PASSWORD in data:
        terms = await terms.with_password(call.hass, data[CONF_PASSWORD])
    return replace(terms, **given)


async def _room_name(
    home: Home, items: tuple[str, ...], folders: tuple[RoomFolder, ...]
) -> str:
    """Return a name for a room: the title of its first item, or the name of its first folder. Raises EngineError."""
    if items:
        return (await home.engine.client.item(ItemRef(None, items[0]))).title
    folder = folders[0]
    if folder.path:
        return folder.path.rpartition("/")[2]
    shares = home.configuration.config.shares
    return next(share.name for share in shares if share.id == folder.share)


async def _room_response(home: Home, room: ConfigSubentry) -> ServiceResponse:
    """Return the link of a room, as soon as it has one. Raises HomeAssistantError without one."""
    status = await async_wait_for_link(home, room)
    if status is None or (address := link(room, status)) is None:
        raise HomeAssistantError(
            translation_domain=DOMAIN,
            translation_key="no_link",
            translation_placeholders={"error": (status and status.message) or ""},
        )
    terms = RoomTerms.of(home.entry.subentries[room.subentry_id].data)
    return {
        "room": room.subentry_id,
        "link": address,
        "qr_code": await home.hass.async_add_executor_job(qr_code, address),
        "spoken_code": spoken_code(status) if terms.password is not None else None,
        "expires": dt_util.utc_from_timestamp(terms.expires).isoformat(),
    }


def _room(home: Home, wanted: str) -> ConfigSubentry:
    """Return the room with this device id, id or name. Raises ServiceValidationError."""
    known = _identifiers(home.hass, wanted) | {wanted.strip().lower()}
    rooms = room_subentries(home.entry)
    name = wanted.strip().casefold()
    found = [room for room in rooms if room_id(room) in known] or [
        room for room in rooms if room.title.casefold() == name
    ]
    if len(found) == 1:
        return found[0]
    raise ServiceValidationError(
        translation_domain=DOMAIN,
        translation_key="ambiguous_room" if found else "no_such_room",
        translation_placeholders={"room": wanted},
    )


def _no_such_request() -> ServiceValidationError:
    return ServiceValidationError(
        translation_domain=DOMAIN, translation_key="no_such_request"
    )


def _home(hass: HomeAssistant) -> Home:
    """Return this home. Raises ServiceValidationError if it is not set up."""
    if (home := async_get_home(hass)) is None:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="not_loaded"
        )
    return home


def _friends_item(call: ServiceCall) -> ItemRef:
    """Return the friend's item in an action's data. Raises ServiceValidationError."""
    wanted: str = call.data[ATTR_MEDIA_CONTENT_ID].strip()
    ref = None
    if wanted.startswith(MEDIA_SOURCE):
        ref = ItemRef.of_node(wanted.removeprefix(MEDIA_SOURCE))
    if ref is None or ref.owner is None:
        raise ServiceValidationError(
            translation_domain=DOMAIN,
            translation_key="not_remote",
            translation_placeholders={"media": wanted},
        )
    return ref


def _home_id(call: ServiceCall) -> str:
    """Return the PeMuS ID in an action's data. Raises ServiceValidationError."""
    if (home := read_invitation(call.data[ATTR_HOME_ID])) is None:
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="bad_id"
        )
    return home


def _friend(home: Home, wanted: str) -> ConfigSubentry:
    """Return the friend with this device id, PeMuS ID or name. Raises ServiceValidationError."""
    known = _identifiers(home.hass, wanted) | {read_invitation(wanted)}
    friends = friend_subentries(home.entry)
    name = wanted.strip().casefold()
    # IDs take precedence over names: names are not unique, and a name can be the ID of another friend.
    found = [friend for friend in friends if friend.data[CONF_ID] in known] or [
        friend for friend in friends if friend.title.casefold() == name
    ]
    if len(found) == 1:
        return found[0]
    raise ServiceValidationError(
        translation_domain=DOMAIN,
        translation_key="ambiguous_friend" if found else "no_such_friend",
        translation_placeholders={"friend": wanted},
    )


def _shares(home: Home, wanted: list[str]) -> tuple[str, ...]:
    """Return the subentry ids of the shares with these device ids or names. Raises ServiceValidationError."""
    ids = {_share(home, each) for each in wanted}
    if None in ids:
        # Selecting the home's device by mistake must not grant all current and future shares.
        raise ServiceValidationError(
            translation_domain=DOMAIN, translation_key="home_as_share"
        )
    return tuple(
        share.subentry_id
        for share in share_subentries(home.entry)
        if share_id(share) in ids
    )


def _identifiers(hass: HomeAssistant, device_id: str) -> set[str | None]:
    """Return the identifiers of a device, or nothing if it does not exist."""
    device = dr.async_get(hass).async_get(device_id)
    return set() if device is None else {key for _, key in device.identifiers}


def _share(home: Home, wanted: str | None) -> str | None:
    """Return the id of the share with this device id or name, or None for all shares."""
    if wanted is None:
        return None
    known = _identifiers(home.hass, wanted)
    if home.entry.entry_id in known:
        return None
    for share in home.configuration.config.shares:
        if share.id in known or share.name.casefold() == wanted.strip().casefold():
            return share.id
    raise ServiceValidationError(
        translation_domain=DOMAIN,
        translation_key="no_such_share",
        translation_placeholders={"share": wanted},
    )


def _result(home: Home, item: Item, base: str) -> dict[str, Any]:
    """Return an item as a search result for automations."""
    addresses = Addresses.of(home.hass, item, base)
    return {
        "media_content_id": f"{MEDIA_SOURCE}{item.ref.node}",
        "media_content_type": item.content_type,
        "kind": item.kind.value,
        "title": item.title,
        "artist": item.artist,
        "album": item.album,
        "duration": item.duration,
        "friend": None if item.owner is None else friend_name(home.entry, item.owner),
        "available": item.available,
        "url": addresses.media,
        "thumbnail": addresses.thumbnail,
        "subtitles": [
            {"name": subtitle.name, "language": subtitle.language, "url": url}
            for subtitle, url in zip(item.subtitles, addresses.subtitles, strict=True)
        ],
    }
