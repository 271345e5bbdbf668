"""coturn, the STUN and TURN server (RFC 8489, RFC 8656), as a child process.

coturn ends with this process, even if this process is killed. It restarts when it ends, when it stops answering, and when the
addresses of this machine change.
"""

from __future__ import annotations

import asyncio
from collections import deque
import contextlib
import logging
import os
from pathlib import Path
import pwd
import secrets
import shutil
import socket
import sys
import tempfile
import time
from typing import Final

from pemus_signaling.net.interfaces import Interface

from .configuration import (
    CoturnError,
    CoturnSettings,
    choose_addresses,
    configuration,
    machine_addresses,
)

START_TIMEOUT: Final = 20.0
"""Time limit for the first answer of coturn, in seconds."""
STOP_TIMEOUT: Final = 5.0
"""Seconds from SIGTERM to SIGKILL."""
CHECK_INTERVAL: Final = 10.0
"""Seconds between two checks that coturn answers, and that the addresses of this machine are the same."""
CHECKS: Final = 3
"""Failed checks in a row after which coturn restarts."""
PROBE_TIMEOUT: Final = 1.0
"""Time limit for the answer to a check, in seconds."""
_PROBE_PAUSE: Final = 0.05
FIRST_PAUSE: Final = 1.0
LAST_PAUSE: Final = 60.0
"""Seconds before a restart. They double each time, and start again after coturn ran for longer than `LAST_PAUSE`."""

_UNPRIVILEGED_USER: Final = "nobody"
"""The user that coturn runs as if this process is root."""
_OUTPUT_LINES: Final = 20
"""Lines of output that are logged if coturn does not start."""
_LONGEST_LINE: Final = 4096
_COOKIE: Final = 0x2112A442.to_bytes(4)

# This program becomes coturn. It first drops root, because Linux clears the signal for the parent's death (prctl) when a process
# changes its user.
_TETHERED: Final = """
import ctypes, os, signal, sys
parent, uid, gid = map(int, sys.argv[1:4])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != parent:
    sys.exit(1)
os.execv(sys.argv[4], sys.argv[4:])
"""

_LOGGER = logging.getLogger(__name__)


class Coturn:
    """Runs coturn."""

    def __init__(self, settings: CoturnSettings) -> None:
        """Prepare to run coturn."""
        self._settings = settings
        self._keeping: asyncio.Task[None] | None = None
        self.is_ready = False
        """Whether coturn answers."""
        self.starts = 0
        """How often coturn was started."""

    async def start(self) -> None:
        """Start coturn in the background. Failures are logged, and it tries again."""
        self._keeping = asyncio.create_task(self._keep(), name="coturn")

    async def close(self) -> None:
        """Stop coturn. May be called at any time."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeping

    async def _keep(self) -> None:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            try:
                await self._run()
            except (CoturnError, OSError) as error:
                if time.monotonic() > began + LAST_PAUSE:
                    pause = FIRST_PAUSE
                _LOGGER.error(
                    "TURN is not available: %s. Next attempt in %d s",
                    error,
                    pause,
                )
                await asyncio.sleep(pause)
                pause = min(LAST_PAUSE, 2 * pause)

    async def _run(self) -> None:
        """Run coturn until the addresses of this machine change. Raises CoturnError if it ends or does not answer."""
        program = shutil.which(self._settings.program)
        if program is None:
            raise CoturnError(
                f"{self._settings.program} is not installed (on Debian: apt install coturn)"
            )
        addresses = machine_addresses()
        listen, relay = choose_addresses(self._settings, addresses)
        if await answers(listen[0], self._settings.port):
            raise CoturnError(f"another server has port {self._settings.port}")
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="pemus-turn-"))
        process = None
        try:
            file = folder / "turnserver.conf"
            lines = configuration(self._settings, listen, relay, addresses, folder)
            await asyncio.to_thread(_lay_out, folder, file, "\n".join(lines) + "\n")
            process = await self._spawn(program, file)
            await self._watch(process, listen[0], addresses, file)
        finally:
            self.is_ready = False
            if process is not None:
                await _end(process)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _spawn(self, program: str, file: Path) -> asyncio.subprocess.Process:
        self.starts += 1
        try:
            # fmt: off
            return await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-c", _TETHERED, str(os.getpid()), *map(str, _user()), program, "-c", str(file),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                # This process's environment may contain secrets.
                env={"PATH": os.environ.get("PATH", os.defpath)},
                cwd=file.parent,
                limit=_LONGEST_LINE,
            )
            # fmt: on
        except OSError as error:
            raise CoturnError(f"it cannot be started: {error.strerror}") from error

    async def _watch(
        self,
        process: asyncio.subprocess.Process,
        address: str,
        addresses: frozenset[Interface],
        file: Path,
    ) -> None:
        said: deque[str] = deque(maxlen=_OUTPUT_LINES)
        listening = asyncio.create_task(self._listen(process, said))
        ended = asyncio.create_task(process.wait())
        try:
            await self._become_ready(process, address, said)
            # coturn has read the file. It contains the secret, so it must not remain if this process is killed.
            await asyncio.to_thread(file.unlink)
            self.is_ready = True
            _LOGGER.info("TURN is running on port %d", self._settings.port)
            missed = 0
            while not (await asyncio.wait((ended,), timeout=CHECK_INTERVAL))[0]:
                if machine_addresses() != addresses:
                    _LOGGER.info("The addresses of this machine changed. TURN restarts")
                    return
                missed = (
                    0 if await answers(address, self._settings.port) else missed + 1
                )
                if missed == CHECKS:
                    raise CoturnError("it stopped answering")
            raise CoturnError(f"it ended with status {process.returncode}")
        finally:
            for task in (listening, ended):
                task.cancel()
            await asyncio.gather(listening, ended, return_exceptions=True)

    async def _become_ready(
        self, process: asyncio.subprocess.Process, address: str, said: deque[str]
    ) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_TIMEOUT):
                while process.returncode is None:
                    if await answers(address, self._settings.port):
                        return
                    await asyncio.sleep(_PROBE_PAUSE)
        for line in said:
            _LOGGER.error("coturn: %s", line)
        raise CoturnError(
            "it did not start"
            if process.returncode is None
            else f"it ended with status {process.returncode}"
        )

    async def _listen(
        self, process: asyncio.subprocess.Process, said: deque[str]
    ) -> None:
        """Keep the output while coturn starts. Later output contains addresses of clients, and is discarded."""
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # A line that is too long.
                continue
            if not line:
                return
            text = line.decode("utf-8", "replace").strip()
            if not self.is_ready and text and self._settings.secret not in text:
                said.append(text)


async def answers(address: str, port: int) -> bool:
    """Return whether a STUN server answers a binding request (RFC 8489, section 3) within `PROBE_TIMEOUT`."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    transaction = _COOKIE + secrets.token_bytes(12)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect((address, port))
            probe.send(b"\x00\x01\x00\x00" + transaction)
            async with asyncio.timeout(PROBE_TIMEOUT):
                while (answer := await loop.sock_recv(probe, 1500))[
                    4:20
                ] != transaction:
                    pass
        except OSError:
            return False
    return answer[:2] == b"\x01\x01"


def _lay_out(folder: Path, file: Path, text: str) -> None:
    """Write coturn's file, owned by the user that coturn runs as."""
    file.touch(mode=0o600)
    file.write_text(text)
    uid, gid = _user()
    for path in (file, folder):
        os.chown(path, uid, gid)


def _user() -> tuple[int, int]:
    """Return the user and the group that coturn runs as."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    user = pwd.getpwnam(_UNPRIVILEGED_USER)
    return user.pw_uid, user.pw_gid


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
