"""A home that serves files by the range view, over real sockets, and a client that sees every byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
import os
from pathlib import Path
import ssl
import subprocess
import sys

from aiohttp.test_utils import TestServer
from homeassistant.components.http.auth import async_sign_path
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
import pytest

from custom_components.pemus import stream
from custom_components.pemus.engine.client import EngineError, EngineUnavailable
from custom_components.pemus.p2p.models import ErrorKey, LocalFile, WaitQuery
from custom_components.pemus.p2p.models.items import ItemRef, Wanted
from custom_components.pemus.stream import disk
from custom_components.pemus.stream.workers import DiskWorkers
from tests.patience import PATIENCE

from . import stalled_disk

FILM = "f" * 26
SONG = "g" * 26


class Folder:
    """A source of files that looks at the disk whenever it is asked, and counts how often that is."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[Path, str]] = {}
        self.pictures: dict[str, Path] = {}
        self.texts: dict[tuple[str, int], Path] = {}
        self.asked = 0
        self.played = 0
        self.error: Exception | None = None
        self.describe: Callable[[LocalFile], LocalFile] = lambda file: file

    def put(
        self, item: str, path: Path, content: bytes, content_type: str = "video/mp4"
    ) -> Path:
        path.write_bytes(content)
        # An hour old, so that its date identifies it.
        os.utime(path, (path.stat().st_mtime - 3600,) * 2)
        self.files[item] = (path, content_type)
        return path

    async def locate(self, wanted: Wanted) -> LocalFile:
        item = wanted.item.id
        if wanted.picture:
            if item in self.files and item not in self.pictures:
                raise EngineError(ErrorKey.NO_PICTURE, "there is no picture")
            return self._look(self.pictures.get(item), "image/jpeg")
        if wanted.subtitles is not None:
            return self._look(self.texts.get((item, wanted.subtitles)), "text/vtt")
        if wanted.item.owner is not None:
            raise EngineError(ErrorKey.NOT_FOUND, "there is no such home")
        return self._look(*self.files.get(item, (None, "")))

    async def streaming(self) -> None:
        self.played += 1

    async def wait(self, ref: ItemRef, query: WaitQuery) -> int:
        raise EngineError(ErrorKey.NOT_FOUND, "there is no such home")

    async def release(self, ref: ItemRef, reader: str) -> None:
        pass

    def _look(self, path: Path | None, content_type: str) -> LocalFile:
        self.asked += 1
        if self.error is not None:
            raise self.error
        if path is None:
            raise EngineError(ErrorKey.NOT_FOUND, "there is no such item")
        try:
            status = path.stat()
        except FileNotFoundError:
            raise EngineError(ErrorKey.NOT_FOUND, "the file is gone") from None
        return self.describe(LocalFile.of(str(path), path.name, content_type, status))

    def engine_is_down(self) -> None:
        self.error = EngineUnavailable("no answer")


@dataclass
class Answer:
    """What came back, byte for byte."""

    status: int
    headers: dict[str, str]
    body: bytes
    complete: bool
    """Whether as many bytes came as the head promised."""

    def __getitem__(self, name: str) -> str:
        return self.headers[name.lower()]

    def get(self, name: str) -> str | None:
        return self.headers.get(name.lower())


@dataclass
class Connection:
    """A connection to the server, kept alive between requests."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    left: int = 0
    headers: dict[str, str] = field(default_factory=dict)

    async def send(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: home"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        await self.writer.drain()

    async def head(self, method: str = "GET") -> int:
        """Read status and headers."""
        lines = (
            (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        )
        self.headers = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(": ")
            assert name.lower() not in self.headers, f"{name} came twice"
            self.headers[name.lower()] = value
        status = int(lines[0].split()[1])
        self.left = (
            0
            if method == "HEAD" or status in {204, 304}
            else int(self.headers["content-length"])
        )
        return status

    async def body(self) -> tuple[bytes, bool]:
        """Read what is left of the body, and whether it was all there."""
        try:
            data = await self.reader.readexactly(self.left)
        except asyncio.IncompleteReadError as err:
            data = err.partial
        except ConnectionResetError:
            return b"", False
        return data, len(data) == self.left

    async def ask(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> Answer:
        async with asyncio.timeout(PATIENCE):
            await self.send(path, headers, method)
            status = await self.head(method)
            body, complete = await self.body()
        return Answer(status, self.headers, body, complete)

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self.writer.wait_closed()


@dataclass
class Site:
    """The running server."""

    hass: HomeAssistant
    folder: Folder
    server: TestServer
    tls: ssl.SSLContext | None = None

    def path(self, item: str = FILM, name: str = "film.mp4") -> str:
        return self.sign(stream.stream_path(ItemRef(None, item), name))

    def sign(self, path: str, lifetime: timedelta = timedelta(hours=1)) -> str:
        return async_sign_path(self.hass, path, lifetime, use_content_user=True)

    @asynccontextmanager
    async def connection(self, **options: object) -> AsyncGenerator[Connection]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            self.server.port,
            ssl=self.tls,
            limit=2**20,
            **options,  # type: ignore[arg-type]
        )
        connection = Connection(reader, writer)
        try:
            yield connection
        finally:
            await connection.close()

    async def ask(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> Answer:
        async with self.connection() as connection:
            return await connection.ask(path, headers, method)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set how long the disk is waited for by the views that are registered from now on."""

    def wait_for(seconds: float) -> None:
        monkeypatch.setattr(stream, "DiskWorkers", lambda: DiskWorkers(seconds))

    return wait_for


@pytest.fixture
async def site(hass: HomeAssistant, socket_enabled: None) -> AsyncGenerator[Site]:
    async with serve(hass) as running:
        yield running


@asynccontextmanager
async def serve(
    hass: HomeAssistant,
    server_tls: ssl.SSLContext | None = None,
    client_tls: ssl.SSLContext | None = None,
) -> AsyncGenerator[Site]:
    """Serve an empty folder by a Home Assistant's own HTTP application."""
    assert await async_setup_component(hass, "http", {})
    folder = Folder()
    stream.async_register(hass, lambda: folder)
    server = TestServer(hass.http.app, scheme="https" if server_tls else "http")
    await server.start_server(ssl=server_tls)
    try:
        yield Site(hass, folder, server, client_tls)
    finally:
        await server.close()


@pytest.fixture(params=["sendfile", "reading", "tls"])
async def any_site(
    request: pytest.FixtureRequest,
    hass: HomeAssistant,
    socket_enabled: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> AsyncGenerator[Site]:
    """Serve in each of the ways in which bytes can be sent."""
    server_tls, client_tls = (None, None)
    if request.param == "tls":
        server_tls, client_tls = certificates(tmp_path)
    if request.param == "reading":
        monkeypatch.setattr(disk, "LOCAL_FILE_SYSTEMS", frozenset())
    async with serve(hass, server_tls, client_tls) as running:
        yield running
    assert await all_closed()


def certificates(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=home "
            f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
        ).split(),
        check=True,
        capture_output=True,
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


@pytest.fixture
def content() -> bytes:
    """Ten and a half megabytes, no two pages of which are alike."""
    return pages(0, 2688)


def pages(first: int, count: int) -> bytes:
    return b"".join(
        number.to_bytes(8, "big") * 512 for number in range(first, first + count)
    )


@pytest.fixture
async def film(site: Site, tmp_path: Path, content: bytes) -> Path:
    return site.folder.put(FILM, tmp_path / "A film.mp4", content)


def open_files() -> set[str]:
    """Return what this process has open below the folder of the tests."""
    targets = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            targets.add(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    return {target for target in targets if "/pytest-" in target}


async def all_closed() -> bool:
    """Wait until no file is open any more; a worker closes them."""
    for _ in range(200):
        if not open_files():
            return True
        await asyncio.sleep(0.02)
    return False


class StalledDisk:
    """The file system that stops answering when it is told to."""

    def __init__(self, mount: Path) -> None:
        program = Path(__file__).with_name("stalled_disk.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program), str(mount)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        name = self._process.stdout.readline().strip()
        assert name, (
            "the file system could not be mounted: it takes /dev/fuse, and root or fusermount3"
        )
        self.path = mount / name

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(command, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline().strip() == "ok"

    def end(self) -> None:
        """Let the disk die, as often as one likes: what hangs on it gets an error."""
        self._process.kill()
        self._process.wait(10)
        stalled_disk.unmount(str(self.path.parent))
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
