"""Makes the engine's own Python environment with uv, which comes with Home Assistant.

An environment belongs to one set of pinned requirements on one kind of machine. It is made beside its place and renamed
when it is complete and was seen to work, so that a half-made one is never used. The one before is kept: going back to
the release before needs no download.

Developers may name an interpreter to make it with (PEMUS_ENGINE_PYTHON), or a ready environment (PEMUS_ENGINE_ENVIRONMENT).
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
import errno
import hashlib
import logging
import os
from pathlib import Path
import platform
import re
import secrets
import shutil
import signal
import sysconfig
import threading
from typing import Final

from homeassistant.core import HomeAssistant

ENGINE_MAIN: Final = Path(__file__).parent.parent / "p2p" / "__main__.py"
REQUIREMENTS: Final = Path(__file__).parent.parent / "p2p" / "requirements.txt"

PYTHON_VERSION: Final = "3.13.17"
"""The interpreter that uv downloads, and whose digest it knows: the newest that the uv of every supported Home Assistant
knows. A release of PeMuS moves it. libtorrent has no wheel for Python 3.14."""
PROVISION_TIMEOUT: Final = 15 * 60
"""Seconds for everything together: about 60 MB to download on a slow line, on a slow disk."""
CHECK_TIMEOUT: Final = 120
"""Seconds for loading all libraries, the first time from a slow disk."""
MAX_OUTPUT: Final = 4096
"""Bytes of what uv said last, to say why it failed."""
SHOWN_LINES: Final = 4
"""Lines of it that a user is shown."""

_PARTIAL: Final = ".partial-"
_USED: Final = ".used"
"""A file in each environment that was touched when it was last chosen."""
_PASSED_TO_ENGINE: Final = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")
_PASSED_TO_UV: Final = (
    *_PASSED_TO_ENGINE,
    # How this home reaches the internet. Home Assistant's own wheels index is left out on purpose: what it serves was
    # built elsewhere and does not have the pinned hashes.
    *(f"{name}_proxy" for name in ("http", "https", "all", "no")),
    *(f"{name}_PROXY" for name in ("HTTP", "HTTPS", "ALL", "NO")),
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_OFFLINE",
    "UV_PYTHON_INSTALL_MIRROR",
    "UV_SYSTEM_CERTS",
)
_ADDRESS: Final = re.compile(
    r"https?://(?:[^/\s@`'\")]*@)?(?P<host>[\w.-]+|\[[0-9a-fA-F:.]+\])"
)
_LOGGER = logging.getLogger(__name__)


class Limit(StrEnum):
    """Why there is no environment of the engine's own."""

    OFFLINE = "offline"
    UNSUPPORTED = "unsupported"
    TIMEOUT = "timeout"
    DISK_FULL = "disk_full"
    FAILED = "failed"


_SENTENCES: Final = {
    Limit.OFFLINE: "The packages could not be downloaded. Is this home connected to the internet?",
    Limit.UNSUPPORTED: "There are no packages for this kind of machine, or they do not run on it.",
    Limit.TIMEOUT: f"It took more than {PROVISION_TIMEOUT // 60} minutes.",
    Limit.DISK_FULL: "The disk is full.",
    Limit.FAILED: "uv failed.",
}
_SIGNS: Final = (
    # What uv says, and what it means. The first that is found counts.
    ("no space left on device", Limit.DISK_FULL),
    # It was reached, but what it sent is not what is pinned.
    ("hash mismatch", Limit.FAILED),
    ("offline mode", Limit.OFFLINE),
    ("network was disabled", Limit.OFFLINE),
    ("network connectivity is disabled", Limit.OFFLINE),
    ("failed to download", Limit.OFFLINE),
    ("failed to fetch", Limit.OFFLINE),
    ("error sending request", Limit.OFFLINE),
    ("dns error", Limit.OFFLINE),
    ("timed out", Limit.OFFLINE),
    ("no solution found", Limit.UNSUPPORTED),
    ("no interpreter found", Limit.UNSUPPORTED),
    ("no wheels", Limit.UNSUPPORTED),
    ("no compatible", Limit.UNSUPPORTED),
    ("missing:", Limit.UNSUPPORTED),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedReason:
    """Why the engine runs without libraries that it should have."""

    limit: Limit
    detail: str
    """The last lines that uv said, or the system's error."""
    hosts: tuple[str, ...] = ()
    """From which nothing could be downloaded."""

    @property
    def placeholders(self) -> dict[str, str]:
        """For the texts of the repair issue: `reason` is a sentence, `detail` are lines."""
        reason = _SENTENCES[self.limit]
        if self.hosts:
            reason = f"{reason} Not reached: {', '.join(self.hosts)}."
        return {"reason": reason, "detail": self.detail}


class ProvisionError(Exception):
    """There is no environment, and this is why."""

    def __init__(self, limit: Limit, detail: str, hosts: tuple[str, ...] = ()) -> None:
        """Keep the reason."""
        self.reason = LimitedReason(limit=limit, detail=detail, hosts=hosts)
        super().__init__(f"{self.reason.placeholders['reason']} {detail}")


class Provisioner:
    """Owns the environments of the engine, below one cache folder."""

    def __init__(self, hass: HomeAssistant, cache: Path) -> None:
        """Keep environments, and what is needed to make them, below `cache`."""
        self._hass = hass
        self._cache = cache
        self._environments = cache / "environments"
        # A thread cannot be cancelled: what it puts in place must not be cleaned up under its hands.
        self._moving = threading.Lock()

    async def async_find(self) -> Path | None:
        """Return the interpreter of the ready environment for this release, None if there is none yet."""
        return await self._hass.async_add_executor_job(self._find)

    async def async_make(self) -> Path:
        """Make the environment for this release and return its interpreter.

        Raises ProvisionError. When cancelled, uv and all that it started is gone.
        """
        try:
            async with asyncio.timeout(PROVISION_TIMEOUT):
                return await self._make()
        except TimeoutError:
            raise ProvisionError(Limit.TIMEOUT, "") from None
        except OSError as err:
            full = err.errno in (errno.ENOSPC, errno.EDQUOT)
            limit = Limit.DISK_FULL if full else Limit.FAILED
            raise ProvisionError(limit, str(err)) from err

    async def async_check(self, python: Path) -> None:
        """Have an environment's interpreter load all that the engine needs. Raises ProvisionError."""
        command = (str(python), "-I", str(ENGINE_MAIN), "check")
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                status, output = await _run(command, clean_environ())
        except TimeoutError:
            raise ProvisionError(Limit.UNSUPPORTED, "it hangs") from None
        except OSError as err:
            raise ProvisionError(Limit.UNSUPPORTED, str(err)) from err
        if status:
            raise ProvisionError(Limit.UNSUPPORTED, _last_lines(output))

    async def async_discard(self) -> None:
        """Remove the environment of this release: it was found to be broken."""
        await self._hass.async_add_executor_job(
            lambda: _remove(self._environments / _environment_name())
        )

    async def _make(self) -> Path:
        run_in_executor = self._hass.async_add_executor_job
        uv = await run_in_executor(_find_uv)
        name = await run_in_executor(_environment_name)
        partial = await run_in_executor(self._prepare)
        environ = clean_environ(_PASSED_TO_UV) | {
            "NO_COLOR": "1",
            "UV_NO_PROGRESS": "1",
            "UV_CACHE_DIR": str(self._cache / "uv"),
            "UV_PYTHON_INSTALL_DIR": str(self._cache / "python"),
            "PATH": _path_without_shims(),
        }
        _LOGGER.info("Making the environment of the PeMuS engine")
        try:
            await self._make_empty(uv, partial, environ)
            python = partial / "bin" / "python"
            install = (uv, "pip", "install", "--no-config", "--python", str(python))
            # The list is whole, and in one place deliberately not what a package asks for.
            exact = ("--require-hashes", "--only-binary", ":all:", "--no-deps")
            await _run_uv((*install, *exact, "-r", str(REQUIREMENTS)), environ)
            await self.async_check(python)
            python = await run_in_executor(self._adopt, partial, name)
        finally:
            await run_in_executor(self._clean_up)
        _LOGGER.info("The environment of the PeMuS engine is ready")
        return python

    async def _make_empty(
        self, uv: str, folder: Path, environ: Mapping[str, str]
    ) -> None:
        """Make an environment without packages, of an interpreter that is downloaded or found."""
        venv = (uv, "venv", "--no-project", "--no-config", "--relocatable")
        if named := os.environ.get("PEMUS_ENGINE_PYTHON"):
            await _run_uv((*venv, "--python", named, str(folder)), environ)
            return
        try:
            # uv's own builds are all alike, whatever the system has. The exact version: any other that was downloaded
            # for an earlier release would do for "3.13".
            exact = ("--managed-python", "--python", PYTHON_VERSION)
            await _run_uv((*venv, *exact, str(folder)), environ)
        except ProvisionError as err:
            # One that the system has, and keeps up to date.
            found = (
                "--no-managed-python",
                "--python",
                PYTHON_VERSION.rpartition(".")[0],
            )
            try:
                await _run_uv((*venv, *found, str(folder)), environ)
            except ProvisionError:
                raise err from None
            _LOGGER.warning(
                "The PeMuS engine runs with the system's Python, because %s could not be installed: %s",
                PYTHON_VERSION,
                err,
            )

    def _find(self) -> Path | None:
        if ready := os.environ.get("PEMUS_ENGINE_ENVIRONMENT"):
            return Path(ready) / "bin" / "python"
        environment = self._environments / _environment_name()
        python = environment / "bin" / "python"
        # The link dangles when the interpreter that it was made with is gone.
        if not python.exists():
            return None
        with suppress(OSError):
            (environment / _USED).touch()
        return python

    def _prepare(self) -> Path:
        """Remove what earlier runs left half-made, and return a place for a new one."""
        self._environments.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clean_up()
        return self._environments / f"{_PARTIAL}{secrets.token_hex(8)}"

    def _clean_up(self) -> None:
        with self._moving:
            for left in self._environments.glob(f"{_PARTIAL}*"):
                _remove(left)

    def _adopt(self, partial: Path, name: str) -> Path:
        """Put a complete environment in its place, and remove what is not needed any more."""
        environment = self._environments / name
        with self._moving:
            (partial / _USED).touch()
            # After a power cut the name must not be there with the files empty.
            os.sync()
            _remove(environment)
            partial.rename(environment)
        others = [
            other for other in self._environments.iterdir() if other != environment
        ]
        for old in sorted(others, key=_last_use, reverse=True)[1:]:
            _remove(old)
        _remove(self._cache / "uv")
        self._remove_interpreters()
        return environment / "bin" / "python"

    def _remove_interpreters(self) -> None:
        """Remove what was downloaded for environments that are gone."""
        used = {
            (each / "bin" / "python").resolve() for each in self._environments.iterdir()
        }
        for folder in (self._cache / "python").glob("cpython-*"):
            home = folder.resolve()
            if any(python.is_relative_to(home) for python in used):
                continue
            if folder.is_symlink():
                folder.unlink()
            else:
                _remove(folder)


def clean_environ(names: tuple[str, ...] = _PASSED_TO_ENGINE) -> dict[str, str]:
    """Return the environment variables for a child process: these and the locale, none of Home Assistant's secrets."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in names or name.startswith("LC_")
    }


def _environment_name() -> str:
    """Return the name of the environment that this release needs on this machine."""
    facts = (
        os.environ.get("PEMUS_ENGINE_PYTHON", PYTHON_VERSION),
        platform.machine(),
        # Tells glibc from musl.
        str(sysconfig.get_config_var("MULTIARCH")),
    )
    digest = hashlib.sha256(REQUIREMENTS.read_bytes())
    digest.update("\0".join(facts).encode())
    return digest.hexdigest()[:32]


def _find_uv() -> str:
    """Return the path of uv: Home Assistant's own, or one that is installed."""
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except ImportError, FileNotFoundError:
        found = shutil.which("uv")
    if found is None:
        raise ProvisionError(Limit.FAILED, "uv is not installed")
    return found


def _path_without_shims() -> str:
    """Return the search path without pyenv's stand-ins, which uv takes for interpreters and stumbles over."""
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(entry for entry in entries if Path(entry).name != "shims")


def _last_use(environment: Path) -> float:
    try:
        return (environment / _USED).stat().st_mtime
    except OSError:
        return 0


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _last_lines(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return "\n".join(lines[-SHOWN_LINES:])


async def _run_uv(command: tuple[str, ...], environ: Mapping[str, str]) -> None:
    """Run uv. Raises ProvisionError with what it said."""
    status, output = await _run(command, environ)
    if not status:
        return
    _LOGGER.debug("%s failed: %s", " ".join(command), output)
    said = output.lower()
    limit = next((limit for sign, limit in _SIGNS if sign in said), Limit.FAILED)
    hosts = _hosts(output) if limit is Limit.OFFLINE else ()
    raise ProvisionError(limit, _last_lines(output), hosts)


def _hosts(output: str) -> tuple[str, ...]:
    """Return the hosts of the addresses in what uv said, each once, without what may stand before them."""
    hosts = (found["host"] for found in _ADDRESS.finditer(output))
    return tuple(dict.fromkeys(hosts))


async def _run(command: tuple[str, ...], environ: Mapping[str, str]) -> tuple[int, str]:
    """Run a command to its end; return its status and the end of what it wrote.

    However this ends, nothing that the command started is left.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environ,
        start_new_session=True,
    )
    assert process.stdout is not None
    output = b""
    try:
        while chunk := await process.stdout.read(MAX_OUTPUT):
            output = (output + chunk)[-MAX_OUTPUT:]
        status = await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return status, output.decode(errors="replace")
