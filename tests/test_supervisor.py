"""The engine runs, comes back, gives up politely, and leaves nothing behind. All with the real process."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
import contextlib
from dataclasses import replace
from itertools import pairwise
import logging
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
import pytest

from custom_components.pemus.const import DOMAIN
from custom_components.pemus.engine import (
    child,
    client,
    process as supervisor,
    provision,
)
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.engine.process import Engine, EngineState
from custom_components.pemus.engine.provision import Limit, Provisioner, ProvisionError
from custom_components.pemus.errors import engine_errors
from custom_components.pemus.p2p.models import (
    EngineConfig,
    ErrorKey,
    Event,
    Hello,
    Kind,
    ShareConfig,
    Status,
    StatusChanged,
)
from custom_components.pemus.p2p.models.homes import FriendConfig
from custom_components.pemus.p2p.models.version import VERSION
from tests.patience import Stopwatch, until

from .household import ADA

_LOGGER = logging.getLogger(__name__)


@pytest.fixture
async def idle(hass: HomeAssistant, engine_environment: Path) -> AsyncGenerator[Engine]:
    """An engine that a test starts itself."""
    engine = Engine(hass)
    yield engine
    await engine.async_stop()


@pytest.fixture
def config(tmp_path: Path) -> EngineConfig:
    films = tmp_path / "films"
    films.mkdir()
    share = ShareConfig(id="films", path=str(films), name="Films", kinds=(Kind.VIDEO,))
    return EngineConfig(home_name="Zuhause", shares=(share,))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do in tenths of seconds what takes seconds."""
    monkeypatch.setattr(supervisor, "RESTART_DELAYS", (0.1, 0.2, 0.4, 0.8))


def pid_of(engine: Engine) -> int:
    assert engine.status is not None
    return engine.status.pid


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def family_of(pid: int) -> set[int]:
    """Return a process and its children: the engine and its media reader."""
    found = {pid}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(entry.read_text().rpartition(")")[2].split()[1]) == pid:
                found.add(int(entry.parent.name))
    return found


def all_gone(pids: set[int]) -> bool:
    return all(is_gone(pid) for pid in pids)


def issues(hass: HomeAssistant) -> list[str]:
    return [issue for domain, issue in ir.async_get(hass).issues if domain == DOMAIN]


def break_engine(hass: HomeAssistant) -> Path:
    """Make the engine end at once, each time it is started; return what has to be removed to mend it."""
    obstacle = Path(hass.config.path(".storage", DOMAIN, "lock"))
    obstacle.mkdir(parents=True)
    return obstacle


async def test_it_runs_and_says_so(engine: Engine) -> None:
    assert engine.state is EngineState.RUNNING
    assert engine.status is not None
    assert engine.status.version == VERSION
    assert engine.status.capabilities["libtorrent"]
    assert engine.limited is None


async def test_starting_it_again_changes_nothing(engine: Engine) -> None:
    pid = pid_of(engine)
    await asyncio.gather(engine.async_start(), engine.async_start())
    assert pid_of(engine) == pid


async def test_it_can_be_stopped_and_started(engine: Engine) -> None:
    first = pid_of(engine)
    await engine.async_stop()
    assert engine.state is EngineState.STOPPED
    assert engine.status is None
    await engine.async_start()
    assert engine.state is EngineState.RUNNING
    assert pid_of(engine) != first


async def test_stopping_leaves_nothing_behind(engine: Engine) -> None:
    family = family_of(pid_of(engine))
    assert len(family) > 1, "the engine should have its media reader"
    folder = engine._run_folder
    assert folder.stat().st_mode & 0o777 == 0o700
    with Stopwatch() as watch:
        await engine.async_stop()
    assert watch.seconds < child.TERMINATE_TIMEOUT
    assert all_gone(family)
    assert not folder.exists()


async def test_the_stop_of_the_home_stops_it(
    hass: HomeAssistant, engine: Engine
) -> None:
    family = family_of(pid_of(engine))
    hass.bus.async_fire(EVENT_HOMEASSISTANT_STOP)
    await hass.async_block_till_done()
    assert engine.state is EngineState.STOPPED
    assert all_gone(family)


async def test_an_engine_that_does_not_stop_is_killed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(child, "TERMINATE_TIMEOUT", 0.3)
    pid = pid_of(engine)
    os.kill(pid, signal.SIGSTOP)
    family = family_of(pid)
    await engine.async_stop()
    await until(lambda: all_gone(family))
    assert "did not stop, and was killed" in caplog.text


async def test_stopping_while_it_starts_leaves_nothing_behind(idle: Engine) -> None:
    for delay in (0.01, 0.1, 0.5):
        starting = asyncio.create_task(idle.async_start())
        await asyncio.sleep(delay)
        await idle.async_stop()
        with pytest.raises(EngineUnavailable):
            await starting
        assert idle.state is EngineState.STOPPED
        assert not idle._run_folder.exists()


async def test_a_killed_engine_is_back_soon_with_its_configuration(
    hass: HomeAssistant, engine: Engine, config: EngineConfig
) -> None:
    await engine.async_configure(config)
    heard: list[tuple[EngineState, Status | None]] = []
    engine.async_subscribe(lambda _event: heard.append((engine.state, engine.status)))
    first = pid_of(engine)
    family = family_of(first)
    before = time.monotonic()
    os.kill(first, signal.SIGKILL)
    await until(lambda: engine.state is not EngineState.RUNNING)
    assert engine.status is None
    await until(lambda: engine.state is EngineState.RUNNING)
    took = time.monotonic() - before
    _LOGGER.info("The engine was back after %.2f s", took)
    # On a machine with nothing else to do it is about one second. This one may be running all tests at once.
    assert took < 15
    assert heard[0] == (EngineState.RESTARTING, None)
    _, status = next(seen for seen in heard if seen[0] is EngineState.RUNNING)
    # The first state that anybody sees is complete: no entity flickers.
    assert status is not None
    assert [share.id for share in status.shares] == ["films"]
    assert pid_of(engine) != first
    await until(lambda: all_gone(family))
    assert issues(hass) == []


async def test_requests_while_it_is_down_say_so(engine: Engine) -> None:
    os.kill(pid_of(engine), signal.SIGKILL)
    await until(lambda: engine.state is EngineState.RESTARTING)
    with pytest.raises(EngineUnavailable):
        await engine.client.status()
    await until(lambda: engine.state is EngineState.RUNNING)
    await engine.client.status()


async def test_an_engine_that_hangs_is_replaced(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "RECONNECT_TIMEOUT", 0.5)
    monkeypatch.setattr(child, "TERMINATE_TIMEOUT", 0.5)
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(client, "SILENCE_TIMEOUT", 0.5)
    # The stream that is open has the old time-outs; the next one has these.
    await engine.async_stop()
    await engine.async_start()
    first = pid_of(engine)
    os.kill(first, signal.SIGSTOP)
    monkeypatch.setattr(client, "CONNECT_TIMEOUT", 5)
    await until(lambda: engine.state is EngineState.RESTARTING)
    monkeypatch.setattr(client, "SILENCE_TIMEOUT", 15)
    await until(lambda: engine.state is EngineState.RUNNING)
    assert pid_of(engine) != first
    assert is_gone(first)


async def test_a_crash_loop_backs_off_raises_one_issue_and_heals(
    hass: HomeAssistant,
    idle: Engine,
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(supervisor, "HEALTHY_TIME", 3)
    obstacle = break_engine(hass)
    with pytest.raises(EngineUnavailable):
        await idle.async_start()
    assert idle.state is EngineState.RESTARTING
    assert issues(hass) == []

    await until(lambda: idle.state is EngineState.FAILED)
    assert issues(hass) == [supervisor.ISSUE_CRASH_LOOP]
    issue = ir.async_get(hass).async_get_issue(DOMAIN, supervisor.ISSUE_CRASH_LOOP)
    assert issue is not None
    assert issue.translation_placeholders is not None
    assert "cannot start" in issue.translation_placeholders["error"]
    with pytest.raises(EngineUnavailable):
        await idle.async_start()

    # Its own last words are told each time, and it is started ever more slowly.
    crashes = [
        record.created for record in caplog.records if "engine failed" in record.message
    ]
    assert len(crashes) == supervisor.CRASH_LOOP_FAILURES
    gaps = [later - earlier for earlier, later in pairwise(crashes)]
    for gap, backoff in zip(gaps, supervisor.RESTART_DELAYS, strict=False):
        assert gap >= backoff

    obstacle.rmdir()
    await until(lambda: idle.state is EngineState.RUNNING)
    assert issues(hass) == [supervisor.ISSUE_CRASH_LOOP]
    await until(lambda: issues(hass) == [])
    assert idle.state is EngineState.RUNNING


async def test_an_engine_that_never_answers_is_worth_a_repair(
    hass: HomeAssistant,
    idle: Engine,
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    program = tmp_path / "hanging.py"
    program.write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.setattr(child, "ENGINE_MAIN", program)
    monkeypatch.setattr(supervisor, "READY_TIMEOUT", 0.5)
    with pytest.raises(EngineUnavailable):
        await idle.async_start()
    await until(lambda: issues(hass) == [supervisor.ISSUE_CRASH_LOOP], 20)
    assert idle.state is EngineState.FAILED


async def test_an_engine_that_hangs_again_and_again_is_worth_a_repair(
    hass: HomeAssistant, idle: Engine, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It hangs so soon that its silence lasts longer than it would take to be called healthy.
    monkeypatch.setattr(supervisor, "HEALTHY_TIME", 0.1)
    monkeypatch.setattr(child, "TERMINATE_TIMEOUT", 0.1)
    monkeypatch.setattr(supervisor, "RECONNECT_TIMEOUT", 0.1)
    monkeypatch.setattr(client, "SILENCE_TIMEOUT", 1)
    hung: set[int] = set()

    def hang(event: Event | None) -> None:
        if isinstance(event, Hello):
            hung.add(event.status.pid)
            os.kill(event.status.pid, signal.SIGSTOP)

    idle.async_subscribe(hang)
    await idle.async_start()
    await until(lambda: issues(hass) == [supervisor.ISSUE_CRASH_LOOP], 40)
    assert len(hung) == supervisor.CRASH_LOOP_FAILURES


async def test_an_engine_that_greets_and_crashes_again_and_again_stays_failed(
    hass: HomeAssistant, idle: Engine, hasty: None
) -> None:
    killed: set[int] = set()

    def kill(event: Event | None) -> None:
        if isinstance(event, Hello):
            killed.add(event.status.pid)
            os.kill(event.status.pid, signal.SIGKILL)

    idle.async_subscribe(kill)
    await idle.async_start()
    await until(lambda: len(killed) > supervisor.CRASH_LOOP_FAILURES, 40)
    assert issues(hass) == [supervisor.ISSUE_CRASH_LOOP]
    await until(lambda: idle.state is not EngineState.RUNNING)
    await until(lambda: idle.state is EngineState.FAILED)


async def test_an_engine_that_is_stopped_needs_no_repair(
    hass: HomeAssistant, idle: Engine, hasty: None
) -> None:
    break_engine(hass)
    with pytest.raises(EngineUnavailable):
        await idle.async_start()
    await until(lambda: issues(hass) == [supervisor.ISSUE_CRASH_LOOP])
    await idle.async_stop()
    assert issues(hass) == []
    assert idle.state is EngineState.STOPPED


async def test_a_mistake_of_the_supervisor_is_a_crash_like_others(
    idle: Engine,
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    greet = Engine._greet

    async def fail_once(self: Engine, status: Status) -> Hello:
        monkeypatch.setattr(Engine, "_greet", greet)
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Engine, "_greet", fail_once)
    with pytest.raises(EngineUnavailable):
        await idle.async_start()
    await until(lambda: idle.state is EngineState.RUNNING)
    assert "a mistake of ours" in caplog.text


async def test_a_lone_crash_is_forgotten(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "HEALTHY_TIME", 0.1)
    for _ in range(2):
        pid = pid_of(engine)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: engine.state is EngineState.RESTARTING)
        await until(lambda: engine.state is EngineState.RUNNING)
        await until(lambda: engine._failures == 0)


async def told(ask: Callable[[], Awaitable[object]]) -> str | None:
    """Return what a user is told who asks for something that fails."""
    try:
        with engine_errors(HomeAssistantError):
            await ask()
    except HomeAssistantError as err:
        return err.translation_key
    return None


async def test_an_engine_of_another_release_is_not_used(
    hass: HomeAssistant, idle: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "VERSION", "9.9.9")
    with pytest.raises(EngineUnavailable):
        await idle.async_start()
    assert idle.state is EngineState.FAILED
    assert idle.status is None
    assert issues(hass) == [supervisor.ISSUE_MISMATCH]
    # It does not come back by itself, and nobody is told that it does.
    for ask in (idle.async_start, idle.client.status):
        assert await told(ask) == "engine_outdated"

    await idle.async_stop()
    monkeypatch.setattr(supervisor, "VERSION", VERSION)
    await idle.async_start()
    os.kill(pid_of(idle), signal.SIGKILL)
    await until(lambda: idle.state is EngineState.RESTARTING)
    assert await told(idle.client.status) == "engine_unavailable"


async def test_folders_that_cannot_be_made_are_told(
    hass: HomeAssistant, idle: Engine
) -> None:
    Path(hass.config.path(".storage")).write_text("this is a file")
    with pytest.raises(EngineUnavailable, match="folders"):
        await idle.async_start()
    assert idle.state is EngineState.STOPPED


async def test_the_configuration_may_come_before_the_start(
    idle: Engine, config: EngineConfig
) -> None:
    await idle.async_configure(config)
    await idle.async_start()
    assert idle.status is not None
    assert [share.id for share in idle.status.shares] == ["films"]


async def shares_of(engine: Engine) -> list[str]:
    """Return what the engine itself says it shares."""
    return [share.id for share in (await engine.client.status()).shares]


class SlowConfigure:
    """The first configuration reaches the engine late: whatever is said meanwhile must not get lost."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.under_way = asyncio.Event()
        self.go_on = asyncio.Event()
        self.sent: list[EngineConfig] = []
        self.error: EngineError | None = None
        self._send = engine.client.configure
        monkeypatch.setattr(engine.client, "configure", self._configure)

    async def _configure(self, config: EngineConfig) -> Status:
        self.sent.append(config)
        if len(self.sent) == 1:
            self.under_way.set()
            await self.go_on.wait()
            if self.error is not None:
                raise self.error
        return await self._send(config)


async def test_what_changes_while_the_engine_greets_reaches_it(
    idle: Engine, config: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowConfigure(idle, monkeypatch)
    await idle.async_configure(EngineConfig(home_name="Zuhause"))
    starting = asyncio.create_task(idle.async_start())
    await slow.under_way.wait()
    between = EngineConfig(home_name="Between")
    await idle.async_configure(between)
    await idle.async_configure(config)
    slow.go_on.set()
    await starting
    assert await shares_of(idle) == ["films"]
    assert idle.status is not None
    assert [share.id for share in idle.status.shares] == ["films"]
    # Only the last one counts.
    assert between not in slow.sent


async def test_what_is_refused_while_something_newer_waits_keeps_nothing_from_it(
    idle: Engine, config: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowConfigure(idle, monkeypatch)
    slow.error = EngineError(ErrorKey.UNAVAILABLE, "the index cannot be written")
    await idle.async_configure(EngineConfig(home_name="Zuhause"))
    starting = asyncio.create_task(idle.async_start())
    await slow.under_way.wait()
    await idle.async_configure(config)
    slow.go_on.set()
    await starting
    assert await shares_of(idle) == ["films"]
    assert idle.unapplied is None


async def test_of_two_configurations_on_their_way_the_later_one_counts(
    engine: Engine, config: EngineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowConfigure(engine, monkeypatch)
    former = asyncio.create_task(
        engine.async_configure(EngineConfig(home_name="Zuhause"))
    )
    await slow.under_way.wait()
    later = asyncio.create_task(engine.async_configure(config))
    with contextlib.suppress(TimeoutError):
        # Time enough to overtake, where it can.
        await until(later.done, 0.5)
    slow.go_on.set()
    await asyncio.gather(former, later)
    assert await shares_of(engine) == ["films"]


async def test_listeners_hear_events_and_may_fail_or_leave(
    engine: Engine, config: EngineConfig, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[Event | None] = []

    def fail(_event: Event | None) -> None:
        raise RuntimeError("a mistake of a listener")

    leave = engine.async_subscribe(heard.append)
    leave_too = engine.async_subscribe(fail)
    await engine.async_configure(config)
    await until(lambda: any(isinstance(event, StatusChanged) for event in heard))
    assert engine.state is EngineState.RUNNING
    assert "a mistake of a listener" in caplog.text
    leave()
    leave()
    leave_too()
    heard.clear()
    await engine.async_stop()
    assert heard == []


async def test_listeners_hear_hello_with_the_configured_state(
    idle: Engine, config: EngineConfig
) -> None:
    heard: list[Event | None] = []
    idle.async_subscribe(heard.append)
    await idle.async_configure(config)
    await idle.async_start()
    await until(lambda: any(isinstance(event, Hello) for event in heard))
    [hello] = [event for event in heard if isinstance(event, Hello)]
    assert [share.id for share in hello.status.shares] == ["films"]


async def test_it_gets_none_of_the_homes_secrets(
    idle: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERVISOR_TOKEN", "secret")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("LC_TIME", "C.UTF-8")
    await idle.async_start()
    environ = Path(f"/proc/{pid_of(idle)}/environ").read_bytes().split(b"\0")
    names = {entry.partition(b"=")[0].decode() for entry in environ if entry}
    assert {"PATH", "LC_TIME"} <= names
    assert all(
        name in ("PATH", "HOME", "LANG", "TZ", "TMPDIR") or name.startswith("LC_")
        for name in names
    )


async def test_ctrl_c_in_the_terminal_is_not_for_it(engine: Engine) -> None:
    assert os.getsid(pid_of(engine)) == pid_of(engine)


async def test_its_log_is_in_the_homes_log(
    caplog: pytest.LogCaptureFixture, idle: Engine
) -> None:
    await idle.async_start()
    ready = (
        "custom_components.pemus.p2p.engine",
        logging.INFO,
        f"PeMuS engine {VERSION} is ready",
    )
    assert ready in caplog.record_tuples


@pytest.mark.parametrize(
    ("level", "spoken"),
    [
        (5, "debug"),
        (10, "debug"),
        (20, "info"),
        (25, "warning"),
        (30, "warning"),
        (40, "error"),
        (50, "error"),
    ],
)
def test_it_speaks_from_the_level_that_the_home_logs(level: int, spoken: str) -> None:
    logger = logging.getLogger("custom_components.pemus.p2p")
    before = logger.level
    logger.setLevel(level)
    try:
        assert child.log_level() == spoken
    finally:
        logger.setLevel(before)


async def test_removing_it_leaves_no_file(
    hass: HomeAssistant, engine: Engine, config: EngineConfig
) -> None:
    await engine.async_configure(config)
    await engine.async_remove()
    assert engine.state is EngineState.STOPPED
    for folder in (".storage", ".cache"):
        assert not Path(hass.config.path(folder, DOMAIN)).exists()
    assert issues(hass) == []
    assert Path(config.shares[0].path).is_dir()


async def test_it_moves_to_its_own_environment_when_there_is_one(
    hass: HomeAssistant,
    engine_environment: Path,
    config: EngineConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The slow part, making the environment, is left out here; test_provision does it."""
    monkeypatch.delenv("PEMUS_ENGINE_ENVIRONMENT")
    ready = asyncio.Event()

    async def make(_self: Provisioner) -> Path:
        await ready.wait()
        return engine_environment / "bin" / "python"

    monkeypatch.setattr(Provisioner, "async_make", make)
    engine = Engine(hass)
    await engine.async_configure(config)
    await engine.async_start()
    try:
        assert engine.status is not None
        assert engine.status.capabilities["libtorrent"] is None
        first = pid_of(engine)
        assert Path(f"/proc/{first}/exe").readlink() == Path(sys.executable).resolve()
        ready.set()
        await until(lambda: engine.state is EngineState.STARTING)
        await until(lambda: engine.state is EngineState.RUNNING)
        assert engine.status is not None
        assert engine.status.capabilities["libtorrent"]
        assert [share.id for share in engine.status.shares] == ["films"]
        assert is_gone(first)
        # That was no crash.
        assert engine._failures == 0
    finally:
        await engine.async_stop()


async def test_without_its_environment_it_runs_with_limits_and_tries_again(
    hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    async def fail(_self: Provisioner) -> Path:
        tries.append(time.monotonic())
        raise ProvisionError(Limit.OFFLINE, "no route to host")

    monkeypatch.setattr(Provisioner, "async_make", fail)
    engine = Engine(hass)
    await engine.async_start()
    try:
        await until(lambda: engine.limited is not None)
        assert engine.state is EngineState.RUNNING
        assert engine.limited is not None
        assert engine.limited.limit is Limit.OFFLINE
        issue = ir.async_get(hass).async_get_issue(DOMAIN, supervisor.ISSUE_LIMITED)
        assert issue is not None
        assert issue.is_fixable
        assert issue.translation_placeholders == engine.limited.placeholders
        assert "no route to host" in engine.limited.placeholders["detail"]
        # It serves what it can.
        assert (await engine.client.browse("")).node.id == ""

        await engine.async_provision_again()
        await until(lambda: len(tries) == 2)
        monkeypatch.setattr(supervisor, "PROVISION_RETRY_DELAY", 0.1)
        await engine.async_provision_again()
        await until(lambda: len(tries) > 4)
    finally:
        await engine.async_stop()


async def test_to_try_again_twice_at_once_makes_one_environment(
    hass: HomeAssistant, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    under_way: set[int] = set()

    async def make(_self: Provisioner) -> Path:
        number = len(made)
        made.append(number)
        under_way.add(number)
        try:
            await asyncio.Event().wait()
        finally:
            under_way.remove(number)
        raise AssertionError("nothing ends this but a cancellation")

    monkeypatch.setattr(Provisioner, "async_make", make)
    engine = Engine(hass)
    await engine.async_start()
    try:
        await until(lambda: under_way == {0})
        await asyncio.gather(
            engine.async_provision_again(), engine.async_provision_again()
        )
        await until(lambda: len(made) > 1)
        assert under_way == {1}
    finally:
        await engine.async_stop()
    # Whatever was begun is also ended.
    assert under_way == set()


@pytest.mark.parametrize("befriended", [False, True])
async def test_to_run_with_limits_is_no_error(
    hass: HomeAssistant,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    config: EngineConfig,
    befriended: bool,
) -> None:
    async def fail(_self: Provisioner) -> Path:
        raise ProvisionError(Limit.OFFLINE, "no route to host")

    monkeypatch.setattr(Provisioner, "async_make", fail)
    engine = Engine(hass)
    await engine.async_configure(config)
    try:
        await engine.async_start()
        assert engine.status is not None
        assert engine.status.capabilities["libtorrent"] is None
        if befriended:
            friend = FriendConfig(id=ADA, name="Ada", shares=("films",))
            await engine.async_configure(replace(config, friends=(friend,)))
        # What it has to say has arrived by its end.
        await engine.async_stop()
    finally:
        await engine.async_stop()
    said = [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name.startswith("custom_components.pemus.p2p")
    ]
    assert ("INFO", f"PeMuS engine {VERSION} is ready") in said
    assert not [each for each in said if each[0] in ("WARNING", "ERROR")]
    assert "Traceback" not in caplog.text


async def test_a_damaged_environment_is_made_anew(
    hass: HomeAssistant,
    hasty: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    async def make(_self: Provisioner) -> Path:
        made.append(True)
        raise ProvisionError(Limit.OFFLINE, "")

    engine = Engine(hass)
    monkeypatch.setattr(Provisioner, "async_make", make)
    folder = Path(
        hass.config.path(
            ".cache", DOMAIN, "environments", provision._environment_name()
        )
    )
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho half of this is lost >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(EngineUnavailable):
        await engine.async_start()
    try:
        # After the crash loop it is looked into, found bad, thrown away; the engine runs with what the home has.
        await until(lambda: engine.state is EngineState.RUNNING)
        assert made
        assert not folder.exists()
    finally:
        await engine.async_stop()


HOME = """
import asyncio
import sys

from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir

from custom_components.pemus.engine.process import Engine


async def main() -> None:
    hass = HomeAssistant(sys.argv[1])
    await ir.async_load(hass)
    engine = Engine(hass)
    await engine.async_start()
    print(engine.status.pid, flush=True)
    await asyncio.sleep(1000)


asyncio.run(main())
"""


def test_the_death_of_the_home_ends_it(
    tmp_path: Path, engine_environment: Path
) -> None:
    home = subprocess.Popen(
        [sys.executable, "-c", HOME, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    try:
        assert home.stdout is not None
        engine = int(home.stdout.readline())
        family = family_of(engine)
        assert len(family) > 1, "the engine should have its media reader"
        home.kill()
        home.wait()
        before = time.monotonic()
        while not all_gone(family):
            assert time.monotonic() - before < 6
            time.sleep(0.05)
        _LOGGER.info("Nothing was left after %.2f s", time.monotonic() - before)
    finally:
        home.kill()
        home.wait()
        assert home.stdout is not None
        home.stdout.close()
