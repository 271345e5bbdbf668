"""Lasting problems become repair issues, and go when they do."""

from dataclasses import replace
import os
from pathlib import Path
import signal

from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.pemus.const import DOMAIN
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.engine.process import DATA_ENGINE
from custom_components.pemus.engine.provision import Limit, LimitedReason
from custom_components.pemus.friends.terms import find_friend
from custom_components.pemus.issues import ISSUE_IDENTITY
from custom_components.pemus.p2p.models import (
    ErrorKey,
    Problem,
    ProblemKey,
    StatusChanged,
)
from custom_components.pemus.p2p.models.pemus_id import grouped

from .household import ADA, BEN, Stage, befriend, engine_says, eventually, friend


def push(entry: MockConfigEntry, *problems: Problem) -> None:
    """Have the engine say that it has these problems."""
    coordinator = entry.runtime_data.coordinator
    status = replace(coordinator.data, problems=problems)
    coordinator.engine.status = status
    engine_says(entry.runtime_data, StatusChanged(status=status))


INOTIFY = Problem(
    key=ProblemKey.INOTIFY_LIMIT,
    placeholders={"setting": "fs.inotify.max_user_watches", "limit": "8192"},
)


def gone(share: str, name: str) -> Problem:
    """Return the problem of a share that is not there."""
    return Problem(
        key=ProblemKey.SHARE_UNAVAILABLE,
        share=share,
        placeholders={"name": name, "path": f"/media/{name}"},
    )


def issues(issue_registry: ir.IssueRegistry) -> set[str]:
    """Return the ids of all issues."""
    return {issue_id for _, issue_id in issue_registry.issues}


async def test_an_unplugged_disk_is_an_issue_until_it_is_back(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    media: Path,
    issue_registry: ir.IssueRegistry,
) -> None:
    (known,) = entry.runtime_data.coordinator.data.shares
    issue_id = f"share_unavailable_{known.id}"
    unplugged = media.rename(media.with_name("unplugged"))
    await entry.runtime_data.engine.client.rescan()
    await eventually(
        hass, lambda: issue_registry.async_get_issue(DOMAIN, issue_id) is not None
    )
    issue = issue_registry.async_get_issue(DOMAIN, issue_id)
    assert issue.translation_key == "share_unavailable"
    assert issue.translation_placeholders == {"name": "Media", "path": str(media)}
    assert issue.severity is ir.IssueSeverity.WARNING
    assert not issue.is_fixable

    unplugged.rename(media)
    await entry.runtime_data.engine.client.rescan()
    await eventually(
        hass, lambda: issue_registry.async_get_issue(DOMAIN, issue_id) is None
    )


async def test_each_share_has_its_own_issue(
    hass: HomeAssistant, entry: MockConfigEntry, issue_registry: ir.IssueRegistry
) -> None:
    push(entry, INOTIFY, gone("one", "Films"), gone("two", "Songs"))
    assert issues(issue_registry) == {
        "inotify_limit",
        "share_unavailable_one",
        "share_unavailable_two",
    }

    push(entry, gone("two", "Music"))
    assert issues(issue_registry) == {"share_unavailable_two"}
    issue = issue_registry.async_get_issue(DOMAIN, "share_unavailable_two")
    assert issue.translation_placeholders["name"] == "Music"

    push(entry)
    assert issues(issue_registry) == set()


async def test_a_full_cache_is_an_issue_until_there_is_room(
    hass: HomeAssistant, entry: MockConfigEntry, issue_registry: ir.IssueRegistry
) -> None:
    full = Problem(
        key=ProblemKey.CACHE_FULL, placeholders={"path": "/config/.cache/pemus"}
    )
    push(entry, full)
    push(entry, full)
    assert issues(issue_registry) == {"cache_full"}
    issue = issue_registry.async_get_issue(DOMAIN, "cache_full")
    assert issue.translation_placeholders == full.placeholders
    assert issue.severity is ir.IssueSeverity.WARNING

    push(entry)
    assert issues(issue_registry) == set()


async def test_an_issue_that_was_ignored_stays_ignored(
    hass: HomeAssistant, entry: MockConfigEntry, issue_registry: ir.IssueRegistry
) -> None:
    push(entry, INOTIFY)
    issue_registry.async_ignore(DOMAIN, "inotify_limit", ignore=True)

    push(entry, INOTIFY)

    issue = issue_registry.async_get_issue(DOMAIN, "inotify_limit")
    assert issue.dismissed_version is not None


async def test_the_issues_go_with_the_home(
    hass: HomeAssistant, entry: MockConfigEntry, issue_registry: ir.IssueRegistry
) -> None:
    push(entry, INOTIFY)

    await hass.config_entries.async_unload(entry.entry_id)

    assert issues(issue_registry) == set()


@pytest.mark.parametrize("engine_is_there", [True, False])
async def test_trying_again_mends_what_it_can(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    issue_registry: ir.IssueRegistry,
    hass_client: ClientSessionGenerator,
    engine_is_there: bool,
) -> None:
    assert await async_setup_component(hass, "repairs", {})
    engine = hass.data[DATA_ENGINE]
    engine._set_limited(LimitedReason(limit=Limit.OFFLINE, detail="no route"))
    tries: list[None] = []

    async def provision_again() -> None:
        tries.append(None)

    engine.async_provision_again = provision_again
    if not engine_is_there:
        hass.data.pop(DATA_ENGINE)
    client = await hass_client()

    response = await client.post(
        "/api/repairs/issues/fix",
        json={"handler": DOMAIN, "issue_id": "engine_limited"},
    )
    form = await response.json()
    assert form["step_id"] == "confirm"
    assert form["description_placeholders"]["detail"] == "no route"
    assert not tries

    response = await client.post(f"/api/repairs/issues/fix/{form['flow_id']}", json={})
    assert (await response.json())["type"] == "create_entry"
    assert len(tries) == engine_is_there
    assert issues(issue_registry) == set()
    hass.data[DATA_ENGINE] = engine


@pytest.mark.parametrize(
    ("limit", "hosts", "said"),
    [
        (
            Limit.OFFLINE,
            ("pypi.org", "mirror.lan"),
            "Nicht erreichbar: pypi.org, mirror.lan.",
        ),
        (Limit.TIMEOUT, (), "Die Installation hat mehr als 15 Minuten gedauert."),
    ],
)
async def test_the_limits_are_told_in_the_language_of_the_home(
    hass: HomeAssistant,
    staged_entry: MockConfigEntry,
    hass_client: ClientSessionGenerator,
    limit: Limit,
    hosts: tuple[str, ...],
    said: str,
) -> None:
    assert await async_setup_component(hass, "repairs", {})
    hass.config.language = "de"
    engine = staged_entry.runtime_data.engine
    engine._set_limited(LimitedReason(limit=limit, detail="no route", hosts=hosts))

    form = await fix(await hass_client(), issue_id="engine_limited")

    reason = form["description_placeholders"]["reason"]
    assert reason.endswith(said)
    assert "Unreachable" not in reason
    assert form["description_placeholders"]["detail"] == "no route"


@pytest.fixture
def staged(staged_entry: MockConfigEntry) -> Stage:
    """Set up a home without a real engine: the stage says what happens."""
    stage = Stage(staged_entry)
    stage.push()
    return stage


async def fix(
    client: ClientSessionGenerator,
    path: str = "",
    issue_id: str = ISSUE_IDENTITY,
    **said: str,
) -> dict[str, str]:
    """Begin to fix an issue of the identity, or go on with it."""
    body = said if path else {"handler": DOMAIN, "issue_id": issue_id}
    response = await client.post(f"/api/repairs/issues/fix{path}", json=body)
    return await response.json()


async def test_a_copy_of_this_home_is_an_issue_until_one_of_them_gives_way(
    hass: HomeAssistant,
    staged: Stage,
    issue_registry: ir.IssueRegistry,
    hass_client: ClientSessionGenerator,
) -> None:
    assert await async_setup_component(hass, "repairs", {})
    client = await hass_client()
    befriend(hass, staged.coordinator.config_entry)
    staged.push(superseded=True)
    issue = issue_registry.async_get_issue(DOMAIN, ISSUE_IDENTITY)
    assert issue.is_fixable
    assert issue.severity is ir.IssueSeverity.WARNING

    menu = await fix(client)
    assert menu["type"] == "menu"
    assert menu["menu_options"] == ["try_again", "new_identity"]
    done = await fix(client, f"/{menu['flow_id']}", next_step_id="try_again")
    assert done["type"] == "create_entry"
    assert staged.asked[-1] == ("network_changed",)
    # Its friends are still its friends.
    assert staged.home.configuration.config.friends

    staged.push(superseded=False)
    assert issues(issue_registry) == set()
    staged.push(superseded=True)
    menu = await fix(client)
    form = await fix(client, f"/{menu['flow_id']}", next_step_id="new_identity")
    assert form["step_id"] == "new_identity"
    assert ("new_identity",) not in staged.asked
    done = await fix(client, f"/{form['flow_id']}")
    await hass.async_block_till_done()
    assert done["type"] == "create_entry"
    assert ("new_identity",) in staged.asked
    assert staged.home.configuration.config.friends == ()


@pytest.mark.parametrize("answer", ["try_again", "new_identity"])
@pytest.mark.parametrize("reason", ["engine_unavailable", "not_loaded"])
async def test_a_copy_stays_an_issue_while_nothing_can_be_done(
    hass: HomeAssistant,
    staged: Stage,
    hass_client: ClientSessionGenerator,
    answer: str,
    reason: str,
) -> None:
    assert await async_setup_component(hass, "repairs", {})
    client = await hass_client()
    staged.push(superseded=True)
    menu = await fix(client)
    if reason == "engine_unavailable":
        staged.error = EngineUnavailable("it is gone")
    else:
        await hass.config_entries.async_unload(staged.coordinator.config_entry.entry_id)

    result = await fix(client, f"/{menu['flow_id']}", next_step_id=answer)
    if result["type"] == "form":
        result = await fix(client, f"/{menu['flow_id']}")

    assert (result["type"], result["reason"]) == ("abort", reason)


LOST = Problem(
    key=ProblemKey.IDENTITY_LOST,
    placeholders={
        "path": "/config/.storage/pemus/identity",
        "error": "it is missing",
    },
)


async def test_a_lost_identity_is_an_issue_until_it_is_brought_back(
    hass: HomeAssistant,
    staged: Stage,
    issue_registry: ir.IssueRegistry,
    hass_client: ClientSessionGenerator,
) -> None:
    assert await async_setup_component(hass, "repairs", {})
    client = await hass_client()
    befriend(hass, staged.coordinator.config_entry)
    push(staged.coordinator.config_entry, LOST)
    issue = issue_registry.async_get_issue(DOMAIN, "identity_lost")
    assert issue.is_fixable
    assert issue.translation_placeholders == LOST.placeholders

    menu = await fix(client, issue_id="identity_lost")
    assert menu["type"] == "menu"
    assert menu["menu_options"] == ["try_again", "new_identity"]
    assert menu["description_placeholders"] == LOST.placeholders
    staged.error = EngineError(ErrorKey.UNAVAILABLE, "it is missing")
    done = await fix(client, f"/{menu['flow_id']}", next_step_id="try_again")
    assert (done["type"], done["reason"]) == ("abort", "refused")
    assert done["description_placeholders"] == {"error": "it is missing"}
    assert "identity_lost" in issues(issue_registry)

    staged.error = None
    menu = await fix(client, issue_id="identity_lost")
    done = await fix(client, f"/{menu['flow_id']}", next_step_id="try_again")
    assert done["type"] == "create_entry"
    assert staged.asked[-1] == ("restore_identity",)
    # Its friends are still its friends.
    assert staged.home.configuration.config.friends


async def test_a_home_that_lost_its_identity_becomes_another_only_on_purpose(
    hass: HomeAssistant,
    staged: Stage,
    issue_registry: ir.IssueRegistry,
    hass_client: ClientSessionGenerator,
) -> None:
    assert await async_setup_component(hass, "repairs", {})
    client = await hass_client()
    befriend(hass, staged.coordinator.config_entry)
    push(staged.coordinator.config_entry, LOST)

    menu = await fix(client, issue_id="identity_lost")
    form = await fix(client, f"/{menu['flow_id']}", next_step_id="new_identity")
    assert form["step_id"] == "new_identity"
    assert ("new_identity",) not in staged.asked
    done = await fix(client, f"/{form['flow_id']}")
    await hass.async_block_till_done()
    assert done["type"] == "create_entry"
    assert ("new_identity",) in staged.asked
    assert staged.home.configuration.config.friends == ()


async def test_the_real_engine_is_mended_by_the_repair_of_its_identity(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    media: Path,
    issue_registry: ir.IssueRegistry,
    hass_client: ClientSessionGenerator,
) -> None:
    assert await async_setup_component(hass, "repairs", {})
    client = await hass_client()
    engine = hass.data[DATA_ENGINE]
    home = engine.status.peers.id
    key = Path(hass.config.path(".storage", DOMAIN, "identity"))
    befriend(hass, entry)
    await hass.async_block_till_done()
    kept = key.read_bytes()

    async def restart() -> None:
        pid = engine.status.pid
        os.kill(pid, signal.SIGKILL)
        await eventually(hass, lambda: engine.status and engine.status.pid != pid)

    key.write_bytes(bytes(32))
    await restart()
    assert engine.status.peers is None
    assert "identity_lost" in issues(issue_registry)
    # What is at home works.
    assert (await engine.client.browse("")).children
    menu = await fix(client, issue_id="identity_lost")
    done = await fix(client, f"/{menu['flow_id']}", next_step_id="try_again")
    assert done["reason"] == "refused"

    key.write_bytes(kept)
    menu = await fix(client, issue_id="identity_lost")
    done = await fix(client, f"/{menu['flow_id']}", next_step_id="try_again")
    assert done["type"] == "create_entry"
    await eventually(
        hass, lambda: entry.runtime_data.coordinator.data.peers is not None
    )
    assert entry.runtime_data.coordinator.data.peers.id == home
    assert "identity_lost" not in issues(issue_registry)

    key.unlink()
    await restart()
    menu = await fix(client, issue_id="identity_lost")
    form = await fix(client, f"/{menu['flow_id']}", next_step_id="new_identity")
    done = await fix(client, f"/{form['flow_id']}")
    assert done["type"] == "create_entry"
    await eventually(
        hass, lambda: entry.runtime_data.coordinator.data.peers is not None
    )
    assert entry.runtime_data.coordinator.data.peers.id != home
    assert entry.runtime_data.configuration.config.friends == ()
    assert "identity_lost" not in issues(issue_registry)


async def test_a_friend_who_parted_is_an_issue_until_it_is_removed(
    hass: HomeAssistant, staged: Stage, issue_registry: ir.IssueRegistry
) -> None:
    entry = staged.coordinator.config_entry
    befriend(hass, entry, name="Ada *!*")
    subentry = find_friend(entry, ADA).subentry_id
    staged.push(friends=(friend(unfriended=True), friend(BEN)))
    issue = issue_registry.async_get_issue(DOMAIN, f"unfriended_{subentry}")
    assert issue.translation_key == "unfriended"
    assert issue.translation_placeholders == {
        "name": "Ada \\*\\!\\*",
        "id": grouped(ADA),
    }
    assert not issue.is_fixable

    staged.push(friends=(friend(BEN),))
    assert issues(issue_registry) == set()
