"""Installs the engine's Python environment with uv, which is part of Home Assistant.

An environment belongs to one set of pinned requirements and one type of machine. It is created under a temporary name,
checked, and then renamed, so that an incomplete one is never used. The previous one is kept, so that returning to the
previous release needs no download.

Developers can select the interpreter (PEMUS_ENGINE_PYTHON) or a complete environment (PEMUS_ENGINE_ENVIRONMENT).
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
"""The interpreter that uv downloads. uv knows its digest. It is the newest version that uv knows in every supported
release of Home Assistant, and changes only with a release of PeMuS. libtorrent has no wheel for Python 3.14."""
PROVISION_TIMEOUT: Final = 15 * 60
"""Timeout of the whole installation, in seconds. It downloads about 60 MB."""
CHECK_TIMEOUT: Final = 120
"""Timeout for loading all libraries, in seconds. The first time, the disk may be slow."""
MAX_OUTPUT: Final = 4096
"""Size of the end of uv's output that is kept, in bytes."""
SHOWN_LINES: Final = 4
"""Number of its lines to show to the user."""

_PARTIAL: Final = ".partial-"
_USED: Final = ".used"
"""A file in each environment. Its time is that of the last use."""
_PASSED_TO_ENGINE: Final = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")
_PASSED_TO_UV: Final = (
    *_PASSED_TO_ENGINE,
    # How this home reaches the internet. Home Assistant's own wheels index is excluded: its wheels do not have the
    # pinned hashes.
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
    """Why the engine's environment could not be installed."""

    OFFLINE = "offline"
    UNSUPPORTED = "unsupported"
    TIMEOUT = "timeout"
    DISK_FULL = "disk_full"
    FAILED = "failed"


_REASONS: Final = {
    Limit.OFFLINE: "Failed to download the packages. Check that Home Assistant is connected to the internet.",
    Limit.UNSUPPORTED: "There are no packages for this type of machine, or they do not run on it.",
    Limit.TIMEOUT: f"The installation took more than {PROVISION_TIMEOUT // 60} minutes.",
    Limit.DISK_FULL: "The disk is full.",
    Limit.FAILED: "uv failed.",
}
_OUTPUT_PATTERNS: Final = (
    # Texts in uv's output, and what they mean. The first match wins.
    ("no space left on device", Limit.DISK_FULL),
    # The index was reached, but the download does not match the pinned hash.
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
    """Why the engine runs in limited mode."""

    limit: Limit
    detail: str
    """The last lines of uv's output, or the system's error."""
    hosts: tuple[str, ...] = ()
    """Hosts from which the download failed."""

    @property
    def placeholders(self) -> dict[str, str]:
        """Placeholders of the repair issue: `reason` is a sentence, `detail` has lines of output."""
        reason = _REASONS[self.limit]
        if self.hosts:
            reason = f"{reason} Unreachable: {', '.join(self.hosts)}."
        return {"reason": reason, "detail": self.detail}


class ProvisionError(Exception):
    """The environment could not be installed or does not work."""

    def __init__(self, limit: Limit, detail: str, hosts: tuple[str, ...] = ()) -> None:
        """Store the reason."""
        self.reason = LimitedReason(limit=limit, detail=detail, hosts=hosts)
        super().__init__(f"{self.reason.placeholders['reason']} {detail}")


class Provisioner:
    """Manages the engine's environments in a cache folder."""

    def __init__(self, hass: HomeAssistant, cache: Path) -> None:
        """Use the folder `cache` for environments, interpreters and uv's cache."""
        self._hass = hass
        self._cache = cache
        self._environments = cache / "environments"
        # Threads cannot be cancelled, so `_clean_up` must not run while `_adopt` moves an environment.
        self._moving = threading.Lock()

    async def async_find(self) -> Path | None:
        """Return the interpreter of this release's environment, or None if it is not installed."""
        return await self._hass.async_add_executor_job(self._find)

    async def async_make(self) -> Path:
        """Install this release's environment and return its interpreter.

        Raises ProvisionError. Cancelling ends uv and its children.
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
        """Check that an environment can load the engine's libraries. Raises ProvisionError."""
        command = (str(python), "-I", str(ENGINE_MAIN), "check")
        try:
            async with asyncio.timeout(CHECK_TIMEOUT):
                status, output = await _run(command, clean_environ())
        except TimeoutError:
            raise ProvisionError(Limit.UNSUPPORTED, "the check timed out") from None
        except OSError as err:
            raise ProvisionError(Limit.UNSUPPORTED, str(err)) from err
        if status:
            raise ProvisionError(Limit.UNSUPPORTED, _last_lines(output))

    async def async_discard(self) -> None:
        """Remove this release's environment, because it is damaged."""
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
        _LOGGER.info("Installing the environment of the PeMuS engine")
        try:
            await self._make_empty(uv, partial, environ)
            python = partial / "bin" / "python"
            install = (uv, "pip", "install", "--no-config", "--python", str(python))
            # The list is complete, and deliberately deviates from a package's own requirements in one place.
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
        """Create an environment without packages, with a downloaded interpreter or one of the system."""
        venv = (uv, "venv", "--no-project", "--no-config", "--relocatable")
        if named := os.environ.get("PEMUS_ENGINE_PYTHON"):
            await _run_uv((*venv, "--python", named, str(folder)), environ)
            return
        try:
            # uv's own builds are the same on every system. The version is exact because "3.13" would also match an
            # interpreter that was downloaded for an earlier release.
            exact = ("--managed-python", "--python", PYTHON_VERSION)
            await _run_uv((*venv, *exact, str(folder)), environ)
        except ProvisionError as err:
            # An interpreter of the system, which keeps it up to date.
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
                "The PeMuS engine uses the system's Python, because Python %s could not be installed: %s",
                PYTHON_VERSION,
                err,
            )

    def _find(self) -> Path | None:
        if ready := os.environ.get("PEMUS_ENGINE_ENVIRONMENT"):
            return Path(ready) / "bin" / "python"
        environment = self._environments / _environment_name()
        python = environment / "bin" / "python"
        # False also for a broken link, if its interpreter was removed.
        if not python.exists():
            return None
        with suppress(OSError):
            (environment / _USED).touch()
        return python

    def _prepare(self) -> Path:
        """Remove incomplete environments, and return the path of a new one."""
        self._environments.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clean_up()
        return self._environments / f"{_PARTIAL}{secrets.token_hex(8)}"

    def _clean_up(self) -> None:
        with self._moving:
            for left in self._environments.glob(f"{_PARTIAL}*"):
                _remove(left)

    def _adopt(self, partial: Path, name: str) -> Path:
        """Rename a complete environment, and remove environments that are no longer needed."""
        environment = self._environments / name
        with self._moving:
            (partial / _USED).touch()
            # Without this, a power failure could leave a complete name with empty files.
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
        """Remove interpreters that no environment uses."""
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
    """Return the environment variables for a child process: `names` and the locale, but no secrets."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in names or name.startswith("LC_")
    }


def _environment_name() -> str:
    """Return the name of the environment that this release needs on this machine."""
    machine = (
        os.environ.get("PEMUS_ENGINE_PYTHON", PYTHON_VERSION),
        platform.machine(),
        # Distinguishes glibc from musl.
        str(sysconfig.get_config_var("MULTIARCH")),
    )
    digest = hashlib.sha256(REQUIREMENTS.read_bytes())
    digest.update("\0".join(machine).encode())
    return digest.hexdigest()[:32]


def _find_uv() -> str:
    """Return the path of Home Assistant's uv, or of another installed uv."""
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except ImportError, FileNotFoundError:
        found = shutil.which("uv")
    if found is None:
        raise ProvisionError(Limit.FAILED, "uv is not installed")
    return found


def _path_without_shims() -> str:
    """Return PATH without pyenv's shims, which uv mistakes for interpreters."""
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
    """Run uv. Raises ProvisionError with its last output."""
    status, output = await _run(command, environ)
    if not status:
        return
    _LOGGER.debug("%s failed: %s", " ".join(command), output)
    text = output.lower()
    matches = (limit for pattern, limit in _OUTPUT_PATTERNS if pattern in text)
    limit = next(matches, Limit.FAILED)
    hosts = _hosts(output) if limit is Limit.OFFLINE else ()
    raise ProvisionError(limit, _last_lines(output), hosts)


def _hosts(output: str) -> tuple[str, ...]:
    """Return the hosts of the URLs in uv's output, without credentials and duplicates."""
    hosts = (found["host"] for found in _ADDRESS.finditer(output))
    return tuple(dict.fromkeys(hosts))


async def _run(command: tuple[str, ...], environ: Mapping[str, str]) -> tuple[int, str]:
    """Run a command. Return its status and the end of its output.

    All processes that the command started are killed, also when this is cancelled.
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
