"""Links for guests, through HTTP as homes and guests use them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
import resource
import sqlite3
import tempfile
import time
from typing import Any, Self

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings, strategies as st
import orjson
import pytest

from pemus_signaling.cluster.cluster import Cluster
from pemus_signaling.identity.ids import pemus_id
from pemus_signaling.identity.sessions import Sessions
from pemus_signaling.net import answers
from pemus_signaling.net.answers import Handler
from pemus_signaling.rooms.redis_store import RedisStore
from pemus_signaling.rooms.rooms import LONGEST, MAX_REVOKED, Rooms
from pemus_signaling.rooms.slugs import new_slug, read_slug
from pemus_signaling.rooms.sqlite_store import SqliteStore
from pemus_signaling.rooms.store import (
    Created,
    Published,
    Room,
    close_room,
    decode_room,
    encode_room,
)
from pemus_signaling.rooms.tokens import MAX_PER_KEY, REMEMBERED, Revocations, RoomToken
from pemus_signaling.settings import Settings
from tests.signaling.daemons import Redis

HOUR = 3600
DAY = 86400


class Home:
    """A home that proved its identity."""

    def __init__(self, sessions: Sessions) -> None:
        self.key = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
        self.id = pemus_id(self.key)
        self.headers = {"Authorization": f"Bearer {sessions.issue(self.key)[0]}"}

    def again(self, sessions: Sessions) -> Self:
        """Return it with a session that has just begun."""
        self.headers = {"Authorization": f"Bearer {sessions.issue(self.key)[0]}"}
        return self

    def token(self, room: str, name: str = "guest") -> RoomToken:
        """Return a token as it would sign it."""
        return RoomToken(
            self.key, room, name, time.time() + HOUR, frozenset(("announce",))
        )


class Server:
    """Rooms on a port, and who asks about them."""

    def __init__(self, store: SqliteStore | None = None, **limits: float) -> None:
        self.sessions = Sessions(b"a secret of this test's own")
        self.revocations = Revocations(Cluster())
        self.address = "203.0.113.7"
        self.store = store or SqliteStore()
        plenty = {
            f"{name}_per_minute": 1e6 for name in ("lookups", "visits", "changes")
        }
        self.rooms = Rooms(
            self.store,
            self.sessions,
            self.revocations,
            Settings(**{"rooms_per_home": 10, **plenty, **limits}),
        )
        self.client: TestClient[web.Request, web.Application]

    def home(self) -> Home:
        return Home(self.sessions)

    async def ask(
        self, method: str, path: str, home: Home | None = None, **arguments: Any
    ) -> tuple[int, Any]:
        """Return the status and what was answered."""
        headers = {**(home.headers if home else {}), **arguments.pop("headers", {})}
        async with self.client.request(
            method, path, headers=headers, **arguments
        ) as response:
            body = await response.read()
            return response.status, orjson.loads(body) if body else None

    async def create(self, home: Home, **fields: Any) -> dict[str, Any]:
        """Return a new room, as guests see it."""
        given = {"expires": int(time.time()) + HOUR, **fields}
        status, room = await self.ask("POST", "/room", home, json=given)
        assert status == 201, room
        assert isinstance(room, dict)
        assert room.pop("renew_by") <= room["expires"]
        return room


def as_its_home(room: dict[str, Any]) -> dict[str, Any]:
    """Return a room as its home sees it that ends before it has to be renewed."""
    return {**room, "renew_by": room["expires"]}


@asynccontextmanager
async def serving(
    store: SqliteStore | None = None, **limits: float
) -> AsyncIterator[Server]:
    server = Server(store, **limits)
    await server.rooms.start()

    @web.middleware
    async def known(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Do what the front does."""
        return await handler(request.clone(remote=server.address))

    app = web.Application(middlewares=[known])
    app.add_routes(server.rooms.routes("/"))
    async with TestClient(TestServer(app)) as client:
        server.client = client
        yield server
    await server.rooms.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as server:
        yield server


PUBLISHED = {"name": "Holiday.mp4", "type": "video/mp4", "size": 734003200}


async def test_a_guest_finds_the_home_that_made_the_room(server: Server) -> None:
    home = server.home()
    room = await server.create(home, password=True, published=PUBLISHED)

    assert read_slug(room["slug"]) == room["slug"]
    assert room["host"] == home.id
    assert await server.ask("GET", f"/room/{room['slug']}") == (200, room)
    assert await server.ask(
        "GET", f"/room/{room['slug'].upper().replace('-', '')}"
    ) == (200, room)


async def test_nothing_is_told_of_the_file_unless_the_home_publishes_it(
    server: Server,
) -> None:
    room = await server.create(server.home())

    status, seen = await server.ask("GET", f"/room/{room['slug']}")
    assert (status, seen["published"], seen["password"]) == (200, None, False)
    assert set(seen) == {"slug", "host", "password", "expires", "published"}
    status, error = await server.ask("GET", f"/room/{room['slug']}/fileType")
    assert (status, error["error"]) == (404, "not_found")


async def test_the_type_alone_can_be_asked_for(server: Server) -> None:
    room = await server.create(server.home(), published={"type": "audio/flac"})

    assert await server.ask("GET", f"/room/{room['slug']}/fileType") == (
        200,
        {"type": "audio/flac"},
    )
    assert room["published"] == {"name": None, "type": "audio/flac", "size": None}


async def test_a_room_that_never_was_is_not_found(server: Server) -> None:
    for slug in (new_slug(), "nonsense", "..%2f..%2fetc", "%00", "a" * 5000):
        status, error = await server.ask("GET", f"/room/{slug}")
        assert (status, error["error"]) == (404, "not_found")


async def test_a_closed_room_is_gone_and_its_tokens_are_revoked(server: Server) -> None:
    home = server.home()
    room = await server.create(home, published=PUBLISHED)
    other = await server.create(home)

    assert await server.ask("DELETE", f"/room/{room['slug']}", home) == (204, None)

    for path in ("", "/fileType"):
        status, error = await server.ask("GET", f"/room/{room['slug']}{path}")
        assert (status, error["error"]) == (410, "gone")
    for method in ("PATCH", "DELETE"):
        assert (await server.ask(method, f"/room/{room['slug']}", home, json={}))[
            0
        ] == 410
    assert server.revocations.is_revoked(home.token(room["slug"]))
    assert not server.revocations.is_revoked(home.token(other["slug"]))


async def test_a_room_whose_time_is_over_is_gone(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = server.home()
    room = await server.create(home, expires=int(time.time()) + 60)
    monkeypatch.setattr(time, "time", lambda now=room["expires"]: now)

    assert (await server.ask("GET", f"/room/{room['slug']}"))[0] == 410
    assert (
        await server.ask(
            "PATCH",
            f"/room/{room['slug']}",
            home,
            json={"expires": room["expires"] + HOUR},
        )
    )[0] == 410
    monkeypatch.setattr(time, "time", lambda now=room["expires"] + REMEMBERED: now)
    assert (await server.ask("GET", f"/room/{room['slug']}"))[0] == 404


@pytest.mark.parametrize("jump", [-3600, 86400])
async def test_a_clock_that_jumps_ends_no_room_and_opens_none(
    stores: Callable[[], AbstractAsyncContextManager[Any]],
    monkeypatch: pytest.MonkeyPatch,
    jump: int,
) -> None:
    right = int(time.time())
    now = right
    monkeypatch.setattr(time, "time", lambda: now)
    async with stores() as store, serving(store) as server:
        home = server.home()
        room, closed = [await server.create(home) for _ in range(2)]
        await server.ask("DELETE", f"/room/{closed['slug']}", home)
        now = right + jump
        # For as long as the clock says that its time is over, it is.
        status = (await server.ask("GET", f"/room/{room['slug']}"))[0]
        assert status == (200 if jump < 0 else 410)
        assert (await server.ask("GET", f"/room/{closed['slug']}"))[0] == 410
        # Others' rooms may bring about that what is over for long is forgotten.
        other = await server.create(server.home(), expires=now + 2 * DAY)
        now = right
        assert await server.ask("GET", f"/room/{room['slug']}") == (200, room)
        assert (await server.ask("GET", f"/room/{closed['slug']}"))[0] == 410
        assert server.revocations.is_revoked(home.token(closed["slug"]))
        assert (await server.ask("GET", f"/room/{other['slug']}"))[0] == 200
        home = home.again(server.sessions)
        assert (await server.ask("DELETE", f"/room/{room['slug']}", home))[0] == 204


async def test_a_home_changes_what_it_names_and_nothing_else(server: Server) -> None:
    home = server.home()
    room = await server.create(home, published=PUBLISHED)
    path = f"/room/{room['slug']}"

    later = room["expires"] + HOUR
    assert await server.ask("PATCH", path, home, json={"expires": later}) == (
        200,
        as_its_home({**room, "expires": later}),
    )
    changed = {**room, "expires": later, "password": True, "published": None}
    assert await server.ask(
        "PATCH", path, home, json={"password": True, "published": None}
    ) == (200, as_its_home(changed))
    assert await server.ask(
        "PATCH", path, home, json={"slug": "baku", "host": "me", "closed": 1}
    ) == (200, as_its_home(changed))
    assert await server.ask("GET", path) == (200, changed)


async def test_another_home_can_do_nothing_to_a_room(server: Server) -> None:
    home, stranger = server.home(), server.home()
    room = await server.create(home)
    path = f"/room/{room['slug']}"

    for method, where in (
        ("PATCH", path),
        ("DELETE", path),
        ("DELETE", f"{path}/token/guest"),
    ):
        status, error = await server.ask(
            method, where, stranger, json={"password": True}
        )
        assert (status, error["error"]) == (403, "forbidden")
    assert await server.ask("GET", path) == (200, room)
    assert await server.ask("GET", "/room", stranger) == (200, {"rooms": []})
    assert not server.revocations.is_revoked(home.token(room["slug"]))


async def test_a_home_sees_its_open_rooms(server: Server) -> None:
    home = server.home()
    first, second = [
        await server.create(home, expires=int(time.time()) + HOUR * hours)
        for hours in (1, 2)
    ]
    closed = await server.create(home)
    await server.ask("DELETE", f"/room/{closed['slug']}", home)

    assert await server.ask("GET", "/room", home) == (
        200,
        {"rooms": [as_its_home(first), as_its_home(second)]},
    )


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer x",
        "Bearer " + "x" * 7000,
        "Basic {good}",
        "{good}",
        "Bearer {good}x",
    ],
)
async def test_who_has_no_session_makes_no_room(
    server: Server, authorization: str
) -> None:
    good = server.home().headers["Authorization"].removeprefix("Bearer ")
    headers = {"Authorization": authorization.format(good=good)}

    for method, path in (
        ("POST", "/room"),
        ("GET", "/room"),
        ("PATCH", "/room/x"),
        ("DELETE", "/room/x"),
        ("DELETE", "/room/x/token/y"),
    ):
        async with server.client.request(
            method, path, headers=headers, json={}
        ) as response:
            assert (response.status, response.headers["WWW-Authenticate"]) == (
                401,
                "Bearer",
            )
            assert (await response.json())["error"] == "unauthorized"
    assert await server.store.all_rooms() == []


async def test_one_token_is_revoked_and_others_stay_good(server: Server) -> None:
    home = server.home()
    slug = (await server.create(home))["slug"]

    assert await server.ask("DELETE", f"/room/{slug}/token/guest-1", home) == (
        204,
        None,
    )

    assert server.revocations.is_revoked(home.token(slug, "guest-1"))
    assert not server.revocations.is_revoked(home.token(slug, "guest-2"))
    assert (await server.ask("DELETE", f"/room/{slug}/token/{'x' * 65}", home))[
        0
    ] == 400


async def test_revoked_tokens_of_a_room_are_bounded(server: Server) -> None:
    home = server.home()
    slug = (await server.create(home))["slug"]
    for number in range(MAX_REVOKED):
        assert (await server.ask("DELETE", f"/room/{slug}/token/{number}", home))[
            0
        ] == 204

    assert (await server.ask("DELETE", f"/room/{slug}/token/0", home))[0] == 204
    status, error = await server.ask("DELETE", f"/room/{slug}/token/one-more", home)
    assert (status, error["error"]) == (429, "too_many")
    assert not server.revocations.is_revoked(home.token(slug, "one-more"))
    assert (await server.ask("DELETE", f"/room/{slug}", home))[0] == 204
    assert server.revocations.is_revoked(home.token(slug, "one-more"))


async def test_a_room_is_not_closed_if_its_tokens_cannot_be_revoked(
    server: Server,
) -> None:
    home = server.home()
    slug = (await server.create(home))["slug"]
    for number in range(MAX_PER_KEY):
        server.revocations.revoke_token(home.key, f"token-{number}")

    status, error = await server.ask("DELETE", f"/room/{slug}", home)

    assert (status, error["error"]) == (429, "too_many")
    assert (await server.ask("GET", f"/room/{slug}"))[0] == 200


async def test_a_home_has_a_limited_number_of_open_rooms() -> None:
    async with serving(rooms_per_home=2) as server:
        home = server.home()
        rooms = [await server.create(home) for _ in range(2)]

        async with server.client.post(
            "/room", headers=home.headers, json={"expires": int(time.time()) + HOUR}
        ) as response:
            assert (response.status, (await response.json())["error"]) == (
                429,
                "too_many",
            )
            assert int(response.headers["Retry-After"]) > 0
        await server.create(server.home())
        await server.ask("DELETE", f"/room/{rooms[0]['slug']}", home)
        await server.create(home)


async def test_rooms_made_and_closed_without_end_do_not_fill_the_memory() -> None:
    async with serving(rooms_per_home=3) as server:
        home = server.home()
        for _ in range(20):
            room = await server.create(home)
            await server.ask("DELETE", f"/room/{room['slug']}", home)
            assert (await server.ask("GET", f"/room/{room['slug']}"))[0] == 410

        assert len(await server.store.all_rooms()) <= 3


async def test_one_network_does_not_fill_the_server_whatever_its_homes_are_called(
    stores: Callable[[], AbstractAsyncContextManager[Any]],
) -> None:
    async with stores() as store, serving(store, rooms_per_network=5) as server:
        given = {"json": {"expires": int(time.time()) + HOUR}}
        for number in range(5):
            server.address = f"203.0.113.{number}"
            home = server.home()
            slug = (await server.create(home))["slug"]
            # What is gone counts as well: it is remembered.
            assert (await server.ask("DELETE", f"/room/{slug}", home))[0] == 204
        status, error = await server.ask("POST", "/room", server.home(), **given)
        assert (status, error["error"]) == (429, "too_many")
        server.address = "203.0.114.1"
        assert (await server.ask("POST", "/room", server.home(), **given))[0] == 201
        for number in range(6):
            server.address = f"2001:db8:0:{number}::1"
            status, _ = await server.ask("POST", "/room", server.home(), **given)
            assert status == (429 if number == 5 else 201)
        server.address = "2001:db8:1::1"
        assert (await server.ask("POST", "/room", server.home(), **given))[0] == 201


async def test_a_room_that_nobody_renews_ends_and_one_that_is_renewed_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = start = int(time.time())
    monkeypatch.setattr(time, "time", lambda: now)
    async with serving(room_renewal=14 * DAY) as server:
        home = server.home()
        left, kept = [
            await server.create(home, expires=start + 60 * DAY) for _ in range(2)
        ]
        for days in (0, 10, 10, 10):
            now += days * DAY
            home = home.again(server.sessions)
            status, room = await server.ask(
                "PATCH", f"/room/{kept['slug']}", home, json={}
            )
            assert (status, room["renew_by"]) == (200, now + 14 * DAY)
            if now > start:
                status = (await server.ask("GET", f"/room/{left['slug']}"))[0]
                assert status == {10: 200, 20: 410, 30: 404}[(now - start) // DAY]
        assert await server.ask("GET", f"/room/{kept['slug']}") == (200, kept)
        now += 14 * DAY
        assert (await server.ask("GET", f"/room/{kept['slug']}"))[0] == 410


@pytest.fixture(params=["memory", "redis"])
def stores(
    request: pytest.FixtureRequest, redis_program: Path
) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """Have a store of either kind."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        if request.param == "memory":
            yield SqliteStore()
            return
        with tempfile.TemporaryDirectory(prefix="pemus-") as folder:
            server = Redis(redis_program, Path(folder))
            await server.start()
            try:
                yield RedisStore(server.url)
            finally:
                await server.stop()

    return opened


async def test_a_full_server_takes_no_more_rooms() -> None:
    async with serving(SqliteStore(most=3)) as server:
        for _ in range(3):
            await server.create(server.home())

        status, error = await server.ask(
            "POST", "/room", server.home(), json={"expires": int(time.time()) + HOUR}
        )
        assert (status, error["error"]) == (503, "too_many")


async def test_who_asks_too_often_has_to_wait_and_others_do_not() -> None:
    async with serving(lookups_per_minute=3) as server:
        for _ in range(3):
            assert (await server.ask("GET", f"/room/{new_slug()}"))[0] == 404
        async with server.client.get(f"/room/{new_slug()}") as response:
            assert (response.status, (await response.json())["error"]) == (
                429,
                "rate_limited",
            )
            assert 1 <= int(response.headers["Retry-After"]) <= 100
        assert (await server.ask("GET", "/room"))[0] == 429

        server.address = "203.0.113.8"
        assert (await server.ask("GET", f"/room/{new_slug()}"))[0] == 404


async def test_a_network_of_one_customer_is_one_client() -> None:
    async with serving(lookups_per_minute=3) as server:
        statuses = []
        for host in range(4):
            server.address = f"2001:db8:1:2::{host}"
            statuses.append((await server.ask("GET", f"/room/{new_slug()}"))[0])

        assert statuses == [404, 404, 404, 429]


async def test_one_room_is_asked_about_a_limited_number_of_times() -> None:
    async with serving(visits_per_minute=3) as server:
        home = server.home()
        room, other = [await server.create(home) for _ in range(2)]
        for _ in range(3):
            assert (await server.ask("GET", f"/room/{room['slug']}"))[0] == 200

        assert (await server.ask("GET", f"/room/{room['slug']}"))[0] == 429
        assert (await server.ask("GET", f"/room/{other['slug']}"))[0] == 200


async def test_a_home_changes_rooms_a_limited_number_of_times() -> None:
    async with serving(changes_per_minute=2) as server:
        home = server.home()
        room = await server.create(home)
        assert (await server.ask("PATCH", f"/room/{room['slug']}", home, json={}))[
            0
        ] == 200

        for method, path in (
            ("POST", "/room"),
            ("PATCH", f"/room/{room['slug']}"),
            ("DELETE", f"/room/{room['slug']}"),
        ):
            assert (await server.ask(method, path, home, json={}))[0] == 429
        await server.create(server.home())


async def test_a_robot_that_looks_at_a_link_changes_nothing(server: Server) -> None:
    room = await server.create(server.home(), published=PUBLISHED)
    before = await server.store.all_rooms()

    for method in ("GET", "HEAD"):
        for path in ("", "/fileType"):
            async with server.client.request(
                method, f"/room/{room['slug']}{path}"
            ) as response:
                assert response.status == 200
                assert response.headers["Cache-Control"] == "no-store"
    assert await server.store.all_rooms() == before


@pytest.mark.parametrize(
    "fields",
    [
        {"expires": 0},
        {"expires": -1},
        {"expires": 1e99},
        {"expires": "tomorrow"},
        {"expires": True},
        {"expires": None},
        {"expires": 2**63},
        {"password": "secret"},
        {"password": None},
        {"password": 1},
        {"published": []},
        {"published": "Holiday.mp4"},
        {"published": {"name": ""}},
        {"published": {"name": "x" * 256}},
        {"published": {"name": "a\nb"}},
        {"published": {"name": "gpj.\u202eexe"}},
        {"published": {"name": 7}},
        {"published": {"type": "film"}},
        {"published": {"type": "text/html; charset=x"}},
        {"published": {"type": f"{'x' * 128}/x"}},
        {"published": {"type": ["video/mp4"]}},
        {"published": {"size": -1}},
        {"published": {"size": 2**53}},
        {"published": {"size": 1.5}},
        {"published": {"size": True}},
    ],
)
async def test_nonsense_is_refused_and_changes_nothing(
    server: Server, fields: dict[str, Any]
) -> None:
    home = server.home()
    room = await server.create(home)
    given = (
        orjson.dumps({"expires": room["expires"], **fields})
        if fields != {"expires": 2**63}
        else b'{"expires": 9223372036854775808}'
    )

    for method, path in (("POST", "/room"), ("PATCH", f"/room/{room['slug']}")):
        status, error = await server.ask(method, path, home, data=given)
        assert (status, error["error"]) == (400, "bad_request")
    assert await server.ask("GET", f"/room/{room['slug']}") == (200, room)
    assert len((await server.ask("GET", "/room", home))[1]["rooms"]) == 1


async def test_a_room_does_not_last_for_ever(server: Server) -> None:
    status, error = await server.ask(
        "POST",
        "/room",
        server.home(),
        json={"expires": int(time.time()) + LONGEST + 60},
    )

    assert (status, error["error"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b"\xff\xfe",
        b'"x"',
        b"[" * 4000,
        b'{"expires": NaN}',
    ],
)
async def test_what_is_no_object_is_refused(server: Server, body: bytes) -> None:
    status, error = await server.ask("POST", "/room", server.home(), data=body)

    assert (status, error["error"]) == (400, "bad_request")


async def test_a_body_is_bounded(server: Server) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 1000

    home = server.home()
    status, error = await server.ask("POST", "/room", home, data=b" " * 5000)
    assert (status, error["error"]) == (413, "bad_request")
    async with ClientSession() as client:
        try:
            async with client.post(
                server.client.make_url("/room"), headers=home.headers, data=endless()
            ) as response:
                assert response.status == 413
        except OSError:
            pass  # The server hung up before everything was sent, which is just as good.


async def test_half_a_body_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "BODY_TIMEOUT", 0.05)
    authorization = server.home().headers["Authorization"]
    reader, writer = await asyncio.open_connection(
        server.client.host, server.client.port
    )
    head = f"POST /room HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: 100\r\n\r\n"
    writer.write(head.encode() + b'{"expires"')

    assert b" 408 " in await asyncio.wait_for(reader.readline(), 30)
    writer.close()
    await writer.wait_closed()


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=6,
)
fields = st.dictionaries(
    st.sampled_from(("expires", "password", "published", "slug", "key", "host")),
    json_values
    | st.dictionaries(st.sampled_from(("name", "type", "size")), json_values),
)


async def test_any_object_makes_a_room_or_is_refused(server: Server) -> None:
    home = server.home()
    outcomes: list[tuple[int, Any]] = []
    bodies: list[bytes] = []

    @settings(max_examples=150, deadline=None)
    @given(fields, st.binary(max_size=30))
    def collect(given_fields: dict[str, Any], noise: bytes) -> None:
        for make in (lambda: orjson.dumps(given_fields), lambda: noise):
            try:
                bodies.append(make())
            except orjson.JSONEncodeError:  # A lone surrogate.
                continue

    collect()
    for body in bodies:
        outcomes.append(await server.ask("POST", "/room", home, data=body))

    assert {status for status, _ in outcomes} <= {201, 400, 429}
    for status, room in outcomes:
        if status == 201:
            assert room["host"] == home.id
            assert room["expires"] > time.time()


def a_room(host: str = "HOME", **fields: Any) -> Room:
    values: dict[str, Any] = {
        "password": False,
        "expires": int(time.time()) + HOUR,
        **fields,
    }
    return Room(new_slug(), host, b"k" * 32, **values)


@given(
    st.builds(
        Room,
        slug=st.builds(new_slug),
        host=st.text(min_size=1, max_size=28),
        key=st.binary(min_size=32, max_size=32),
        password=st.booleans(),
        expires=st.integers(0, 2**40),
        published=st.none()
        | st.builds(
            Published,
            st.none() | st.text(),
            st.none() | st.text(),
            st.none() | st.integers(0, 2**53),
        ),
        closed=st.none() | st.integers(0, 2**40),
        revoked=st.lists(st.tuples(st.text(), st.integers(0, 2**40))).map(tuple),
        network=st.text(),
        renew_by=st.none() | st.integers(0, 2**40),
    )
)
def test_a_room_is_read_as_it_was_written(room: Room) -> None:
    assert decode_room(encode_room(room)) == room


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "rooms.db"


@asynccontextmanager
async def started(store: SqliteStore) -> AsyncIterator[SqliteStore]:
    await store.start()
    try:
        yield store
    finally:
        await store.close()


async def test_links_outlive_a_restart(file: Path) -> None:
    async with serving(SqliteStore(file)) as server:
        home = server.home()
        room, closed = [
            await server.create(home, published=PUBLISHED) for _ in range(2)
        ]
        await server.ask(
            "PATCH", f"/room/{room['slug']}", home, json={"password": True}
        )
        await server.ask("DELETE", f"/room/{closed['slug']}", home)
        await server.ask("DELETE", f"/room/{room['slug']}/token/guest", home)

    async with serving(SqliteStore(file)) as again:
        assert await again.ask("GET", f"/room/{room['slug']}") == (
            200,
            {**room, "password": True},
        )
        assert (await again.ask("GET", f"/room/{closed['slug']}"))[0] == 410
        assert again.revocations.is_revoked(home.token(closed["slug"]))
        assert again.revocations.is_revoked(home.token(room["slug"], "guest"))
        assert not again.revocations.is_revoked(home.token(room["slug"], "another"))


async def test_what_is_forgotten_is_not_kept_in_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with started(SqliteStore(file)) as store:
        old, new = a_room(), a_room()
        await store.create(old, 10)
        monkeypatch.setattr(time, "time", lambda now=old.expires + REMEMBERED: now)
        await store.create(new, 10)

    with sqlite3.connect(file) as database:
        assert database.execute("SELECT slug FROM rooms").fetchall() == [(new.slug,)]
    database.close()


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 4000]
)
async def test_a_broken_file_is_put_aside(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)

    async with started(SqliteStore(file)) as store:
        assert await store.create(a_room(), 10) is Created.DONE
    assert file.with_suffix(".broken").read_bytes() == content
    async with started(SqliteStore(file)) as store:
        assert len(await store.all_rooms()) == 1


async def test_a_file_that_cannot_be_opened_at_present_stays_where_it_is(
    file: Path,
) -> None:
    async with started(SqliteStore(file)) as store:
        await store.create(a_room(), 10)
    with sqlite3.connect(file, isolation_level=None) as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        locked = SqliteStore(file)
        with pytest.raises(OSError, match="cannot be opened"):
            await locked.start()
        await locked.close()
    database.close()
    async with started(SqliteStore(file)) as store:
        assert len(await store.all_rooms()) == 1
    assert not file.with_suffix(".broken").exists()


async def test_a_room_that_cannot_be_read_does_not_hide_the_others(file: Path) -> None:
    room = a_room()
    async with started(SqliteStore(file)) as store:
        await store.create(room, 10)
    with sqlite3.connect(file) as database:
        database.executemany(
            "INSERT INTO rooms VALUES (?, 'host', 'network', 0, 9e9, ?)",
            [("a", b"{"), ("b", b"{}"), ("c", b"[]"), ("d", encode_room(room)[:-20])],
        )
    database.close()

    async with started(SqliteStore(file)) as store:
        assert await store.all_rooms() == [room]
        assert await store.get("b") is None


@contextmanager
def full_disk(file: Path) -> Iterator[None]:
    """Let no file of this process grow beyond what the store's log has."""
    most = file.with_name(f"{file.name}-wal").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("what", ["room", "token"])
async def test_what_cannot_be_taken_back_for_good_is_said_and_done_when_asked_again(
    file: Path, what: str
) -> None:
    async with serving(SqliteStore(file)) as server:
        home = server.home()
        slug = (await server.create(home, published=PUBLISHED))["slug"]
        path = f"/room/{slug}" + ("" if what == "room" else "/token/guest")
        with full_disk(file):
            status, error = await server.ask("DELETE", path, home)
            assert (status, error["error"]) == (503, "unavailable")
            # Whoever has a token is not let in any more, whatever the disk says.
            assert server.revocations.is_revoked(home.token(slug))
            assert (await server.ask("GET", f"/room/{slug}"))[0] == 200

    async with serving(SqliteStore(file)) as again:
        # It started anew before the home asked again.
        assert (await again.ask("GET", f"/room/{slug}"))[0] == 200
        assert (await again.ask("DELETE", path, home))[0] == 204

    async with serving(SqliteStore(file)) as at_last:
        assert at_last.revocations.is_revoked(home.token(slug))
        status, _ = await at_last.ask("GET", f"/room/{slug}")
        assert status == (410 if what == "room" else 200)


async def test_asking_again_is_enough_once_there_is_space(file: Path) -> None:
    async with serving(SqliteStore(file)) as server:
        home = server.home()
        slug = (await server.create(home))["slug"]
        with full_disk(file):
            for _ in range(3):
                assert (await server.ask("DELETE", f"/room/{slug}", home))[0] == 503
        assert (await server.ask("DELETE", f"/room/{slug}", home))[0] == 204
        assert (await server.ask("GET", f"/room/{slug}"))[0] == 410
    async with serving(SqliteStore(file)) as again:
        assert (await again.ask("GET", f"/room/{slug}"))[0] == 410


async def test_no_room_is_promised_that_a_restart_would_end(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(SqliteStore(file)) as server:
        home = server.home()
        await server.create(home)
        given = {"expires": int(time.time()) + HOUR}
        with full_disk(file):
            status, error = await server.ask("POST", "/room", home, json=given)
        assert (status, error["error"]) == (503, "unavailable")
        assert len((await server.ask("GET", "/room", home))[1]["rooms"]) == 1
    assert "A room could not be read or written" in caplog.text


async def test_a_slug_is_given_once() -> None:
    async with started(SqliteStore()) as store:
        room = a_room()
        assert await store.create(room, 10) is Created.DONE
        assert await store.create(room, 10) is Created.TAKEN


async def test_of_two_changes_at_the_same_time_one_has_to_look_again() -> None:
    async with started(SqliteStore()) as store:
        room = a_room()
        await store.create(room, 10)

        assert await store.replace(room, close_room(room, time.time()))
        assert not await store.replace(room, a_room())
        closed = await store.get(room.slug)
    assert closed is not None
    assert closed.is_gone(time.time())


async def test_a_room_that_is_closed_meanwhile_is_not_opened_by_a_change(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = server.home()
    slug = (await server.create(home))["slug"]
    replace: Callable[..., Any] = server.store.replace

    async def closing_first(old: Room, new: Room) -> bool:
        monkeypatch.setattr(server.store, "replace", replace)
        assert await replace(old, close_room(old, time.time()))
        return bool(await replace(old, new))

    monkeypatch.setattr(server.store, "replace", closing_first)
    assert (await server.ask("PATCH", f"/room/{slug}", home, json={"password": True}))[
        0
    ] == 410


async def test_only_a_homes_own_open_room_is_open(server: Server) -> None:
    home, stranger = server.home(), server.home()
    slug = (await server.create(home))["slug"]

    assert await server.rooms.is_open(home.key, slug)
    assert not await server.rooms.is_open(stranger.key, slug)
    assert not await server.rooms.is_open(home.key, new_slug())
    await server.ask("DELETE", f"/room/{slug}", home)
    assert not await server.rooms.is_open(home.key, slug)
