"""Programs that the server works with, as Debian has them: where they are, and one of them for a test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import shutil
import signal
import subprocess

import pytest

from tests.patience import until

_POLICY = Path("/usr/sbin/policy-rc.d")
"""Asked by Debian's packages whether they may start their services."""


def find_program(name: str, package: str) -> Path:
    """Return a program's path. The test fails if it is not there and `install` did not help."""
    problem = install(name, package)
    found = _which(name)
    if found is None:
        pytest.fail(
            f"{name} is missing. Install it (on Debian: apt install {package}), or run the tests as root. {problem}",
            pytrace=False,
        )
    return found


def install(name: str, package: str) -> str:
    """Install a program with apt, if it is missing and that is allowed. Return what went wrong, an empty text if nothing did.

    No service of the package is left running, now or after the next boot.
    """
    if _which(name) or os.geteuid() != 0 or not shutil.which("apt-get"):
        return ""
    forbids = not _POLICY.exists()
    if forbids:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wait = ("-o", "DPkg::Lock::Timeout=120")
    try:
        for command in (
            ("update",),
            ("install", "--yes", "--no-install-recommends", package),
        ):
            done = subprocess.run(
                ["apt-get", *wait, *command],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                return f"apt-get {command[0]}: {done.stderr}"
    finally:
        if forbids:
            _POLICY.unlink(missing_ok=True)
    if shutil.which("systemctl"):
        subprocess.run(
            ["systemctl", "disable", package], capture_output=True, check=False
        )
    return ""


def _which(name: str) -> Path | None:
    found = shutil.which(
        name, path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    )
    return Path(found) if found else None


class Redis:
    """A Redis of a test's own, which keeps nothing. It may go away and come back at the same address."""

    def __init__(self, program: Path, folder: Path) -> None:
        """Prepare one that listens at a socket in `folder`."""
        self._program = program
        self._socket = folder / "redis.sock"
        self._process: asyncio.subprocess.Process | None = None
        self.url = f"unix://{self._socket}"

    async def start(self) -> None:
        """Start, and wait until it answers."""
        # fmt: off
        self._process = await asyncio.create_subprocess_exec(
            self._program, "--port", "0", "--unixsocket", self._socket, "--save", "", "--appendonly", "no",
            "--daemonize", "no", "--dir", self._socket.parent,
            stdout=asyncio.subprocess.DEVNULL,
        )
        # fmt: on
        await until(self._answers)

    async def stop(self) -> None:
        """End at once, as when the machine is gone."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def stuck(self) -> Iterator[None]:
        """Have it answer nobody for a while, and lose nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    async def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, "redis-server ended"
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
        except OSError:
            return False
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
