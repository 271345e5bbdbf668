"""Friends and the terms of a friendship: the shares that a friend can access, and its upload limit.

A friend is a config subentry. Its unique id is the friend's PeMuS ID, and its title the name that the user chose.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
import re
from types import MappingProxyType
from typing import Any, Final, Self
import unicodedata

from homeassistant.config_entries import ConfigEntry, ConfigSubentry
from homeassistant.const import CONF_ID
from homeassistant.core import HomeAssistant, callback

from custom_components.pemus.const import (
    CONF_NOTE,
    CONF_SHARES,
    CONF_TERMS,
    CONF_UPLOAD_LIMIT,
    SUBENTRY_FRIEND,
)
from custom_components.pemus.options import MBIT, NO_LIMIT
from custom_components.pemus.p2p.models.homes import (
    MAX_NAME,
    FriendConfig,
    ServerStatus,
)
from custom_components.pemus.p2p.models.pemus_id import grouped, read_id
from custom_components.pemus.shares import share_id, share_subentries

INVITATION_SCHEME: Final = "pemus:"
"""Precedes the PeMuS ID in an invitation without a signalling server."""
INVITATION_PAGE: Final = "invite"
"""Path of the signalling server's page that explains an invitation."""
INVITATION_MAX_LENGTH: Final = 500
"""In characters."""
MAX_TERMS: Final = 100
"""Homes whose terms are stored before they are friends. The oldest terms are dropped."""

_BETWEEN: Final = re.compile(r"[#/?&=:]")
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&$])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of a friendship."""

    shares: tuple[str, ...] = ()
    """Subentry ids of the shares that the friend can access."""
    upload_limit: float = NO_LIMIT
    """In Mbit/s, for this friend alone."""
    note: str = ""

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Return the terms in the data of a form or a subentry."""
        return cls(
            shares=tuple(data.get(CONF_SHARES, ())),
            upload_limit=data.get(CONF_UPLOAD_LIMIT, NO_LIMIT),
            note=data.get(CONF_NOTE, "").strip(),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the terms as the data of a subentry."""
        return {
            CONF_SHARES: list(self.shares),
            CONF_UPLOAD_LIMIT: self.upload_limit,
            CONF_NOTE: self.note,
        }


def friend_subentries(entry: ConfigEntry) -> list[ConfigSubentry]:
    """Return the friends of a config entry."""
    return entry.get_subentries_of_type(SUBENTRY_FRIEND)


def find_friend(entry: ConfigEntry, home: str) -> ConfigSubentry | None:
    """Return the friend with this PeMuS ID, or None."""
    return next(
        (each for each in friend_subentries(entry) if each.data[CONF_ID] == home), None
    )


def friend_name(entry: ConfigEntry, home: str) -> str | None:
    """Return the name of a friend, or None if the home is not a friend."""
    friend = find_friend(entry, home)
    return None if friend is None else friend.title


def friend_config(entry: ConfigEntry, friend: ConfigSubentry) -> FriendConfig:
    """Return the engine's configuration of a friend. Removed shares are left out."""
    terms = Terms.of(friend.data)
    return FriendConfig(
        id=friend.data[CONF_ID],
        name=friend.title,
        shares=tuple(
            share_id(share)
            for share in share_subentries(entry)
            if share.subentry_id in terms.shares
        ),
        upload_limit=round(terms.upload_limit * MBIT),
    )


@callback
def async_add_friend(
    hass: HomeAssistant, entry: ConfigEntry, home: str, name: str, terms: Terms
) -> ConfigSubentry:
    """Add a friend. The update listener of the entry sends it to the engine."""
    friend = ConfigSubentry(
        data=MappingProxyType({CONF_ID: home, **terms.as_dict()}),
        subentry_type=SUBENTRY_FRIEND,
        title=clean_name(name) or short(home),
        unique_id=home,
    )
    hass.config_entries.async_add_subentry(entry, friend)
    return friend


@callback
def async_grant(
    hass: HomeAssistant, entry: ConfigEntry, home: str, terms: Terms | None
) -> Terms | None:
    """Store the terms for a home that is not a friend yet, or delete them if None. Return the previous terms.

    They are stored in the entry, because the other home can take days to answer.
    """
    granted: dict[str, Any] = dict(entry.data.get(CONF_TERMS, {}))
    before = granted.pop(home, None)
    if terms is not None:
        granted[home] = terms.as_dict()
    # The oldest are first.
    kept = dict(list(granted.items())[-MAX_TERMS:])
    data = {key: value for key, value in entry.data.items() if key != CONF_TERMS}
    if kept:
        data[CONF_TERMS] = kept
    hass.config_entries.async_update_entry(entry, data=data)
    return None if before is None else Terms.of(before)


def read_invitation(text: str) -> str | None:
    """Return the PeMuS ID in an entered or scanned text, or None.

    The text is an ID, `pemus:` and an ID, or a link with the ID in its fragment.
    """
    text = text.strip()
    if len(text) > INVITATION_MAX_LENGTH:
        return None
    if (home := read_id(text)) is not None:
        return home
    _, has_fragment, fragment = text.partition("#")
    if has_fragment:
        return _any_id(_BETWEEN.split(fragment))
    if text[: len(INVITATION_SCHEME)].lower() == INVITATION_SCHEME:
        return _any_id(_BETWEEN.split(text[len(INVITATION_SCHEME) :]))
    return None


def _any_id(parts: Iterable[str]) -> str | None:
    return next((home for part in parts if (home := read_id(part)) is not None), None)


def invitation(home: str, servers: Iterable[ServerStatus] = ()) -> str:
    """Return the invitation to this home, for a QR code or a message.

    With a PeMuS signalling server, it is a link to a page that explains what to do. The ID is in the fragment, which
    browsers do not send to the server. Otherwise it is `pemus:` and the ID.
    """
    for server in servers:
        if server.connected and server.identity:
            link = f"{server.url}{INVITATION_PAGE}#{home}"
            if len(link) <= INVITATION_MAX_LENGTH:
                return link
    return f"{INVITATION_SCHEME}{home}"


def short(home: str) -> str:
    """Return the first characters of a PeMuS ID, for a home without a name."""
    return grouped(home)[:9]


def clean_name(name: str) -> str:
    """Return another home's name on one line, with bounded length."""
    visible = (
        " " if character.isspace() else character
        for character in name
        if character.isspace() or unicodedata.category(character)[0] != "C"
    )
    return " ".join("".join(visible).split())[:MAX_NAME].strip()


def as_markdown(name: str) -> str:
    """Return another home's name escaped for Markdown."""
    return _MARKDOWN.sub(r"\\\1", clean_name(name))
