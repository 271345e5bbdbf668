"""docs/openapi.yaml is true of the rooms: whatever it allows is answered as it says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
import threading
import time
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, settings
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pemus_signaling.cluster.cluster import Cluster
from pemus_signaling.identity.sessions import Sessions
from pemus_signaling.rooms.rooms import Rooms
from pemus_signaling.rooms.sqlite_store import SqliteStore
from pemus_signaling.rooms.tokens import Revocations
from pemus_signaling.settings import Settings

SPEC = Path(__file__).parents[3] / "docs" / "openapi.yaml"
SCHEMA = schemathesis.openapi.from_path(SPEC)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


class Server:
    """Rooms on a port, in a thread of their own: what asks them waits for each answer."""

    def __init__(self) -> None:
        self.url = ""
        sessions = Sessions(b"a secret of this test's own")
        key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        self.session = sessions.issue(key)[0]
        plenty = {
            f"{name}_per_minute": 1e6 for name in ("lookups", "visits", "changes")
        }
        self._make = lambda: Rooms(
            SqliteStore(), sessions, Revocations(Cluster()), Settings(**plenty)
        )
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event

    def run(self) -> None:
        """Serve until `stop`."""
        asyncio.run(self._serve())

    def start(self) -> None:
        self._thread = threading.Thread(target=self.run, name="rooms")
        self._thread.start()
        assert self._ready.wait(20)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        rooms = self._make()
        await rooms.start()
        app = web.Application()
        app.add_routes(rooms.routes("/"))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()
        await rooms.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    started.start()
    yield started
    started.stop()


@SCHEMA.parametrize()
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_answers_as_it_is_described(case: Any, server: Server) -> None:
    case.headers = {
        **(case.headers or {}),
        "Authorization": f"Bearer {server.session}",
    }
    case.call_and_validate(base_url=server.url, checks=CHECKS)


@SCHEMA.parametrize()
@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_strangers_are_answered_as_it_is_described(case: Any, server: Server) -> None:
    case.call_and_validate(base_url=server.url, checks=CHECKS)


@SCHEMA.include(operation_id=["createRoom", "changeRoom"]).parametrize()
@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_rooms_that_there_are_answer_as_it_is_described(
    case: Any, server: Server
) -> None:
    bearer = {"Authorization": f"Bearer {server.session}"}
    case.headers = {**(case.headers or {}), **bearer}
    if isinstance(case.body, dict):
        case.body = case.body | {"expires": int(time.time()) + 600}
    if case.operation.definition.raw["operationId"] == "createRoom":
        response = case.call_and_validate(base_url=server.url, checks=CHECKS)
        if response.status_code == 201:
            server.slug = response.json()["slug"]  # type: ignore[attr-defined]
    elif slug := getattr(server, "slug", ""):
        case.path_parameters["slug"] = slug
        response = case.call_and_validate(base_url=server.url, checks=CHECKS)
        # Other methods are tried too.
        expected = {200, 400} if case.method == "PATCH" else {405}
        assert response.status_code in expected
