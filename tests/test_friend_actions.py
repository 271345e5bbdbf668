"""The actions about friends."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from homeassistant.components.media_player import DOMAIN as MEDIA_PLAYER
from homeassistant.core import Context, HomeAssistant, ServiceCall
from homeassistant.exceptions import (
    HomeAssistantError,
    ServiceValidationError,
    Unauthorized,
)
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.selector import DeviceSelector
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser
import voluptuous as vol
import yaml

from custom_components.pemus import const
from custom_components.pemus.const import CONF_TERMS, DOMAIN
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.friends.terms import find_friend
from custom_components.pemus.p2p.models import (
    ErrorKey,
    Item,
    Kind,
    SearchQuery,
    SearchResult,
)
from custom_components.pemus.p2p.models.homes import (
    PairingAnswer,
    PairingQuery,
    PairingState,
)
from custom_components.pemus.p2p.models.pemus_id import grouped

from .household import ADA, BEN, HOME_ID, Stage, befriend, request, share

INTEGRATION = Path(const.__file__).parent
FILM = "f" * 26
SONG = "g" * 26


@pytest.fixture
def entry(staged_entry: MockConfigEntry) -> MockConfigEntry:
    """Do without a real engine: the stage says what happens."""
    return staged_entry


async def act(
    hass: HomeAssistant, action: str, context: Context | None = None, **data: Any
) -> None:
    """Call an action of PeMuS."""
    await hass.services.async_call(DOMAIN, action, data, blocking=True, context=context)


def device_of(hass: HomeAssistant, entry: MockConfigEntry, key: str) -> str:
    """Return the id of a device."""
    device = dr.async_get(hass).async_get_device_by_identifier(
        (DOMAIN, key), entry.entry_id
    )
    return device.id


def item(item_id: str, content_type: str = "video/mp4", **facts: Any) -> Item:
    """Return an item as a search finds it."""
    return Item(
        **{
            "id": item_id,
            "share": "films",
            "kind": Kind.VIDEO,
            "name": "a.mp4",
            "title": "A",
            "folder": "",
            "content_type": content_type,
            "size": 1,
            "modified": 0.0,
            "added": 0.0,
            "available": True,
            "etag": '"1"',
            **facts,
        }
    )


@pytest.fixture
def played(hass: HomeAssistant) -> Sequence[ServiceCall]:
    """Catch what media players are told to play."""
    calls: list[ServiceCall] = []
    hass.services.async_register(MEDIA_PLAYER, "play_media", calls.append)
    return calls


async def test_a_friend_is_requested_with_what_it_may_see(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, tmp_path: Any
) -> None:
    shares = []
    for name in ("Films", "Songs", "Photos"):
        (tmp_path / name).mkdir()
        shares.append(share(hass, entry, tmp_path / name, name))
    await hass.async_block_till_done()
    films, songs, _ = (each.subentry_id for each in shares)

    await act(
        hass,
        "request_friend",
        home_id=f" {grouped(ADA).lower()}",
        shares=["films", device_of(hass, entry, songs.lower())],
    )

    assert stage.said("request_pairing") == [PairingQuery(home=ADA, trusted=True)]
    assert entry.data[CONF_TERMS][ADA]["shares"] == [films, songs]
    # A home is no folder: nobody grants everything by a slip.
    for action, data in (
        ("request_friend", {"home_id": f"pemus:{BEN}"}),
        ("answer_request", {"home_id": ADA, "accept": True}),
    ):
        shared = device_of(hass, entry, entry.entry_id)
        with pytest.raises(ServiceValidationError) as caught:
            await act(hass, action, shares=["films", shared], **data)
        assert caught.value.translation_key == "home_as_share"
    assert stage.said("answer_pairing") == []
    assert BEN not in entry.data[CONF_TERMS]
    await act(hass, "request_friend", home_id=f"pemus:{BEN}")
    assert entry.data[CONF_TERMS][BEN]["shares"] == []


async def test_a_request_is_answered(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, tmp_path: Any
) -> None:
    films = share(hass, entry, tmp_path, "Films")
    stage.push(request(), request(BEN))

    await act(hass, "answer_request", home_id=ADA, accept=True, shares="Films")
    await act(hass, "answer_request", home_id=BEN, accept=False, block=True)

    assert stage.asked[-2:] == [
        ("answer_pairing", ADA, PairingAnswer(accept=True, words=request().words)),
        ("answer_pairing", BEN, PairingAnswer(accept=False, block=True)),
    ]
    assert entry.data[CONF_TERMS].keys() == {ADA}
    assert entry.data[CONF_TERMS][ADA]["shares"] == [films.subentry_id]


async def test_what_nobody_asked_is_not_answered(
    hass: HomeAssistant, stage: Stage
) -> None:
    stage.push(request(BEN))
    for accept in (True, False):
        with pytest.raises(ServiceValidationError) as caught:
            await act(hass, "answer_request", home_id=ADA, accept=accept)
        assert caught.value.translation_key == "no_such_request"
    assert stage.said("answer_pairing") == []


async def test_a_request_that_is_over_is_said_to_be_over(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    befriend(hass, entry, BEN)
    stage.push(
        request(state=PairingState.DENIED),
        request(BEN, state=PairingState.PAIRED),
        request(HOME_ID, state=PairingState.EXPIRED),
    )
    for home in (ADA, BEN, HOME_ID):
        for accept in (True, False):
            with pytest.raises(ServiceValidationError) as caught:
                await act(hass, "answer_request", home_id=home, accept=accept)
            assert caught.value.translation_key == "no_such_request"
    assert stage.said("answer_pairing") == []

    # It ended just now.
    stage.push(request())
    stage.error = EngineError(ErrorKey.NOT_FOUND, "there is no such request")
    for accept in (True, False):
        with pytest.raises(ServiceValidationError) as caught:
            await act(hass, "answer_request", home_id=ADA, accept=accept)
        assert caught.value.translation_key == "no_such_request"
    assert CONF_TERMS not in entry.data


async def test_an_action_offers_the_devices_that_it_takes(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, tmp_path: Any
) -> None:
    films = share(hass, entry, tmp_path, "Films")
    befriend(hass, entry)
    await hass.async_block_till_done()
    services = yaml.safe_load((INTEGRATION / "services.yaml").read_text())

    def devices(service: str, field: str) -> set[str]:
        selector = services[service]["fields"][field]["selector"]["device"]
        DeviceSelector(selector)
        (only,) = selector["filter"]
        return {
            device.id
            for device in dr.async_get(hass).devices
            if device.model == only["model"]
        }

    folders = {device_of(hass, entry, films.subentry_id.lower())}
    for service in ("request_friend", "answer_request"):
        assert devices(service, "shares") == folders
    for service in ("rescan", "search"):
        assert devices(service, "share") == folders
    friends = {device_of(hass, entry, ADA)}
    for service in ("play_from_friend", "remove_friend"):
        assert devices(service, "friend") == friends


@pytest.mark.parametrize("wanted", ["", "Ada", ADA[:-1], f"{ADA}x", "x" * 10_000])
async def test_what_is_no_id_is_refused(
    hass: HomeAssistant, stage: Stage, wanted: str
) -> None:
    for action, data in (("request_friend", {}), ("answer_request", {"accept": True})):
        with pytest.raises(ServiceValidationError) as caught:
            await act(hass, action, home_id=wanted, **data)
        assert caught.value.translation_key == "bad_id"
    assert stage.said("request_pairing") == []


async def test_what_makes_no_sense_is_refused(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.push(request())
    for action, data in (
        ("request_friend", {}),
        ("request_friend", {"home_id": ADA, "more": 1}),
        ("answer_request", {"home_id": ADA}),
        ("answer_request", {"home_id": ADA, "accept": "perhaps"}),
        ("remove_friend", {}),
        ("play_from_friend", {"friend": "Ada", "query": "x"}),
        ("play_from_friend", {"entity_id": "media_player.tv", "friend": "Ada"}),
        (
            "play_from_friend",
            {
                "entity_id": "media_player.tv",
                "friend": "Ada",
                "query": "x",
                "kinds": ["book"],
            },
        ),
    ):
        with pytest.raises(vol.Invalid):
            await act(hass, action, **data)
    with pytest.raises(ServiceValidationError) as caught:
        await act(hass, "request_friend", home_id=ADA, shares=["Nothing"])
    assert caught.value.translation_key == "no_such_share"
    assert stage.said("request_pairing") == stage.said("answer_pairing") == []


@pytest.mark.parametrize(
    ("failure", "key"),
    [
        (EngineUnavailable("it is gone"), "engine_unavailable"),
        (EngineError(ErrorKey.BUSY, "too many"), "engine_busy"),
        (EngineError(ErrorKey.BAD_REQUEST, "no words yet"), "engine_error"),
    ],
)
async def test_an_action_says_why_nothing_came_of_it(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    failure: Exception,
    key: str,
) -> None:
    befriend(hass, entry, BEN, name="Ben")
    stage.push(request())
    stage.error = failure

    async def search(query: SearchQuery) -> SearchResult:
        raise failure

    stage.coordinator.engine.client.search = search
    for action, data in (
        ("request_friend", {"home_id": ADA}),
        ("answer_request", {"home_id": ADA, "accept": True}),
        ("answer_request", {"home_id": ADA, "accept": False}),
        (
            "play_from_friend",
            {"entity_id": "media_player.tv", "friend": "Ben", "query": "x"},
        ),
    ):
        with pytest.raises(HomeAssistantError) as caught:
            await act(hass, action, **data)
        assert caught.value.translation_key == key
    assert CONF_TERMS not in entry.data


@pytest.mark.parametrize("by", ["name", "id", "device"])
async def test_a_friend_is_removed_by_whatever_names_it(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, by: str
) -> None:
    befriend(hass, entry, name="Ada")
    befriend(hass, entry, BEN, name="Ben")
    await hass.async_block_till_done()
    wanted = {
        "name": " aDA ",
        "id": grouped(ADA).lower(),
        "device": device_of(hass, entry, ADA),
    }[by]

    await act(hass, "remove_friend", friend=wanted)
    await hass.async_block_till_done()

    assert find_friend(entry, ADA) is None
    assert find_friend(entry, BEN) is not None
    (left,) = stage.coordinator.engine._config.friends
    assert left.id == BEN
    with pytest.raises(ServiceValidationError) as caught:
        await act(hass, "remove_friend", friend=grouped(ADA))
    assert caught.value.translation_key == "no_such_friend"


@pytest.mark.parametrize("action", ["remove_friend", "play_from_friend", "search"])
async def test_a_name_that_two_friends_have_names_neither(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    played: Sequence[ServiceCall],
    action: str,
) -> None:
    befriend(hass, entry, name="Anna")
    befriend(hass, entry, BEN, name="anna")
    more: dict[str, Any] = {
        "remove_friend": {},
        "play_from_friend": {"query": "x", "entity_id": "media_player.tv"},
        "search": {"query": "x"},
    }[action]

    with pytest.raises(ServiceValidationError) as caught:
        await hass.services.async_call(
            DOMAIN,
            action,
            {"friend": " Anna", **more},
            blocking=True,
            return_response=action == "search",
        )

    assert caught.value.translation_key == "ambiguous_friend"
    assert find_friend(entry, ADA) and find_friend(entry, BEN)
    await act(hass, "remove_friend", friend=grouped(BEN))
    assert find_friend(entry, ADA) and find_friend(entry, BEN) is None
    await act(hass, "remove_friend", friend="anna")
    assert find_friend(entry, ADA) is None


async def test_a_friend_that_calls_itself_by_anothers_id_is_not_taken_for_it(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    befriend(hass, entry, name=BEN)
    befriend(hass, entry, BEN, name="Ben")

    await act(hass, "remove_friend", friend=BEN)

    assert find_friend(entry, ADA) and find_friend(entry, BEN) is None


async def test_only_administrators_choose_friends(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    hass_read_only_user: MockUser,
    hass_admin_user: MockUser,
) -> None:
    befriend(hass, entry, BEN, name="Ben")
    stage.push(request())
    guest = Context(user_id=hass_read_only_user.id)
    actions: tuple[tuple[str, dict[str, Any]], ...] = (
        ("request_friend", {"home_id": ADA}),
        ("answer_request", {"home_id": ADA, "accept": True}),
        ("remove_friend", {"friend": "Ben"}),
    )
    for action, data in actions:
        with pytest.raises(Unauthorized):
            await act(hass, action, guest, **data)
    assert stage.said("request_pairing") == stage.said("answer_pairing") == []
    assert find_friend(entry, BEN) is not None
    admin = Context(user_id=hass_admin_user.id)
    for action, data in actions:
        await act(hass, action, admin, **data)


async def test_the_best_that_can_be_had_is_played(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    stage: Stage,
    played: Sequence[ServiceCall],
) -> None:
    befriend(hass, entry, name="Ada")
    asked = []
    found: list[Item] = [
        item(SONG, available=False, owner=ADA),
        item(FILM, owner=ADA),
    ]

    async def search(query: SearchQuery) -> SearchResult:
        asked.append(query)
        return SearchResult(items=tuple(found), nodes=())

    stage.coordinator.engine.client.search = search
    target = {"entity_id": ["media_player.tv", "media_player.radio"]}
    context = Context()
    await act(
        hass,
        "play_from_friend",
        context,
        **target,
        friend="Ada",
        query=" sea ",
        kinds=["video", "music"],
    )

    assert asked[0].text == "sea"
    assert asked[0].below == f"home/{ADA}"
    assert asked[0].kinds == (Kind.VIDEO, Kind.MUSIC)
    (call,) = played
    assert call.data == {
        **target,
        "media_content_id": f"media-source://pemus/home/{ADA}/{FILM}",
        "media_content_type": "video/mp4",
    }
    # Whether this user may use the player is for Home Assistant to say.
    assert call.context is context

    found[:] = [item(SONG, available=False, owner=ADA)]
    with pytest.raises(ServiceValidationError) as caught:
        await act(hass, "play_from_friend", **target, friend="Ada", query="sea")
    assert caught.value.translation_key == "friend_offline"
    found.clear()
    with pytest.raises(ServiceValidationError) as caught:
        await act(hass, "play_from_friend", **target, friend="Ada", query="sea")
    assert caught.value.translation_key == "nothing_found"
    with pytest.raises(ServiceValidationError) as caught:
        await act(hass, "play_from_friend", **target, friend="Ben", query="sea")
    assert caught.value.translation_key == "no_such_friend"
    assert len(played) == 1


async def test_everything_says_when_the_home_is_not_set_up(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    await hass.config_entries.async_unload(entry.entry_id)
    for action, data in (
        ("request_friend", {"home_id": ADA}),
        ("answer_request", {"home_id": ADA, "accept": True}),
        ("remove_friend", {"friend": "Ada"}),
        (
            "play_from_friend",
            {"entity_id": "media_player.tv", "friend": "Ada", "query": "x"},
        ),
    ):
        with pytest.raises(ServiceValidationError) as caught:
            await act(hass, action, **data)
        assert caught.value.translation_key == "not_loaded"
