"""Friends as the user configures them: who they are, and what they may have of this home.

A friend is a config subentry. Its unique id is the friend's PeMuS ID, its title the name under which it is known here.
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

INVITATION: Final = "pemus:"
"""Before the ID in a QR code, so that a phone knows what it has scanned."""
PAGE: Final = "invite"
"""Path of the page at a signalling server that tells what to do with an invitation."""
MAX_INVITATION: Final = 500
"""Characters of a link that somebody may paste."""
MAX_TERMS: Final = 100
"""Homes that may owe an answer at the same time. Who asks more of them forgets what was granted to the first."""

_BETWEEN: Final = re.compile(r"[#/?&=:]")
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&$])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a friend may have of this home."""

    shares: tuple[str, ...] = ()
    """Subentry ids of shares."""
    upload_limit: float = NO_LIMIT
    """Mbit/s for this friend alone."""
    note: str = ""

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Self:
        """Return the terms that a form or a subentry holds."""
        return cls(
            shares=tuple(said.get(CONF_SHARES, ())),
            upload_limit=said.get(CONF_UPLOAD_LIMIT, NO_LIMIT),
            note=said.get(CONF_NOTE, "").strip(),
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the terms as they are kept."""
        return {
            CONF_SHARES: list(self.shares),
            CONF_UPLOAD_LIMIT: self.upload_limit,
            CONF_NOTE: self.note,
        }


def friend_subentries(entry: ConfigEntry) -> list[ConfigSubentry]:
    """Return the friends of a home."""
    return entry.get_subentries_of_type(SUBENTRY_FRIEND)


def find_friend(entry: ConfigEntry, home: str) -> ConfigSubentry | None:
    """Return the friend with this PeMuS ID, if there is one."""
    return next(
        (each for each in friend_subentries(entry) if each.data[CONF_ID] == home), None
    )


def friend_name(entry: ConfigEntry, home: str) -> str | None:
    """Return what a friend is called here, or None for who is no friend."""
    friend = find_friend(entry, home)
    return None if friend is None else friend.title


def friend_config(entry: ConfigEntry, friend: ConfigSubentry) -> FriendConfig:
    """Return a friend as the engine wants to hear of it. A share that is gone is granted to nobody."""
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
    """Make a home a friend. The update listener of the entry tells the engine."""
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
    """Remember what a home may have once it is a friend; None forgets that. Returns what was remembered before.

    It outlives a restart: who was asked may take days to answer.
    """
    granted: dict[str, Any] = dict(entry.data.get(CONF_TERMS, {}))
    before = granted.pop(home, None)
    if terms is not None:
        granted[home] = terms.as_dict()
    # The oldest come first.
    kept = dict(list(granted.items())[-MAX_TERMS:])
    data = {key: value for key, value in entry.data.items() if key != CONF_TERMS}
    if kept:
        data[CONF_TERMS] = kept
    hass.config_entries.async_update_entry(entry, data=data)
    return None if before is None else Terms.of(before)


def read_invitation(text: str) -> str | None:
    """Return the PeMuS ID in what somebody typed, pasted or scanned, None if there is none in it.

    That is an ID, `pemus:` with one, or any link with one behind its `#`, of which its server learns nothing.
    """
    text = text.strip()
    if len(text) > MAX_INVITATION:
        return None
    if (home := read_id(text)) is not None:
        return home
    _, has_fragment, fragment = text.partition("#")
    if has_fragment:
        return _any_id(_BETWEEN.split(fragment))
    if text[: len(INVITATION)].lower() == INVITATION:
        return _any_id(_BETWEEN.split(text[len(INVITATION) :]))
    return None


def _any_id(parts: Iterable[str]) -> str | None:
    return next((home for part in parts if (home := read_id(part)) is not None), None)


def invitation(home: str, servers: Iterable[ServerStatus] = ()) -> str:
    """Return what a QR code says, and what is sent to a friend.

    With a signalling server of this project that is a link to a page which says what to do; its server does not learn the
    ID behind the `#`. Otherwise it is `pemus:` and the ID.
    """
    for server in servers:
        if server.connected and server.identity:
            link = f"{server.url}{PAGE}#{home}"
            if len(link) <= MAX_INVITATION:
                return link
    return f"{INVITATION}{home}"


def short(home: str) -> str:
    """Return the beginning of an ID, for a home that has not said its name."""
    return grouped(home)[:9]


def clean_name(name: str) -> str:
    """Return what another home calls itself as it may be shown: on one line, and not endless."""
    visible = (
        " " if character.isspace() else character
        for character in name
        if character.isspace() or unicodedata.category(character)[0] != "C"
    )
    return " ".join("".join(visible).split())[:MAX_NAME].strip()


def as_markdown(name: str) -> str:
    """Return what another home calls itself where Markdown is shown: as text, whatever it contains."""
    return _MARKDOWN.sub(r"\\\1", clean_name(name))
