"""The programs that the tests are run with."""

from __future__ import annotations

import pytest
from redis.asyncio import Redis as Client
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.signaling.daemons import Redis, find_program


async def test_a_redis_comes_back_at_the_same_address_with_nothing_in_it(
    redis_server: Redis,
) -> None:
    async with Client.from_url(redis_server.url) as client:
        await client.set("name", "value")
        await redis_server.stop()
        with pytest.raises(RedisConnectionError):
            await client.get("name")
        await redis_server.start()

        assert await client.get("name") is None


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    with pytest.raises(
        pytest.fail.Exception,
        match=r"no-such-program is missing\. Install it .*apt install no-such-package",
    ):
        find_program("no-such-program", "no-such-package")
