"""Giving the home its name."""

from typing import Any
from unittest.mock import ANY

from homeassistant.config_entries import (
    SOURCE_HASSIO,
    SOURCE_USER,
    ConfigEntryState,
    FlowType,
)
from homeassistant.const import CONF_NAME
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers.service_info.hassio import HassioServiceInfo
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.pemus.const import CONF_SIGNALING_APP, CONF_UPLOAD_LIMIT, DOMAIN


async def test_a_home_gets_its_name_and_goes_on_with_its_first_folder(
    hass: HomeAssistant, engine_environment: object
) -> None:
    result = await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_USER}
    )
    assert result["type"] is FlowResultType.FORM
    assert result["step_id"] == "user"
    assert not result["errors"]

    result = await hass.config_entries.flow.async_configure(
        result["flow_id"], {CONF_NAME: "  Casa  "}
    )

    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["title"] == "Casa"
    assert result["data"] == {}
    # The safe default, whether or not it was looked at.
    assert result["options"] == {CONF_UPLOAD_LIMIT: 16}
    entry = result["result"]
    assert entry.runtime_data.configuration.config.swarm.upload_limit == 2_000_000
    assert entry.unique_id == DOMAIN
    assert entry.state is ConfigEntryState.LOADED
    assert result["next_flow"] == (FlowType.CONFIG_SUBENTRIES_FLOW, ANY)
    (flow,) = hass.config_entries.subentries.async_progress()
    assert flow["flow_id"] == result["next_flow"][1]
    assert flow["step_id"] == "user"


async def test_the_name_of_the_home_assistant_is_proposed(hass: HomeAssistant) -> None:
    hass.config.location_name = "Haus am See"

    result = await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_USER}
    )

    name, limit = result["data_schema"].schema
    assert name.description == {"suggested_value": "Haus am See"}
    assert limit == CONF_UPLOAD_LIMIT
    assert limit.default() == 16


async def test_the_upload_limit_is_chosen_in_time(
    hass: HomeAssistant, engine_environment: object
) -> None:
    result = await hass.config_entries.flow.async_init(
        DOMAIN,
        context={"source": SOURCE_USER},
        data={CONF_NAME: " ", CONF_UPLOAD_LIMIT: 0.01},
    )
    assert result["type"] is FlowResultType.FORM
    assert result["errors"] == {
        CONF_NAME: "no_name",
        CONF_UPLOAD_LIMIT: "rate_too_low",
    }

    result = await hass.config_entries.flow.async_configure(
        result["flow_id"], {CONF_NAME: "Casa", CONF_UPLOAD_LIMIT: 4}
    )
    assert result["type"] is FlowResultType.CREATE_ENTRY
    swarm = result["result"].runtime_data.configuration.config.swarm
    assert swarm.upload_limit == 500_000


async def test_a_name_of_blanks_is_refused_and_can_be_corrected(
    hass: HomeAssistant, engine_environment: object
) -> None:
    result = await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_USER}, data={CONF_NAME: "   "}
    )
    assert result["type"] is FlowResultType.FORM
    assert result["errors"] == {CONF_NAME: "no_name"}

    result = await hass.config_entries.flow.async_configure(
        result["flow_id"], {CONF_NAME: "Casa"}
    )
    assert result["type"] is FlowResultType.CREATE_ENTRY


async def test_there_is_one_home_per_home_assistant(hass: HomeAssistant) -> None:
    MockConfigEntry(domain=DOMAIN, unique_id=DOMAIN).add_to_hass(hass)

    result = await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_USER}
    )

    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "already_configured"


async def test_a_home_is_renamed(hass: HomeAssistant, entry: MockConfigEntry) -> None:
    pid = entry.runtime_data.coordinator.data.pid
    result = await entry.start_reconfigure_flow(hass)
    assert result["step_id"] == "reconfigure"
    (name,) = result["data_schema"].schema
    assert name.description == {"suggested_value": "Casa"}

    result = await hass.config_entries.flow.async_configure(
        result["flow_id"], {CONF_NAME: " "}
    )
    assert result["errors"] == {CONF_NAME: "no_name"}

    result = await hass.config_entries.flow.async_configure(
        result["flow_id"], {CONF_NAME: "Haus"}
    )
    await hass.async_block_till_done()

    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "reconfigure_successful"
    assert entry.title == "Haus"
    assert entry.runtime_data.configuration.config.home_name == "Haus"
    assert (await entry.runtime_data.engine.client.status()).pid == pid


APP = {
    "host": "127.0.0.1",
    "port": 9000,
    "path": "/",
    "ssl": False,
    "origin": None,
}


async def find_app(hass: HomeAssistant, **changes: Any) -> Any:
    """Have the Supervisor tell of the signalling app."""
    info = HassioServiceInfo(
        config=APP | changes, name="PeMuS signalling", slug="pemus", uuid="1"
    )
    return await hass.config_entries.flow.async_init(
        DOMAIN, context={"source": SOURCE_HASSIO}, data=info
    )


async def test_the_signalling_app_offers_to_set_up_a_home(
    hass: HomeAssistant, engine_environment: object
) -> None:
    result = await find_app(hass)
    assert (result["type"], result["step_id"]) == (
        FlowResultType.FORM,
        "hassio_confirm",
    )
    result = await hass.config_entries.flow.async_configure(result["flow_id"], {})
    assert result["step_id"] == "user"
    result = await hass.config_entries.flow.async_configure(
        result["flow_id"], {CONF_NAME: "Casa"}
    )
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert result["data"] == {CONF_SIGNALING_APP: "http://127.0.0.1:9000/"}


@pytest.mark.parametrize(
    ("changes", "url"),
    [
        ({}, "http://127.0.0.1:9000/"),
        ({"ssl": True, "path": "/pemus/"}, "https://127.0.0.1:9000/pemus/"),
        ({"origin": "https://signal.example"}, "https://signal.example/"),
    ],
)
async def test_a_home_takes_note_of_its_signalling_app_and_goes_on(
    hass: HomeAssistant, entry: MockConfigEntry, changes: dict[str, Any], url: str
) -> None:
    engine = entry.runtime_data.coordinator.data.pid
    result = await find_app(hass, **changes)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "already_configured"
    await hass.async_block_till_done()
    assert entry.data[CONF_SIGNALING_APP] == url
    assert entry.state is ConfigEntryState.LOADED
    assert entry.runtime_data.coordinator.data.pid == engine


@pytest.mark.parametrize(
    "changes",
    [
        {"port": 0},
        {"port": "9000"},
        {"host": "a host"},
        {"host": None},
        {"path": "no slash"},
        {"origin": "ftp://signal.example"},
        {"origin": "https://signal.example/a/path"},
    ],
)
async def test_a_signalling_app_that_makes_no_sense_changes_nothing(
    hass: HomeAssistant, entry: MockConfigEntry, changes: dict[str, Any]
) -> None:
    result = await find_app(hass, **changes)
    assert result["type"] is FlowResultType.ABORT
    assert result["reason"] == "invalid_discovery"
    assert CONF_SIGNALING_APP not in entry.data
