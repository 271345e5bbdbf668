"""The subentry flow that shares media with guests, or changes a room."""

from dataclasses import replace
from typing import Any, Final

from homeassistant.config_entries import (
    ConfigSubentry,
    ConfigSubentryFlow,
    SubentryFlowResult,
)
from homeassistant.const import CONF_NAME, CONF_PASSWORD, UnitOfTime
from homeassistant.data_entry_flow import AbortFlow
from homeassistant.helpers.selector import (
    BooleanSelector,
    MediaSelector,
    MediaSelectorConfig,
    QrCodeSelector,
    QrCodeSelectorConfig,
    SelectOptionDict,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
    TextSelectorConfig,
    TextSelectorType,
)
from homeassistant.util import dt as dt_util
import voluptuous as vol

from custom_components.pemus.const import CONF_NOTE, CONF_SHARES, CONF_UPLOAD_LIMIT
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.friends.terms import as_markdown, clean_name
from custom_components.pemus.home import Home, async_find_home
from custom_components.pemus.options import NO_LIMIT
from custom_components.pemus.p2p.models.rooms import (
    DEFAULT_GUESTS,
    MAX_GUESTS,
    RoomFolder,
)
from custom_components.pemus.rooms.sharing import (
    NotShareable,
    async_resolve,
    async_status,
    async_wait_for_link,
)
from custom_components.pemus.rooms.terms import (
    CONF_DOWNLOADS,
    CONF_GUESTS,
    DEFAULT_DAYS,
    MAX_DAYS,
    SECONDS_PER_DAY,
    RoomTerms,
    async_add_room,
    link,
)
from custom_components.pemus.shares import share_id, share_subentries

from .forms import refusal
from .options import RATE_SELECTOR, errors_of, number_selector

FIELD_DAYS: Final = "days"
FIELD_MEDIA: Final = "media"
FIELD_QR_CODE: Final = "qr_code"
FIELD_REMOVE_PASSWORD: Final = "remove_password"  # noqa: S105

ACCEPTED: Final = ["video/*", "audio/*", "image/*"]
MAX_DOWNLOADS: Final = 10_000


class RoomFlow(ConfigSubentryFlow):
    """Share media with guests, or change a room."""

    _room: ConfigSubentry | None = None

    async def async_step_user(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Ask what to share."""
        home = self._home
        errors: dict[str, str] = {}
        error = ""
        if user_input is not None:
            errors = errors_of({CONF_UPLOAD_LIMIT: user_input[CONF_UPLOAD_LIMIT]})
            media = user_input.get(FIELD_MEDIA, [])
            shares = user_input.get(CONF_SHARES, [])
            if not media and not shares:
                errors["base"] = "nothing_selected"
            if not errors:
                try:
                    items, folders = await async_resolve(
                        home, [each["media_content_id"] for each in media]
                    )
                except NotShareable:
                    errors[FIELD_MEDIA] = "not_shareable"
                except (EngineError, EngineUnavailable) as err:
                    errors["base"], error = refusal(err)
                else:
                    folders += tuple(RoomFolder(share=each, path="") for each in shares)
                    terms = await _changed(
                        self.hass, RoomTerms.new(items, folders), user_input
                    )
                    name = clean_name(user_input.get(CONF_NAME, ""))
                    self._room = async_add_room(
                        self.hass,
                        self._get_entry(),
                        name or _first_title(media) or self._share_name(shares),
                        terms,
                    )
                    return await self.async_step_link()
        return self.async_show_form(
            step_id="user",
            data_schema=self.add_suggested_values_to_schema(
                self._schema().extend(_terms_schema().schema), user_input
            ),
            errors=errors,
            description_placeholders={"error": error},
        )

    async def async_step_link(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Show the link."""
        assert self._room is not None
        if user_input is not None:
            return self.async_abort(reason="shared")
        status = await async_wait_for_link(self._home, self._room)
        address = None if status is None else link(self._room, status)
        if address is None:
            return self.async_abort(
                reason="no_link",
                description_placeholders={
                    "error": as_markdown((status and status.message) or "")
                },
            )
        return self.async_show_form(
            step_id="link",
            data_schema=vol.Schema({vol.Optional(FIELD_QR_CODE): _qr_code(address)}),
            description_placeholders={"link": address},
        )

    async def async_step_reconfigure(
        self, user_input: dict[str, Any] | None = None
    ) -> SubentryFlowResult:
        """Change a room. What it shares stays."""
        room = self._get_reconfigure_subentry()
        terms = RoomTerms.of(room.data)
        errors: dict[str, str] = {}
        if user_input is not None:
            errors = errors_of({CONF_UPLOAD_LIMIT: user_input[CONF_UPLOAD_LIMIT]})
            if not (name := clean_name(user_input[CONF_NAME])):
                errors[CONF_NAME] = "no_name"
            if not errors:
                return self.async_update_and_abort(
                    self._get_entry(),
                    room,
                    title=name,
                    data=(await _changed(self.hass, terms, user_input)).as_dict(),
                )
        status = async_status(self._home, room)
        address = None if status is None else link(room, status)
        schema: dict[Any, Any] = {}
        if address is not None:
            schema[vol.Optional(FIELD_QR_CODE)] = _qr_code(address)
        schema[vol.Required(CONF_NAME)] = TextSelector()
        schema |= _terms_schema(has_password=terms.password is not None).schema
        left = (terms.expires - dt_util.utcnow().timestamp()) / SECONDS_PER_DAY
        shown = {
            CONF_NAME: room.title,
            FIELD_DAYS: max(1, round(left)),
            CONF_DOWNLOADS: terms.downloads,
            CONF_GUESTS: terms.guests,
            CONF_UPLOAD_LIMIT: terms.upload_limit,
            CONF_NOTE: terms.note,
        }
        return self.async_show_form(
            step_id="reconfigure",
            data_schema=self.add_suggested_values_to_schema(
                vol.Schema(schema), user_input or shown
            ),
            errors=errors,
            description_placeholders={"link": address or "–"},
        )

    @property
    def _home(self) -> Home:
        """Return this home. Raises AbortFlow if it is not set up."""
        if (home := async_find_home(self.hass)) is None:
            raise AbortFlow("not_loaded")
        return home

    def _schema(self) -> vol.Schema:
        """Return the fields for what to share."""
        shares = [
            SelectOptionDict(value=share_id(share), label=share.title)
            for share in share_subentries(self._get_entry())
        ]
        return vol.Schema(
            {
                vol.Optional(FIELD_MEDIA): MediaSelector(
                    MediaSelectorConfig(accept=ACCEPTED, multiple=True)
                ),
                vol.Optional(CONF_SHARES, default=list): SelectSelector(
                    SelectSelectorConfig(
                        options=shares, multiple=True, mode=SelectSelectorMode.LIST
                    )
                ),
                vol.Optional(CONF_NAME): TextSelector(),
            }
        )

    def _share_name(self, shares: list[str]) -> str:
        for share in share_subentries(self._get_entry()):
            if share_id(share) in shares:
                return share.title
        return self._get_entry().title


def _terms_schema(*, has_password: bool = False) -> vol.Schema:
    """Return the fields for the terms of a room."""
    password = TextSelector(TextSelectorConfig(type=TextSelectorType.PASSWORD))
    fields: dict[Any, Any] = {vol.Optional(CONF_PASSWORD): password}
    if has_password:
        fields[vol.Optional(FIELD_REMOVE_PASSWORD, default=False)] = BooleanSelector()
    return vol.Schema(
        fields
        | {
            vol.Required(FIELD_DAYS, default=DEFAULT_DAYS): number_selector(
                1, MAX_DAYS, UnitOfTime.DAYS
            ),
            vol.Required(CONF_DOWNLOADS, default=0): number_selector(0, MAX_DOWNLOADS),
            vol.Required(CONF_GUESTS, default=DEFAULT_GUESTS): number_selector(
                1, MAX_GUESTS
            ),
            vol.Required(CONF_UPLOAD_LIMIT, default=NO_LIMIT): RATE_SELECTOR,
            vol.Optional(CONF_NOTE): TextSelector(TextSelectorConfig(multiline=True)),
        }
    )


async def _changed(
    hass: Any, terms: RoomTerms, user_input: dict[str, Any]
) -> RoomTerms:
    """Return the terms with what the user entered. An empty password keeps the present one."""
    password: str = user_input.get(CONF_PASSWORD, "")
    if password or user_input.get(FIELD_REMOVE_PASSWORD):
        terms = await terms.with_password(hass, password)
    days: float = user_input[FIELD_DAYS]
    return replace(
        terms,
        expires=dt_util.utcnow().timestamp() + days * SECONDS_PER_DAY,
        downloads=int(user_input[CONF_DOWNLOADS]),
        guests=int(user_input[CONF_GUESTS]),
        upload_limit=user_input[CONF_UPLOAD_LIMIT],
        note=user_input.get(CONF_NOTE, "").strip(),
    )


def _first_title(media: list[dict[str, Any]]) -> str:
    """Return the title of what was selected first, as the media browser shows it."""
    title = media[0].get("metadata", {}).get("title") if media else None
    return clean_name(title) if isinstance(title, str) else ""


def _qr_code(address: str) -> QrCodeSelector:
    return QrCodeSelector(QrCodeSelectorConfig(data=address, scale=6))
