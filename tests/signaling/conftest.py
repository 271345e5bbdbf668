"""What the tests of the signalling server need: real programs of others, without Home Assistant."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
import tempfile

import pytest

from tests.signaling.daemons import Redis, find_program


@pytest.fixture(autouse=True)
def custom_integrations_found() -> None:
    """Stand in for the fixture of the integration's tests: there is no Home Assistant here."""


@pytest.fixture(scope="session")
def redis_program() -> Path:
    """Return redis-server, installed with apt if need be."""
    return find_program("redis-server", "redis-server")


@pytest.fixture(scope="session")
def coturn_program() -> Path:
    """Return coturn, installed with apt if need be."""
    return find_program("turnserver", "coturn")


@pytest.fixture
async def redis_server(redis_program: Path) -> AsyncGenerator[Redis]:
    """Have a Redis that nobody else uses."""
    # The path of a unix socket has to be short.
    with tempfile.TemporaryDirectory(prefix="pemus-") as folder:
        redis = Redis(redis_program, Path(folder))
        try:
            await redis.start()
            yield redis
        finally:
            await redis.stop()
