"""What is kept of friends, and what is read and shown of what others say."""

from homeassistant.core import HomeAssistant
from hypothesis import given, strategies as st
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.pemus.const import CONF_TERMS, DOMAIN
from custom_components.pemus.friends.terms import (
    MAX_TERMS,
    Terms,
    as_markdown,
    async_grant,
    clean_name,
    invitation,
    read_invitation,
)
from custom_components.pemus.p2p.models.homes import MAX_NAME, ServerStatus, is_home
from custom_components.pemus.p2p.models.pemus_id import grouped

from .household import ADA


def test_an_invitation_is_read_as_it_is_shown() -> None:
    assert invitation(ADA) == f"pemus:{ADA}"
    assert read_invitation(invitation(ADA)) == ADA
    assert read_invitation(grouped(ADA)) == ADA


OURS = ServerStatus(url="https://ours.example/path/", connected=True, identity=True)
STOCK = ServerStatus(url="https://stock.example/", connected=True)
AWAY = ServerStatus(url="https://away.example/", connected=False, identity=True)
LONG = ServerStatus(url=f"https://{'x' * 480}/", connected=True, identity=True)


@pytest.mark.parametrize(
    ("servers", "link"),
    [
        ((), f"pemus:{ADA}"),
        ((STOCK, AWAY, LONG), f"pemus:{ADA}"),
        ((STOCK, OURS), f"https://ours.example/path/invite#{ADA}"),
        ((LONG, OURS), f"https://ours.example/path/invite#{ADA}"),
    ],
)
def test_an_invitation_is_a_link_if_there_is_a_page_for_it(
    servers: tuple[ServerStatus, ...], link: str
) -> None:
    assert invitation(ADA, servers) == link
    assert read_invitation(link) == ADA


@given(text=st.text(max_size=700))
def test_whatever_is_typed_is_an_id_or_nothing(text: str) -> None:
    for typed in (text, f"pemus:{text}", f"https://x.example/#{text}"):
        home = read_invitation(typed)
        assert home is None or is_home(home)


@given(name=st.text(max_size=300))
def test_a_name_is_one_line_of_bounded_length(name: str) -> None:
    shown = clean_name(name)
    assert len(shown) <= MAX_NAME
    assert len(shown.splitlines()) <= 1
    assert shown == shown.strip()
    assert shown.isprintable() or " " in shown or not shown


@given(name=st.text(alphabet="a[](){}<>!#*_`\\|~.-+&$:/ \n", max_size=60))
def test_no_name_becomes_markdown(name: str) -> None:
    shown = as_markdown(name)
    for position, character in enumerate(shown):
        if character in "[]()<>!#*_`|~&$":
            before = shown[:position]
            assert (len(before) - len(before.rstrip("\\"))) % 2 == 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ada's home", "Ada's home"),
        ("  two\n lines\t", "two lines"),
        ("in\u202evert\u200b", "invert"),
        ("\ud800", ""),
        ("Zuhause 🏠", "Zuhause 🏠"),
        ("x" * 1000, "x" * MAX_NAME),
    ],
)
def test_names_are_shown_as_they_were_meant(name: str, shown: str) -> None:
    assert clean_name(name) == shown


def test_what_is_granted_is_bounded(hass: HomeAssistant) -> None:
    entry = MockConfigEntry(domain=DOMAIN, data={"signaling_app": "x"})
    entry.add_to_hass(hass)

    for number in range(MAX_TERMS + 5):
        async_grant(hass, entry, f"home {number}", Terms(upload_limit=number))

    kept = entry.data[CONF_TERMS]
    assert len(kept) == MAX_TERMS
    assert "home 4" not in kept
    assert "home 5" in kept
    before = async_grant(hass, entry, "home 5", None)
    assert before == Terms(upload_limit=5)
    assert async_grant(hass, entry, "home 5", None) is None
    assert entry.data["signaling_app"] == "x"
