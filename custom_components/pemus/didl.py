"""Metadata for DLNA renderers: title, picture, artist, and duration.

The integration `dlna_dmr` reads `didl_metadata` from the resolved media and sends it as DIDL-Lite (UPnP
ContentDirectory:4, appendix B). PeMuS builds the XML itself instead of using the library didl-lite: its videos have
no picture, its resources have no duration, and it is installed only together with `dlna_dmr`.
"""

from dataclasses import dataclass
import re
from typing import Final
from xml.etree import ElementTree as ET

from homeassistant.components.media_source import PlayMedia

from .p2p.models import Item, Kind
from .stream.dlna import content_features

_CLASSES: Final = {
    Kind.VIDEO: "object.item.videoItem.movie",
    Kind.MUSIC: "object.item.audioItem.musicTrack",
    Kind.PHOTO: "object.item.imageItem.photo",
}
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 does not allow, not even escaped (section 2.2)."""


@dataclass(frozen=True, slots=True)
class DidlItem:
    """An item as DIDL-Lite. Uses the namespace prefixes that `didl_lite.to_xml_string` declares."""

    item: Item
    url: str
    """The address that the renderer plays. It must be identical to the URL that the renderer receives."""
    picture: str | None

    @property
    def title(self) -> str:
        """The title that the renderer shows."""
        return _text(self.item.title)

    def to_xml(self) -> ET.Element:
        """Return the element."""
        item = self.item
        element = ET.Element("item", {"id": "0", "parentID": "-1", "restricted": "1"})
        for tag, value in (
            ("dc:title", item.title),
            ("upnp:class", _CLASSES[item.kind]),
            ("dc:creator", item.artist),
            ("upnp:artist", item.artist),
            ("upnp:album", item.album),
            ("upnp:genre", item.genre),
            ("upnp:originalTrackNumber", item.track),
            ("dc:date", _date(item)),
            ("upnp:albumArtURI", self.picture),
        ):
            if value is not None:
                ET.SubElement(element, tag).text = _text(str(value))
        features = content_features(is_image=item.kind is Kind.PHOTO)
        attributes = {
            "protocolInfo": f"http-get:*:{_text(item.content_type)}:{features}",
            "size": str(item.size),
        }
        if item.duration is not None:
            attributes["duration"] = _length(item.duration)
        if item.width and item.height:
            attributes["resolution"] = f"{item.width}x{item.height}"
        ET.SubElement(element, "res", attributes).text = self.url
        return element


@dataclass(slots=True, kw_only=True)
class DidlPlayMedia(PlayMedia):
    """Playable media with metadata for DLNA renderers."""

    didl_metadata: DidlItem


def _date(item: Item) -> str | None:
    """Return the date of a photo, or the year of any other item."""
    if item.taken is not None:
        return item.taken.partition("T")[0]
    return None if item.year is None else f"{item.year:04}-01-01"


def _length(seconds: float) -> str:
    """Return a duration as `H:MM:SS.mmm`."""
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{milliseconds / 1000:06.3f}"


def _text(text: str) -> str:
    return _NO_XML.sub("", text)
