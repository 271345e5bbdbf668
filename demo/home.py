"""A real Home Assistant with PeMuS, for the demo, the end-to-end tests and the benchmarks."""

from __future__ import annotations

import asyncio
from contextlib import suppress
import ctypes
import itertools
import json
import os
from pathlib import Path
import re
import signal
import socket
import sys
import time
from typing import Any, Self

import aiohttp
import psutil  # type: ignore[import-untyped]

ROOT = Path(__file__).parent.parent
ENGINE = str(Path("pemus", "p2p", "__main__.py"))
HOST = "127.0.0.1"
DEFAULT_PORT = 8123
USER = "demo"
PASSWORD = "demo"  # noqa: S105
HOME_NAME = "Demo home"

START_TIMEOUT = 120
"""Seconds until Home Assistant answers; the first start on a slow machine compiles a lot of Python."""
SETUP_TIMEOUT = 120
"""Seconds until PeMuS is loaded; it may have to make the engine's environment."""
ENVIRONMENT_TIMEOUT = 120
"""Seconds to make the engine's environment: some 60 MB to download."""
LIBRARY_TIMEOUT = 90
"""Seconds until the sample library is read."""
PATIENCE = 20
"""Seconds that script/run waits for the library."""
STOP_TIMEOUT = 30
"""Seconds that Home Assistant has for a clean stop, before it is killed."""
POLL = 0.2
_PR_SET_PDEATHSIG = 1
RESTART_STATUS = 100
"""With this status Home Assistant ends when it wants to be started again."""

CONFIGURATION = """\
# Written anew at each start.
homeassistant:
  name: {name}
  country: DE
  language: en
  time_zone: Europe/Berlin
  unit_system: metric
  currency: EUR
config:
frontend:
media_source:
my:
system_health:
logger:
  default: warning
  logs:
    custom_components.pemus: info
    # Complaints about programs that cameras would need.
    haffmpeg: critical
    homeassistant.components.camera.img_util: critical
"""


class HomeError(Exception):
    """The home did not do what was asked. The message is fit to be shown."""


SOCKET_REST = 20
"""Seconds without a question, after which a new WebSocket is opened for the next one."""


class Home:
    """One Home Assistant: its folder, its process, and an administrator's session with it."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        python: Path | None = None,
        configuration: str = "",
        environ: dict[str, str] | None = None,
        name: str = HOME_NAME,
    ) -> None:
        """Prepare; nothing runs yet. `name` is what the home is called.

        `python` belongs to the environment that Home Assistant is installed in. `configuration` is YAML and `environ`
        are variables to be added.
        """
        self.folder = folder
        self.name = name
        slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        self.scan_state = f"sensor.{slug}_scan"
        """Entity that tells what the library is doing."""
        self.port = port or free_port(DEFAULT_PORT)
        self.url = f"http://{HOST}:{self.port}"
        self.log = folder / "output.log"
        self.process: asyncio.subprocess.Process | None = None
        self.tokens: dict[str, Any] = {}
        self._python = python or Path(sys.executable)
        self._configuration = configuration
        self._environ = environ or {}
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._asked = 0.0
        self._numbers = itertools.count(1)
        self._asking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Start the home. It is stopped if that fails."""
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop the home."""
        await self.stop()

    @property
    def session(self) -> aiohttp.ClientSession:
        """A session that is signed in as the administrator."""
        if self._session is None:
            raise HomeError("the home was not started")
        return self._session

    async def start(self) -> None:
        """Start Home Assistant, make the administrator at the first start, and sign in. Raises HomeError."""
        self._write_folder()
        with self.log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(self._python, "-m", "homeassistant", "--config", self.folder),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Not where the sources are: their custom_components would be taken for its own.
                cwd=self.folder,
                env=os.environ | self._environ,
                # A Ctrl-C in the terminal is for this process, which then stops Home Assistant.
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._wait_until_it_answers()
                await self._sign_in()
                await self._wait_until_running()
        except TimeoutError:
            raise HomeError(
                f"Home Assistant did not start in {START_TIMEOUT} s\n{self.last_lines()}"
            ) from None

    async def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """End Home Assistant and wait for its end."""
        if self._socket is not None:
            await self._socket.close()
        if self._session is not None:
            await self._session.close()
        self._socket = self._session = None
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(sign)
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def get(self, path: str) -> Any:
        """Return the answer to a GET request of Home Assistant's REST API. Raises HomeError."""
        return await self._rest("GET", path)

    async def post(self, path: str, body: Any = None) -> Any:
        """Return the answer to a POST request of Home Assistant's REST API. Raises HomeError."""
        return await self._rest("POST", path, body)

    async def ask(self, kind: str, **message: Any) -> Any:
        """Return the result of a WebSocket command. Raises HomeError."""
        async with self._asking:
            idle = time.monotonic() - self._asked
            if self._socket is not None and idle > SOCKET_REST:
                # Home Assistant hangs up on a socket on which its pings are not answered; they are only while one reads.
                await self._socket.close()
            if self._socket is None or self._socket.closed:
                self._socket = await self._open_socket()
            number = next(self._numbers)
            await self._socket.send_json({"id": number, "type": kind, **message})
            while True:
                answer = await self._socket.receive_json()
                if answer.get("id") == number and answer["type"] == "result":
                    break
            self._asked = time.monotonic()
        if not answer["success"]:
            raise HomeError(f"{kind}: {answer['error']['message']}")
        return answer["result"]

    async def share(self, folder: Path, name: str) -> None:
        """Set PeMuS up so that it shares this folder and no other. Raises HomeError."""
        entry = await self.entry()
        shares = await self.ask("config_entries/subentries/list", entry_id=entry)
        for share in shares:
            if share["unique_id"] != str(folder.resolve()):
                await self.ask(
                    "config_entries/subentries/delete",
                    entry_id=entry,
                    subentry_id=share["subentry_id"],
                )
        if str(folder.resolve()) in {share["unique_id"] for share in shares}:
            return
        flows = "/api/config/config_entries/subentries/flow"
        flow = await self.post(flows, {"handler": [entry, "share"]})
        answer = {
            "path": str(folder),
            "name": name,
            "kinds": ["video", "music", "photo"],
        }
        await self.finish(flows, flow["flow_id"], answer)

    async def browse(self, node: str = "") -> Any:
        """Return what the media browser shows of a place in the library. Raises HomeError."""
        return await self.ask(
            "media_source/browse_media",
            media_content_id=f"media-source://pemus/{node}".rstrip("/"),
        )

    def engine(self) -> psutil.Process | None:
        """Return the process of the engine, None if it does not run."""
        for process in self.family():
            with suppress(psutil.Error):
                if any(part.endswith(ENGINE) for part in process.cmdline()):
                    return process
        return None

    def engine_socket(self) -> Path:
        """Return where the engine listens. Raises HomeError."""
        with suppress(psutil.Error, ValueError):
            if (engine := self.engine()) is not None:
                arguments = engine.cmdline()
                return Path(arguments[arguments.index("--socket") + 1])
        raise HomeError(f"the engine does not run\n{self.last_lines()}")

    def family(self) -> list[psutil.Process]:
        """Return all processes that Home Assistant started, and theirs."""
        if self.process is None:
            return []
        with suppress(psutil.Error):
            return list(psutil.Process(self.process.pid).children(recursive=True))
        return []

    async def wait_for_environment(self) -> bool:
        """Wait until the engine runs in the environment that PeMuS makes for it; tell whether it does."""
        own = str(self.folder / ".cache" / "pemus")
        deadline = time.monotonic() + ENVIRONMENT_TIMEOUT
        while time.monotonic() < deadline:
            with suppress(psutil.Error):
                engine = self.engine()
                if engine is not None and engine.cmdline()[0].startswith(own):
                    return True
            await asyncio.sleep(POLL)
        return False

    async def wait_for_library(self, timeout: float = LIBRARY_TIMEOUT) -> None:
        """Wait until the engine has found and read all files. Raises HomeError."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            state = (await self.get(f"/api/states/{self.scan_state}"))["state"]
            if state == "idle" and (await self.browse())["children"]:
                return
            await asyncio.sleep(POLL)
        raise HomeError(f"the library is still {state}\n{self.last_lines()}")

    def last_lines(self, count: int = 20) -> str:
        """Return the end of what Home Assistant wrote."""
        with suppress(OSError):
            lines = self.log.read_text("utf-8", "replace").splitlines()
            return "\n".join(lines[-count:])
        return ""

    # The folder

    def _write_folder(self) -> None:
        storage = self.folder / ".storage"
        storage.mkdir(parents=True, exist_ok=True)
        # JSON is YAML, and quotes what needs it.
        text = CONFIGURATION.format(name=json.dumps(self.name)) + self._configuration
        (self.folder / "configuration.yaml").write_text(text, "utf-8")
        components = self.folder / "custom_components"
        components.mkdir(exist_ok=True)
        link = components / "pemus"
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT / "custom_components" / "pemus")
        # Not in YAML: since 2026.10 that only counts at the first start, and asks to be confirmed. The first version of
        # the format is one that every release reads.
        self._store("http", 1, {"server_host": [HOST], "server_port": self.port})
        if not (storage / "onboarding").exists():
            # What remains to do is to make the user. The other steps ask for a place on the map and load the voice assistant.
            done = ["core_config", "analytics", "integration"]
            self._store("onboarding", 4, {"done": done})

    def _store(self, key: str, version: int, data: dict[str, Any]) -> None:
        """Write one of Home Assistant's own files."""
        content = {"version": version, "minor_version": 1, "key": key, "data": data}
        (self.folder / ".storage" / key).write_text(json.dumps(content), "utf-8")

    # Getting in

    async def _wait_until_it_answers(self) -> None:
        assert self.process is not None
        async with aiohttp.ClientSession() as session:
            while True:
                if self.process.returncode is not None:
                    raise HomeError(
                        f"Home Assistant ended with status {self.process.returncode}\n{self.last_lines()}"
                    )
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/manifest.json") as answer:
                        if answer.ok:
                            return
                await asyncio.sleep(POLL)

    async def _sign_in(self) -> None:
        client = f"{self.url}/"
        async with aiohttp.ClientSession(self.url) as session:
            async with session.get("/api/onboarding") as answer:
                steps = await answer.json() if answer.ok else []
            if any(step["step"] == "user" and not step["done"] for step in steps):
                owner = {
                    "client_id": client,
                    "name": "Demo",
                    "username": USER,
                    "password": PASSWORD,
                    "language": "en",
                }
                async with session.post("/api/onboarding/users", json=owner) as answer:
                    answer.raise_for_status()
            start = {
                "client_id": client,
                "handler": ["homeassistant", None],
                "redirect_uri": client,
            }
            async with session.post("/auth/login_flow", json=start) as answer:
                flow = await answer.json()
            login = {"client_id": client, "username": USER, "password": PASSWORD}
            path = f"/auth/login_flow/{flow['flow_id']}"
            async with session.post(path, json=login) as answer:
                result = await answer.json()
            if result.get("type") != "create_entry":
                raise HomeError(
                    f"{USER} cannot sign in; remove {self.folder} to start afresh"
                )
            code = {
                "client_id": client,
                "grant_type": "authorization_code",
                "code": result["result"],
            }
            async with session.post("/auth/token", data=code) as answer:
                answer.raise_for_status()
                tokens = await answer.json()
        # As the frontend keeps them in a browser's local storage.
        self.tokens = tokens | {
            "hassUrl": self.url,
            "clientId": client,
            "expires": int((time.time() + tokens["expires_in"]) * 1000),
        }
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        self._session = aiohttp.ClientSession(self.url, headers=bearer)

    async def _wait_until_running(self) -> None:
        while (await self.get("/api/config"))["state"] != "RUNNING":
            await asyncio.sleep(POLL)

    async def _open_socket(self) -> aiohttp.ClientWebSocketResponse:
        opened = await self.session.ws_connect("/api/websocket", max_msg_size=0)
        await opened.receive_json()
        await opened.send_json(
            {"type": "auth", "access_token": self.tokens["access_token"]}
        )
        if (await opened.receive_json())["type"] != "auth_ok":
            raise HomeError("Home Assistant refused the token")
        return opened

    async def _rest(self, method: str, path: str, body: Any = None) -> Any:
        async with self.session.request(method, path, json=body) as answer:
            if not answer.ok:
                raise HomeError(f"{method} {path}: {await answer.text()}")
            return await answer.json()

    # PeMuS

    async def entry(self) -> str:
        """Return the id of PeMuS's loaded config entry, made where there is none yet."""
        path = "/api/config/config_entries"
        if not await self.get(f"{path}/entry?domain=pemus"):
            flow = await self.post(f"{path}/flow", {"handler": "pemus"})
            await self.finish(f"{path}/flow", flow["flow_id"], {"name": self.name})
        deadline = time.monotonic() + SETUP_TIMEOUT
        while time.monotonic() < deadline:
            entry = (await self.get(f"{path}/entry?domain=pemus"))[0]
            if entry["state"] == "loaded":
                return str(entry["entry_id"])
            await asyncio.sleep(POLL)
        raise HomeError(
            f"PeMuS is in the state {entry['state']}: {entry['reason']}\n{self.last_lines()}"
        )

    async def finish(self, flows: str, flow: str, answer: dict[str, Any]) -> None:
        """Answer the last question of a flow. Raises HomeError."""
        result = await self.post(f"{flows}/{flow}", answer)
        if result["type"] != "create_entry":
            raise HomeError(f"PeMuS refused {answer}: {result.get('errors') or result}")


def _end_with_parent() -> None:
    """Have the kernel end this process should its parent be killed, so that an aborted test run leaves nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_port(first: int) -> int:
    """Return the first port from here on that nobody listens on."""
    for port in range(first, 65536):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise HomeError(f"no port from {first} on is free")
