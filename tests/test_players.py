"""Films on Google Cast devices and DLNA renderers: Home Assistant's own players, with nothing but their network played."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from async_upnp_client.client import UpnpRequester
from async_upnp_client.client_factory import UpnpFactory
from async_upnp_client.const import HttpRequest, HttpResponse
from async_upnp_client.profiles.dlna import DmrDevice
import defusedxml.ElementTree as DefusedET
from homeassistant.components.cast import _process_cast_platform
from homeassistant.components.cast.helpers import ChromecastInfo
from homeassistant.components.cast.media_player import CastMediaPlayerEntity
from homeassistant.components.dlna_dmr.media_player import DlnaDmrEntity
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.integration_platform import LazyIntegrationPlatforms
from pychromecast import Chromecast
from pychromecast.config import APP_MEDIA_RECEIVER
from pychromecast.error import NotConnected
from pychromecast.models import CastInfo
from pychromecast.socket_client import SocketClient
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator
from yarl import URL

from custom_components.pemus.p2p.models import SearchQuery
from tests.lab.engine_home import EngineHome

from .test_services import search

HERE = "http://192.168.1.2:8123"
RECEIVER = "http://192.168.1.9"
NAMES = {
    "didl": "urn:schemas-upnp-org:metadata-1-0/DIDL-Lite/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "upnp": "urn:schemas-upnp-org:metadata-1-0/upnp/",
}
DEVICE = """<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<device><deviceType>urn:schemas-upnp-org:device:MediaRenderer:1</deviceType><friendlyName>TV</friendlyName>
<manufacturer>x</manufacturer><modelName>x</modelName><UDN>uuid:tv</UDN><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:AVTransport:1</serviceType>
<serviceId>urn:upnp-org:serviceId:AVTransport</serviceId>
<SCPDURL>/avt.xml</SCPDURL><controlURL>/avt</controlURL><eventSubURL>/events</eventSubURL>
</service></serviceList></device></root>"""
SERVICE = """<scpd xmlns="urn:schemas-upnp-org:service-1-0"><specVersion><major>1</major><minor>0</minor></specVersion>
<actionList><action><name>SetAVTransportURI</name><argumentList>
<argument><name>InstanceID</name><direction>in</direction><relatedStateVariable>ID</relatedStateVariable></argument>
<argument><name>CurrentURI</name><direction>in</direction><relatedStateVariable>URI</relatedStateVariable></argument>
<argument><name>CurrentURIMetaData</name><direction>in</direction><relatedStateVariable>Meta</relatedStateVariable>
</argument></argumentList></action></actionList><serviceStateTable>
<stateVariable sendEvents="no"><name>ID</name><dataType>ui4</dataType></stateVariable>
<stateVariable sendEvents="no"><name>URI</name><dataType>string</dataType></stateVariable>
<stateVariable sendEvents="no"><name>Meta</name><dataType>string</dataType></stateVariable>
</serviceStateTable></scpd>"""
DONE = """<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>
<u:SetAVTransportURIResponse xmlns:u="urn:schemas-upnp-org:service:AVTransport:1"/></s:Body></s:Envelope>"""


class Television(UpnpRequester):
    """The network as far as a television in it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def async_http_request(self, http_request: HttpRequest) -> HttpResponse:
        if http_request.method == "POST":
            assert http_request.body is not None
            self.told.append(http_request.body)
            return HttpResponse(200, {}, DONE)
        assert http_request.url.startswith(RECEIVER), "it is to be told, not found out"
        is_service = http_request.url.endswith("avt.xml")
        return HttpResponse(200, {}, SERVICE if is_service else DEVICE)

    def arguments(self) -> dict[str, str]:
        """Return what it was told the last time."""
        (action,) = DefusedET.fromstring(self.told[-1])[0]
        return {each.tag: each.text for each in action}


@pytest.fixture(autouse=True)
async def address(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    """Let Home Assistant know where it is."""
    await hass.config.async_update(internal_url=HERE)


async def on_television(hass: HomeAssistant, media_id: str) -> dict[str, str]:
    """Play something on a renderer; return what the renderer was told."""
    television = Television()
    device = await UpnpFactory(television).async_create_device(f"{RECEIVER}/tv.xml")
    known = er.async_get(hass).async_get_or_create("media_player", "dlna_dmr", "tv")
    player = DlnaDmrEntity(
        udn="uuid:tv",
        device_type=device.device_type,
        name="TV",
        event_port=0,
        event_callback_url=None,
        poll_availability=False,
        location=device.device_url,
        mac_address=None,
        browse_unfiltered=False,
        config_entry=MockConfigEntry(domain="dlna_dmr"),
    )
    player.hass, player.entity_id = hass, known.entity_id
    player._device = DmrDevice(device, None)
    await player.async_play_media("video/mp4", media_id, extra={"autoplay": False})
    return television.arguments()


async def on_chromecast(
    hass: HomeAssistant, media_id: str, error: Exception | None = None
) -> dict[str, Any]:
    """Play something on a Chromecast; return what was sent to it."""
    info = CastInfo(
        set(), uuid4(), "Chromecast", "TV", "192.168.1.9", 8009, "cast", "Google"
    )
    chromecast = Chromecast(info)
    chromecast.socket_client.app_namespaces = ["urn:x-cast:com.google.cast.media"]
    chromecast.socket_client.destination_id = "receiver"
    receiver = chromecast.socket_client.receiver_controller
    receiver.status = SimpleNamespace(app_id=APP_MEDIA_RECEIVER)
    entry = MockConfigEntry(domain="cast")
    entry.runtime_data = SimpleNamespace(
        cast_platforms=LazyIntegrationPlatforms(hass, "cast", _process_cast_platform)
    )
    player = CastMediaPlayerEntity(hass, entry, ChromecastInfo(info))
    player.hass, player.entity_id = hass, "media_player.cast"
    player._chromecast = chromecast
    sent: list[dict[str, Any]] = []

    def send(
        _: SocketClient,
        destination: str,
        namespace: str,
        message: Any,
        *,
        callback_function: Any,
        **_options: Any,
    ) -> None:
        if error is not None:
            raise error
        sent.append(message)
        callback_function(True, {})

    try:
        with patch.object(SocketClient, "send_message", send):
            await player.async_play_media("video/mp4", media_id)
    finally:
        for end in chromecast.socket_client.socketpair:
            end.close()
    (message,) = sent
    return message["media"]


async def opened(client: Any, address: str) -> tuple[str, bytes]:
    """Open an address as a player does: without a login; return the type and the bytes."""
    url = URL(address)
    assert str(url.origin()) == HERE
    response = await client.get(url.relative())
    assert response.status == 200, address
    return response.content_type, await response.read()


async def test_a_found_item_has_addresses_that_anything_can_open(
    hass: HomeAssistant, media: Path, hass_client_no_auth: ClientSessionGenerator
) -> None:
    client = await hass_client_no_auth()

    (film,) = await search(hass, query="ocean")

    original = (media / "films" / "Ocean.mp4").read_bytes()
    assert await opened(client, film["url"]) == ("video/mp4", original)
    assert (await opened(client, film["thumbnail"]))[0] == "image/jpeg"
    (subtitles,) = film["subtitles"]
    kind, words = await opened(client, subtitles["url"])
    assert kind == "text/vtt"
    assert b"The sea." in words


async def test_a_renderer_shows_title_and_picture_of_a_film(
    hass: HomeAssistant, media: Path, hass_client_no_auth: ClientSessionGenerator
) -> None:
    client = await hass_client_no_auth()
    (film,) = await search(hass, query="ocean")

    told = await on_television(hass, film["media_content_id"])

    (item,) = DefusedET.fromstring(told["CurrentURIMetaData"])
    assert item.findtext("dc:title", namespaces=NAMES) == "Ocean"
    assert item.findtext("upnp:class", namespaces=NAMES).startswith(
        "object.item.videoItem"
    )
    picture = item.findtext("upnp:albumArtURI", namespaces=NAMES)
    assert (await opened(client, picture))[0] == "image/jpeg"
    resource = item.find("didl:res", NAMES)
    # Some renderers play what the description says, others what they are given.
    assert resource.text == told["CurrentURI"]
    assert (await opened(client, resource.text))[0] == "video/mp4"
    assert resource.get("protocolInfo").startswith("http-get:*:video/mp4:DLNA.ORG_OP=")
    assert resource.get("duration").startswith("0:00:01.")
    assert int(resource.get("size")) == (media / "films" / "Ocean.mp4").stat().st_size


async def test_a_renderer_shows_who_sings(hass: HomeAssistant, media: Path) -> None:
    (song,) = await search(hass, query="dawn")

    told = await on_television(hass, song["media_content_id"])

    (item,) = DefusedET.fromstring(told["CurrentURIMetaData"])
    shown = {
        field: item.findtext(f"upnp:{field}", namespaces=NAMES)
        for field in ("class", "artist", "album")
    }
    assert shown == {
        "class": "object.item.audioItem.musicTrack",
        "artist": "Ada Moll",
        "album": "Daylight",
    }


async def test_a_chromecast_shows_title_picture_and_subtitles_and_can_seek(
    hass: HomeAssistant, media: Path, hass_client_no_auth: ClientSessionGenerator
) -> None:
    client = await hass_client_no_auth()
    (film,) = await search(hass, query="ocean")

    for media_id in (film["media_content_id"], film["url"]):
        cast = await on_chromecast(hass, media_id)

        assert cast["streamType"] == "BUFFERED"
        assert cast["contentType"] == "video/mp4"
        assert (await opened(client, cast["contentId"]))[0] == "video/mp4"
        assert cast["metadata"]["title"] == "Ocean"
        (image,) = cast["metadata"]["images"]
        assert (await opened(client, image["url"]))[0] == "image/jpeg"
        (track,) = cast["tracks"]
        assert (track["language"], track["type"]) == ("en", "TEXT")
        assert b"The sea." in (await opened(client, track["trackContentId"]))[1]


async def test_a_chromecast_shows_who_sings(hass: HomeAssistant, media: Path) -> None:
    (song,) = await search(hass, query="dawn")

    cast = await on_chromecast(hass, song["media_content_id"])

    assert cast["metadata"] == {
        "metadataType": 3,
        "title": "Dawn",
        "artist": "Ada Moll",
        "albumName": "Daylight",
    }


async def test_a_chromecast_that_does_not_answer_is_said_to(
    hass: HomeAssistant, media: Path
) -> None:
    (film,) = await search(hass, query="ocean")
    with pytest.raises(HomeAssistantError) as caught:
        await on_chromecast(hass, film["media_content_id"], NotConnected("it is off"))
    assert caught.value.translation_key == "cast_failed"
    assert "it is off" in str(caught.value)


@pytest.mark.parametrize(
    "media_id",
    [
        "http://elsewhere.example/api/pemus/stream/aaaaaaaaaaaaaaaaaaaaaaaaaa.mp4",
        "http://[broken",
        "/api/pemus/stream/short.mp4",
        # Nothing is known of it, but it is not for PeMuS to say that it does not play.
        "/api/pemus/stream/aaaaaaaaaaaaaaaaaaaaaaaaaa.mp4",
    ],
)
async def test_what_is_not_of_this_home_is_cast_as_ever(
    hass: HomeAssistant, entry: MockConfigEntry, media_id: str
) -> None:
    if media_id == "http://[broken":
        with pytest.raises(ValueError):
            await on_chromecast(hass, media_id)
        return
    cast = await on_chromecast(hass, media_id)
    assert cast["streamType"] == "LIVE"
    assert media_id in cast["contentId"]


async def test_what_a_ticket_is_for_has_a_title_too(
    hass: HomeAssistant, entry: MockConfigEntry, neighbour: EngineHome
) -> None:
    client = entry.runtime_data.engine.client
    query = SearchQuery(text="Ocean", below=f"home/{neighbour.id}")
    (ocean,) = (await client.search(query)).items
    media_id = f"media-source://pemus/{ocean.ref.node}"

    cast = await on_chromecast(hass, media_id)
    told = await on_television(hass, media_id)

    assert cast["metadata"]["title"] == "Ocean"
    assert cast["streamType"] == "BUFFERED"
    (item,) = DefusedET.fromstring(told["CurrentURIMetaData"])
    assert item.findtext("dc:title", namespaces=NAMES) == "Ocean"
