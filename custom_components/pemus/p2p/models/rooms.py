"""Rooms: what this home shares with guests, who open a link in a browser.

Sizes are bytes, times are seconds since the Unix epoch, durations are seconds, unless a name says otherwise.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
import binascii
from dataclasses import dataclass
from enum import StrEnum
from hashlib import scrypt
import hmac
import secrets
from typing import Final, Literal, Self

from .homes import PathKind

SECRET_SIZE: Final = 16
"""Bytes of the secret that a link carries behind `#`."""
MAX_FILES: Final = 2000
"""Files of a room that guests see."""
MAX_TITLE: Final = 100
"""Characters of a room's name."""
MAX_NOTE: Final = 1000
"""Characters of a room's note."""
DEFAULT_GUESTS: Final = 3
"""Guests that a room serves at a time, unless the user chose otherwise."""
MAX_GUESTS: Final = 50
MAX_PASSWORD: Final = 256
"""Characters of a password."""

_N: Final = 2**14
_R: Final = 8
"""scrypt's costs: 16 MiB and about 50 ms for each key."""
_SALT_SIZE: Final = 16
_KEY_SIZE: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomFolder:
    """A folder of which everything below is in the room, also what is added later."""

    share: str
    path: str
    """Path inside the share, "/" between names, "" for the whole share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomPassword:
    """A password as scrypt keeps it (RFC 7914)."""

    salt: str
    """base64url."""
    key: str
    """base64url."""

    @classmethod
    def of(cls, password: str) -> Self:
        """Return what is kept of a password. Takes about 50 ms."""
        salt = secrets.token_bytes(_SALT_SIZE)
        return cls(salt=_text(salt), key=_text(_key(password, salt)))

    def is_right(self, password: str) -> bool:
        """Tell whether this was made of a password. Takes about 50 ms."""
        try:
            salt, key = urlsafe_b64decode(self.salt), urlsafe_b64decode(self.key)
        except (binascii.Error, ValueError):
            return False
        return len(password) <= MAX_PASSWORD and hmac.compare_digest(
            key, _key(password, salt)
        )


def new_secret() -> str:
    """Return a new secret for a link, as base64url without padding."""
    return secrets.token_urlsafe(SECRET_SIZE)


def _key(password: str, salt: bytes) -> bytes:
    return scrypt(
        password.encode(errors="replace"), salt=salt, n=_N, r=_R, p=1, dklen=_KEY_SIZE
    )


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomConfig:
    """A room as the user configured it."""

    id: str
    """Opaque and stable. Never a PeMuS ID."""
    name: str
    items: tuple[str, ...] = ()
    folders: tuple[RoomFolder, ...] = ()
    secret: str
    """base64url of SECRET_SIZE random bytes."""
    password: RoomPassword | None = None
    expires: float
    downloads: int = 0
    """Completed downloads after which the room is used up; 0 for no limit."""
    upload_limit: int = 0
    """Bytes per second for all guests of the room together; 0 for none."""
    guests: int = DEFAULT_GUESTS
    """Guests that are served at a time. Others wait in a queue."""
    note: str = ""


class RoomState(StrEnum):
    """Whether guests can come."""

    OPENING = "opening"
    """No signalling server has given it a link yet."""
    OPEN = "open"
    AWAY = "away"
    """Its link is known, but its server is not connected at present."""
    CHANGED = "changed"
    """Nothing of what it shares is there any more."""
    USED_UP = "used_up"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomStatus:
    """The present state of a room."""

    id: str
    state: RoomState
    link: str | None = None
    """The address that guests open, without the secret. None until a server has given one."""
    guests: int = 0
    """Guests that are connected."""
    served: int = 0
    """Guests that are being served."""
    waiting: int = 0
    """Guests in the queue."""
    upload_rate: int = 0
    """Bytes per second."""
    uploaded: int = 0
    """Bytes of files since the room was made."""
    downloads: int = 0
    """Completed downloads."""
    message: str | None = None
    """The last failure in plain English, as long as it matters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestStatus:
    """A guest who is connected."""

    id: str
    """Random name that the guest's browser keeps for the room."""
    since: float
    network: str
    """The network that the guest is in, or that of the relay: IPv4 /24, IPv6 /48."""
    path: PathKind | None
    has_joined: bool
    """Whether the guest sees what is in the room."""
    served: bool
    uploaded: int
    """Bytes of files that were sent to this guest since it connected."""
    rtt: float | None
    lost: float | None
    """Share of packets that were sent again, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guests:
    """The guests of a room who are connected."""

    guests: tuple[GuestStatus, ...]


class RoomEventKind(StrEnum):
    """What happens in a room."""

    OPENED = "opened"
    """A guest opened the link, and is connected."""
    JOINED = "joined"
    """A guest sees what is in the room: it needs no password, or the guest knows it."""
    COMPLETED = "completed"
    """A guest has got a whole file."""
    WRONG_PASSWORD = "wrong_password"  # noqa: S105
    EXPIRED = "expired"
    USED_UP = "used_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomEvent:
    """Something happened in a room."""

    type: Literal["room"] = "room"
    room: str
    name: str
    kind: RoomEventKind
    file: str | None = None
    """The file that was completed."""
