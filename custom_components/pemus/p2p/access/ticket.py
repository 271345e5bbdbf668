"""A ticket: all that one home needs to fetch one item of another, and for how long.

The owner makes it for one receiver, who must keep it to itself: the metainfo in it is the key to the file. It travels
over an authenticated channel, yet what is in it comes from somebody else's engine, so `read` checks all of it before
anything is done with it. Sizes are bytes, times seconds since the Unix epoch.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import dataclass
from ipaddress import ip_address
import re
from typing import Final

from ..core.sanitize import is_media_type, is_shown, shown
from ..models import Item, Kind
from ..models.codec import DecodeError, decode, encode
from ..models.homes import is_home
from ..models.items import is_item
from ..torrent import metainfo
from ..torrent.metainfo import BadMetainfo, Metainfo
from . import endpoints as addresses

MAX_TICKET: Final = 12 * 1024 * 1024
"""Bytes of a ticket: enough for the longest metainfo, in base64, and what goes with it."""
MAX_ENDPOINTS: Final = 16
MAX_SIZE: Final = 2**50
"""Bytes of an item that a ticket may be for."""
LATEST: Final = 2.0**33
"""No moment in a ticket is later than this: beyond it, times would no longer be moments of a calendar."""
FIRST_PORT: Final = 1024
"""Engines listen on ports from here on. Lower ones belong to other services, which nobody may point this home at."""

# Tags of HTTP without what would need care in a header or a file's name (RFC 9110 section 8.8.3).
_ETAG: Final = re.compile(r'"[!#-~]{1,128}"')
_MAX_NAME: Final = 255
_MAX_TEXT: Final = 1000
_MAX_DURATION: Final = 10 * 366 * 86400.0
_MAX_BIT_RATE: Final = 2**40


class BadTicket(ValueError):
    """The ticket is not one that an engine makes. The message says why, and is fit to be shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemFacts:
    """What a receiver is told of an item. What is not known is None."""

    id: str
    kind: Kind
    name: str
    """File name with its extension, for showing and for naming a download; no file on disk is called this."""
    title: str
    content_type: str
    size: int
    etag: str
    """Strong entity tag with its quotes (RFC 9110 section 8.8.3)."""
    modified: float
    duration: float | None = None
    """Seconds."""
    bit_rate: int | None = None
    """Bits per second."""

    @classmethod
    def of(cls, item: Item, *, size: int, etag: str, modified: float) -> ItemFacts:
        """Describe an item, whose file is of this size, version and time at present."""
        return cls(
            id=item.id,
            kind=item.kind,
            name=shown(item.name, _MAX_NAME).replace("/", "_") or "_",
            title=shown(item.title, _MAX_TEXT),
            content_type=item.content_type,
            size=size,
            etag=etag,
            modified=min(max(modified, 0.0), LATEST),
            duration=_within(item.duration, _MAX_DURATION),
            bit_rate=_within(item.bit_rate, _MAX_BIT_RATE),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The right of one home to fetch one item of another."""

    owner: str
    """Id of the home that has the item."""
    owner_name: str
    receiver: str
    """Id of the home that the ticket is for."""
    item: ItemFacts
    torrent: str | None
    """The metainfo file in base64; None as long as the item is not hashed, and for an empty one."""
    endpoints: tuple[str, ...]
    """Where the owner's engine may be reached by TCP: "host:port", the host being an IP address, in brackets if it is
    one of IPv6. There may be none."""
    expires: float
    """From when on the owner serves nothing for this ticket."""
    link_only: bool = False
    """Whether there will be no torrent: the item comes over the link alone."""

    def is_live(self, now: float) -> bool:
        """Tell whether the ticket has not expired."""
        return now < self.expires

    def metainfo(self) -> Metainfo | None:
        """Return the description of the torrent, checked against the item's facts. Raises BadTicket."""
        if self.torrent is None:
            return None
        try:
            return metainfo.read(b64decode(self.torrent, validate=True), self.item.size)
        except BadMetainfo as err:
            raise BadTicket(f"its metainfo cannot be used: {err}") from None
        except ValueError:
            raise BadTicket("its metainfo is not base64") from None

    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Return IP address and port of each endpoint. Raises BadTicket."""
        return tuple((str(host), port) for host, port in map(_address, self.endpoints))

    def encode(self) -> bytes:
        """Return the ticket as JSON."""
        return encode(self)


def armored(meta: Metainfo) -> str:
    """Return the metainfo as a ticket holds it."""
    return b64encode(meta.encode()).decode()


def endpoint(host: str, port: int) -> str:
    """Return an IP address and a port as a ticket holds them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_elsewhere(endpoint: str) -> bool:
    """Tell whether an endpoint may be that of an engine on another machine. Raises BadTicket."""
    return addresses.is_elsewhere(_address(endpoint)[0])


def read(payload: bytes | str, *, kept: bool = False) -> Ticket:
    """Return the ticket that somebody sent.

    With `kept` it comes from this home itself, where tests have engines on one machine: endpoints of this machine are taken, too.

    Raises:
        BadTicket: it is none, or something in it is not as an engine makes it.

    """
    if len(payload) > MAX_TICKET:
        raise BadTicket("it is too long")
    try:
        ticket = decode(Ticket, payload)
    except (DecodeError, RecursionError) as err:
        raise BadTicket(str(err)) from None
    for name, home in (("owner", ticket.owner), ("receiver", ticket.receiver)):
        if not is_home(home):
            raise BadTicket(f"its {name} is not a home")
    if not is_shown(ticket.owner_name, _MAX_NAME):
        raise BadTicket("its owner's name cannot be shown")
    if not 0 < ticket.expires <= LATEST:
        raise BadTicket("its end is not a moment")
    _check_facts(ticket.item)
    if len(ticket.endpoints) > MAX_ENDPOINTS:
        raise BadTicket("it has too many endpoints")
    for host, _ in map(_address, ticket.endpoints):
        if not (addresses.is_elsewhere(host) or (kept and addresses.is_own(host))):
            raise BadTicket("one of its endpoints is not of a home elsewhere")
    ticket.metainfo()
    return ticket


def _check_facts(item: ItemFacts) -> None:
    if not is_item(item.id):
        raise BadTicket("its item has no id")
    if not item.name or "/" in item.name or not is_shown(item.name, _MAX_NAME):
        raise BadTicket("its item's name is not one of a file")
    if not is_shown(item.title, _MAX_TEXT):
        raise BadTicket("its item's title cannot be shown")
    if not is_media_type(item.content_type):
        raise BadTicket("its item is not of a type that is shared")
    if not 0 <= item.size <= MAX_SIZE:
        raise BadTicket("its item's size is out of bounds")
    if not _ETAG.fullmatch(item.etag):
        raise BadTicket("its item's entity tag is not one")
    if not 0 <= item.modified <= LATEST:
        raise BadTicket("its item's time is not a moment")
    if item.duration is not None and not 0 <= item.duration <= _MAX_DURATION:
        raise BadTicket("its item's duration is out of bounds")
    if item.bit_rate is not None and not 0 <= item.bit_rate <= _MAX_BIT_RATE:
        raise BadTicket("its item's bit rate is out of bounds")


def _address(text: str) -> tuple[addresses.Address, int]:
    host, colon, digits = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        raise BadTicket("one of its endpoints is not an IP address") from None
    if not colon or bracketed != (address.version == 6):
        raise BadTicket("one of its endpoints is not an IP address and a port")
    if not re.fullmatch(r"[0-9]{4,5}", digits) or not (
        FIRST_PORT <= int(digits) < 2**16
    ):
        raise BadTicket("one of its endpoints has a port that engines do not use")
    return address, int(digits)


def _within[N: (int, float)](number: N | None, most: N) -> N | None:
    return number if number is not None and 0 <= number <= most else None
