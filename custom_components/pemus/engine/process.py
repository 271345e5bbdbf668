"""Supervises the engine: starts its process, watches it, and restarts it.

One `Engine` exists in `hass.data` from the first set-up of the integration until it is removed or Home Assistant
stops. Reloading the integration does not affect it. The engine runs in its own environment once that is installed,
and until then under Home Assistant's interpreter, in limited mode.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
import logging
from pathlib import Path
import secrets
import shutil
import sys
import tempfile
from typing import Any, Final, NoReturn

from homeassistant.const import EVENT_HOMEASSISTANT_STOP
from homeassistant.core import (
    CALLBACK_TYPE,
    Event as HassEvent,
    HomeAssistant,
    callback,
)
from homeassistant.helpers import issue_registry as ir
from homeassistant.util.hass_dict import HassKey

from custom_components.pemus.const import DOMAIN
from custom_components.pemus.p2p.models import (
    API_VERSION,
    EngineConfig,
    Event,
    Hello,
    Status,
    StatusChanged,
)
from custom_components.pemus.p2p.models.version import VERSION

from .child import describe_exit, start_child, stop_child
from .client import EngineClient, EngineError, EngineOutdated, EngineUnavailable
from .log import EngineLog
from .provision import LimitedReason, Provisioner, ProvisionError

READY_TIMEOUT: Final = 45
"""Timeout from the start of the process to its Hello, in seconds. Usually it takes one, but on a cold, slow disk the
media reader alone can take 20."""
RECONNECT_TIMEOUT: Final = 10
"""How long a running engine can be unreachable before it is restarted, in seconds."""
CONNECT_RETRY_DELAY: Final = 0.1
CONFIGURE_TIMEOUT: Final = 10
DRAIN_TIMEOUT: Final = 1
"""How long to read the remaining output of a process that ended, in seconds."""
RESTART_DELAYS: Final = (0.2, 1, 2, 5, 10, 30, 60)
"""Delays before consecutive restarts, in seconds. The first is short, so that a single crash is hardly noticed."""
HEALTHY_TIME: Final = 60
"""How long the engine must run before earlier failures are forgotten, in seconds."""
CRASH_LOOP_FAILURES: Final = 4
"""Consecutive failures, crashes or hangs, that raise a repair issue."""
PROVISION_RETRY_DELAY: Final = 60 * 60
"""Delay between attempts to install the engine's environment, in seconds."""
SHOWN_ERROR_LENGTH: Final = 500
"""Characters of the engine's last line that the repair issue shows."""

ISSUE_CRASH_LOOP: Final = "engine_crash_loop"
ISSUE_LIMITED: Final = "engine_limited"
ISSUE_MISMATCH: Final = "engine_mismatch"

DATA_ENGINE: HassKey[Engine] = HassKey("pemus_engine")

_LOGGER = logging.getLogger(__name__)


class EngineState(StrEnum):
    """The state of the engine's process."""

    STOPPED = "stopped"
    STARTING = "starting"
    """Also while it moves to a new environment."""
    RUNNING = "running"
    RESTARTING = "restarting"
    """The process ended and will be started again."""
    FAILED = "failed"
    """The process keeps crashing, and is restarted with growing delays; or it belongs to a different release."""


class _CrashedError(Exception):
    """The engine ended unexpectedly or does not answer."""


class _MismatchError(Exception):
    """The engine on disk belongs to a different release."""


class Engine:
    """The engine and its supervisor."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Create the supervisor. `async_start` starts the engine."""
        self._hass = hass
        self._data = Path(hass.config.path(".storage", DOMAIN))
        self._cache = Path(hass.config.path(".cache", DOMAIN))
        # Not in the configuration folder: a socket's path is limited to 107 bytes (unix(7)).
        self._run_folder = Path(tempfile.gettempdir(), f"pemus-{secrets.token_hex(8)}")
        self._socket = self._run_folder / "engine.sock"
        self._provisioner = Provisioner(hass, self._cache)
        self._config: EngineConfig | None = None
        self._listeners: set[Callable[[Event | None], None]] = set()
        self._python: Path | None = None
        self._better_python = asyncio.Event()
        self._greeted = asyncio.Event()
        self._first_attempt = asyncio.Event()
        self._supervision: asyncio.Task[None] | None = None
        self._provisioning: asyncio.Task[None] | None = None
        self._start_stop = asyncio.Lock()
        self._configuring = asyncio.Lock()
        self._stop_listening: CALLBACK_TYPE | None = None
        self._failures = 0
        self.client = EngineClient(str(self._socket))
        self.state = EngineState.STOPPED
        self.status: Status | None = None
        self.limited: LimitedReason | None = None
        self.unapplied: str | None = None
        """Why the engine did not apply its configuration, in plain English, or None."""

    async def async_start(self) -> None:
        """Start the engine if necessary, and wait until it runs.

        Raises EngineUnavailable if it does not run. The supervisor keeps trying in the background.
        """
        async with self._start_stop:
            if self._supervision is None:
                await self._start()
        await self._first_attempt.wait()
        if self.state is not EngineState.RUNNING:
            kind = EngineOutdated if self.client.outdated else EngineUnavailable
            raise kind("the engine is not running; see the log")

    async def async_stop(self) -> None:
        """Stop the engine and all tasks. It can be started again."""
        async with self._start_stop:
            if self._stop_listening is not None:
                self._stop_listening()
                self._stop_listening = None
            await _cancel(self._provisioning)
            await _cancel(self._supervision)
            self._provisioning = self._supervision = None
            await self.client.close()
            await self._hass.async_add_executor_job(
                lambda: shutil.rmtree(self._run_folder, ignore_errors=True)
            )
            # A stopped engine has no problems to repair.
            for issue in (ISSUE_CRASH_LOOP, ISSUE_LIMITED, ISSUE_MISMATCH):
                ir.async_delete_issue(self._hass, DOMAIN, issue)
            self.limited = None
            self._set_state(EngineState.STOPPED)

    async def async_remove(self) -> None:
        """Stop the engine and remove its environments, caches and index."""
        await self.async_stop()
        self._config = None

        def remove() -> None:
            for folder in (self._cache, self._data):
                shutil.rmtree(folder, ignore_errors=True)

        await self._hass.async_add_executor_job(remove)

    async def async_configure(self, config: EngineConfig) -> None:
        """Configure the engine, now and after each restart. Raises EngineError."""
        self._config = config
        if self.state is not EngineState.RUNNING:
            # The engine gets the configuration after its Hello.
            return
        try:
            self._take(await self._send_config())
        except EngineError as err:
            self.unapplied = err.message
            raise
        except EngineUnavailable as err:
            # The engine is probably stopping. It gets the configuration after the next start.
            self.unapplied = str(err)
            _LOGGER.debug("Failed to configure the engine: %s", err)
        else:
            self.unapplied = None

    async def _send_config(self) -> Status:
        """Send the newest configuration until it no longer changes. Raises EngineError, EngineUnavailable."""
        async with self._configuring:
            while True:
                assert self._config is not None
                config = self._config
                try:
                    status = await self.client.configure(config)
                except EngineError:
                    if config is self._config:
                        raise
                else:
                    if config is self._config:
                        return status

    async def async_provision_again(self) -> None:
        """Retry to install the engine's environment, in the background."""
        former = self._provisioning
        await _cancel(former)
        if self._provisioning is not former:
            # A concurrent call has started it, or the engine was stopped.
            return
        if self._python is None and self._supervision is not None:
            self._provision_in_background()

    @callback
    def async_subscribe(
        self, listener: Callable[[Event | None], None]
    ) -> CALLBACK_TYPE:
        """Call a listener with each event, and with None whenever `state` changes."""
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    async def _start(self) -> None:
        def make_folders() -> None:
            self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._run_folder.mkdir(mode=0o700)

        self._python = await self._provisioner.async_find()
        try:
            await self._hass.async_add_executor_job(make_folders)
        except OSError as err:
            raise EngineUnavailable(f"failed to create its folders: {err}") from err
        self.client.outdated = False
        self._first_attempt.clear()
        self._failures = 0
        self._stop_listening = self._hass.bus.async_listen_once(
            EVENT_HOMEASSISTANT_STOP, self._async_home_stops
        )
        self._supervision = self._hass.async_create_background_task(
            self._supervise(), "PeMuS engine"
        )
        if self._python is None:
            self._provision_in_background()
        else:
            self._set_limited(None)

    async def _async_home_stops(self, _event: HassEvent) -> None:
        self._stop_listening = None
        await self.async_stop()

    # The process

    async def _supervise(self) -> None:
        """Run and restart the engine until cancelled."""
        self._set_state(EngineState.STARTING)
        try:
            while True:
                log = EngineLog()
                try:
                    await self._run(log)
                except _CrashedError as err:
                    self._note_crash(str(err), log)
                except _MismatchError as err:
                    self._note_mismatch(str(err))
                    return
                except Exception as err:
                    # A bug must not end the supervision.
                    _LOGGER.exception(
                        "Unexpected error while supervising the PeMuS engine"
                    )
                    self._note_crash(repr(err), log)
                else:
                    # The engine was stopped to restart in its own environment.
                    continue
                await asyncio.sleep(
                    RESTART_DELAYS[min(self._failures, len(RESTART_DELAYS)) - 1]
                )
                if self._failures == CRASH_LOOP_FAILURES:
                    await self._doubt_environment()
        finally:
            self._first_attempt.set()

    async def _run(self, log: EngineLog) -> None:
        """Run the engine once. Return when it should restart in another environment.

        Raises _CrashedError, _MismatchError.
        """
        self._better_python.clear()
        self._greeted.clear()
        try:
            process = await start_child(
                self._python or Path(sys.executable),
                data=self._data,
                cache=self._cache,
                socket=self._socket,
            )
        except OSError as err:
            raise _CrashedError(f"failed to start: {err}") from err
        assert process.stderr is not None
        reading = asyncio.create_task(log.follow(process.stderr))
        ended = asyncio.create_task(process.wait())
        following = asyncio.create_task(self._follow())
        replacing = asyncio.create_task(self._better_python.wait())
        settling = asyncio.create_task(self._settle())
        watchers = (ended, following, replacing)
        try:
            await asyncio.wait(watchers, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise _CrashedError(describe_exit(ended.result()))
            if following.done():
                # `_follow` ends only with an exception.
                following.result()
        finally:
            for task in (*watchers, settling):
                await _cancel(task)
            self.status = None
            if self.state is not EngineState.FAILED:
                planned = self._better_python.is_set()
                self._set_state(
                    EngineState.STARTING if planned else EngineState.RESTARTING
                )
            await stop_child(process)
            await asyncio.wait((reading,), timeout=DRAIN_TIMEOUT)
            await _cancel(reading)

    async def _follow(self) -> NoReturn:
        """Follow the event stream. Raises _CrashedError if the engine is unreachable, and _MismatchError."""
        loop = asyncio.get_running_loop()
        reason = ""
        try:
            async with asyncio.timeout(READY_TIMEOUT) as patience:
                while True:
                    try:
                        async with self.client.events() as events:
                            async for event in events:
                                if isinstance(event, Hello):
                                    patience.reschedule(None)
                                    event = await self._greet(event.status)
                                elif isinstance(event, StatusChanged):
                                    self._take(event.status)
                                self._tell(event)
                    except EngineUnavailable as err:
                        reason = str(err)
                    if patience.when() is None:
                        patience.reschedule(loop.time() + RECONNECT_TIMEOUT)
                    await asyncio.sleep(CONNECT_RETRY_DELAY)
        except TimeoutError:
            raise _CrashedError(f"no answer: {reason}") from None

    async def _greet(self, status: Status) -> Hello:
        """Check the release of an engine after its Hello, and configure it.

        Return a Hello with the status after the configuration.
        """
        if (status.api_version, status.version) != (API_VERSION, VERSION):
            raise _MismatchError(status.version)
        ir.async_delete_issue(self._hass, DOMAIN, ISSUE_MISMATCH)
        if self._config is not None:
            try:
                # Bounded, because the event stream is not read meanwhile.
                async with asyncio.timeout(CONFIGURE_TIMEOUT):
                    status = await self._send_config()
            except (EngineError, EngineUnavailable, TimeoutError) as err:
                self.unapplied = str(err) or "it did not answer in time"
                _LOGGER.error("The engine did not apply its configuration: %s", err)
            else:
                self.unapplied = None
        self.status = status
        self._set_state(EngineState.RUNNING)
        self._greeted.set()
        return Hello(status=status)

    def _take(self, status: Status) -> None:
        """Store a status, unless a newer one is already known."""
        if self.status is None or status.serial >= self.status.serial:
            self.status = status

    async def _settle(self) -> None:
        """Forget earlier failures when the engine has run for HEALTHY_TIME."""
        await self._greeted.wait()
        answers = False
        while not answers:
            await asyncio.sleep(HEALTHY_TIME)
            # A hanging engine may not have been detected yet.
            with suppress(EngineError, EngineUnavailable):
                await self.client.status()
                answers = True
        self._failures = 0
        ir.async_delete_issue(self._hass, DOMAIN, ISSUE_CRASH_LOOP)

    def _note_crash(self, reason: str, log: EngineLog) -> None:
        self._failures += 1
        _LOGGER.warning(
            "The PeMuS engine failed: %s. Its last messages:\n%s",
            reason,
            "\n".join(log.lines) or "(none)",
        )
        if self._failures >= CRASH_LOOP_FAILURES:
            self._set_state(EngineState.FAILED)
            error = (log.last or reason)[:SHOWN_ERROR_LENGTH]
            self._create_issue(ISSUE_CRASH_LOOP, {"error": error})
        self._first_attempt.set()

    def _note_mismatch(self, version: str) -> None:
        _LOGGER.error(
            "The PeMuS engine has release %s, but the integration has %s: restart Home Assistant",
            version,
            VERSION,
        )
        self.client.outdated = True
        self._set_state(EngineState.FAILED)
        self._create_issue(ISSUE_MISMATCH, {"version": version, "expected": VERSION})

    def _create_issue(
        self, issue: str, placeholders: dict[str, str], *, is_fixable: bool = False
    ) -> None:
        ir.async_create_issue(
            self._hass,
            DOMAIN,
            issue,
            is_fixable=is_fixable,
            severity=ir.IssueSeverity.WARNING if is_fixable else ir.IssueSeverity.ERROR,
            translation_key=issue,
            translation_placeholders=placeholders,
        )

    # The environment

    def _provision_in_background(self) -> None:
        self._provisioning = self._hass.async_create_background_task(
            self._provision(), "PeMuS engine environment"
        )

    async def _provision(self) -> None:
        """Install the engine's environment, with retries, and restart the engine in it."""
        while True:
            try:
                self._python = await self._provisioner.async_make()
            except ProvisionError as err:
                _LOGGER.warning("The PeMuS engine runs in limited mode: %s", err)
                self._set_limited(err.reason)
            else:
                self._set_limited(None)
                self._better_python.set()
                return
            await asyncio.sleep(PROVISION_RETRY_DELAY)

    async def _doubt_environment(self) -> None:
        """Check whether a damaged environment causes the crashes. If so, install a new one."""
        if self._python is None:
            return
        try:
            await self._provisioner.async_check(self._python)
        except ProvisionError as err:
            _LOGGER.warning("The environment of the PeMuS engine is damaged: %s", err)
            self._python = None
            await self._provisioner.async_discard()
            self._provision_in_background()

    def _set_limited(self, reason: LimitedReason | None) -> None:
        self.limited = reason
        if reason is None:
            ir.async_delete_issue(self._hass, DOMAIN, ISSUE_LIMITED)
        else:
            self._create_issue(ISSUE_LIMITED, reason.placeholders, is_fixable=True)
        self._tell(None)

    # Listeners

    def _set_state(self, state: EngineState) -> None:
        if state is self.state:
            return
        self.state = state
        if state is EngineState.RUNNING:
            self._first_attempt.set()
        self._tell(None)

    def _tell(self, event: Event | None) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(event)
            except Exception:
                # A bug in a listener must not stop the engine.
                _LOGGER.exception("Unexpected error in a listener of the PeMuS engine")


async def _cancel(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task and wait until it has ended."""
    if task is None:
        return
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()


@callback
def async_client(hass: HomeAssistant) -> EngineClient:
    """Return the client of the current engine. Raises EngineUnavailable if PeMuS is not set up."""
    if (engine := hass.data.get(DATA_ENGINE)) is None:
        raise EngineUnavailable("PeMuS is not set up")
    return engine.client
