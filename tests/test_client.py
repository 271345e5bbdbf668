"""The client says plainly what the engine answered, or that there is no engine."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
import tempfile

from aiohttp import web
import pytest

from custom_components.pemus.engine import client as client_module
from custom_components.pemus.engine.client import (
    EngineClient,
    EngineError,
    EngineUnavailable,
)
from custom_components.pemus.engine.process import Engine
from custom_components.pemus.p2p.api import events as engine_events, requests
from custom_components.pemus.p2p.models import (
    API_VERSION,
    ApiError,
    EngineConfig,
    ErrorKey,
    Event,
    Hello,
    ItemsChanged,
    Kind,
    NewMedia,
    SearchQuery,
    ShareConfig,
    StatusChanged,
    WaitQuery,
)
from custom_components.pemus.p2p.models.codec import encode
from custom_components.pemus.p2p.models.homes import (
    LanHomes,
    PairingAnswer,
    PairingQuery,
)
from custom_components.pemus.p2p.models.items import ItemRef, Wanted
from custom_components.pemus.p2p.models.version import VERSION

ITEM_ID = "a" * 26
HOME_ID = "A" * 28
OWN, FRIENDS = ItemRef(None, ITEM_ID), ItemRef(HOME_ID, ITEM_ID)
WAIT = WaitQuery(reader="tv", path="/cache/part", start=0, stop=1)

type Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
type Ask = Callable[[EngineClient], Awaitable[object]]

EVERYTHING: list[Ask] = [
    lambda client: client.status(),
    lambda client: client.configure(EngineConfig(home_name="x")),
    lambda client: client.rescan(),
    lambda client: client.item(OWN),
    lambda client: client.locate(Wanted(OWN)),
    lambda client: client.locate(Wanted(OWN, picture=True)),
    lambda client: client.locate(Wanted(OWN, subtitles=0)),
    lambda client: client.browse(""),
    lambda client: client.search(SearchQuery(text="x")),
    lambda client: client.item(FRIENDS),
    lambda client: client.locate(Wanted(FRIENDS, picture=True)),
    lambda client: client.locate(Wanted(FRIENDS, subtitles=0)),
    lambda client: client.wait(FRIENDS, WAIT),
    lambda client: client.release(FRIENDS, "tv"),
    lambda client: client.pin(FRIENDS),
    lambda client: client.unpin(FRIENDS),
    lambda client: client.transfers(),
    lambda client: client.new_identity(),
    lambda client: client.request_pairing(PairingQuery(home=HOME_ID)),
    lambda client: client.answer_pairing(HOME_ID, PairingAnswer(accept=True)),
    lambda client: client.forget_pairing(HOME_ID),
    lambda client: client.unblock(HOME_ID),
    lambda client: client.lan_homes(LanHomes(homes=())),
    lambda client: client.network_changed(),
]


@pytest.fixture
async def socket_path() -> AsyncGenerator[Path]:
    with tempfile.TemporaryDirectory(prefix="pemus-") as folder:
        yield Path(folder, "engine.sock")


@pytest.fixture
async def client(socket_path: Path) -> AsyncGenerator[EngineClient]:
    asking = EngineClient(str(socket_path))
    yield asking
    await asking.close()


class Impostor:
    """Something that listens in the engine's place."""

    def __init__(self, socket_path: Path) -> None:
        self.end = asyncio.Event()
        self._socket_path = socket_path
        self._runner: web.AppRunner | None = None

    async def __call__(self, handler: Handler) -> None:
        """Have a handler answer whatever is asked."""
        app = web.Application()
        app.router.add_route("*", "/{anything:.*}", handler)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._socket_path)).start()

    async def hang(self, _request: web.Request) -> web.Response:
        """Answer when all is over."""
        await self.end.wait()
        return web.Response()

    async def stop(self) -> None:
        self.end.set()
        if self._runner is not None:
            await self._runner.cleanup()


@pytest.fixture
async def serve(socket_path: Path) -> AsyncGenerator[Impostor]:
    impostor = Impostor(socket_path)
    yield impostor
    await impostor.stop()


async def test_the_engine_answers_everything(engine: Engine, tmp_path: Path) -> None:
    client = engine.client
    films = tmp_path / "films"
    films.mkdir()
    share = ShareConfig(id="films", path=str(films), name="Films", kinds=(Kind.VIDEO,))
    status = await client.configure(EngineConfig(home_name="Zuhause", shares=(share,)))
    assert [share.id for share in status.shares] == ["films"]
    assert (await client.status()).version == VERSION
    assert (await client.rescan("films")).api_version == API_VERSION
    assert (await client.rescan()).pid == status.pid
    assert (await client.browse("")).node.id == ""
    assert (await client.search(SearchQuery(text="nothing like it"))).items == ()


@pytest.mark.parametrize("ask", EVERYTHING[3:7])
async def test_what_is_not_there_is_refused_with_a_key(
    engine: Engine, ask: Ask
) -> None:
    with pytest.raises(EngineError) as refused:
        await ask(engine.client)
    assert refused.value.key is ErrorKey.NOT_FOUND
    assert refused.value.message


@pytest.mark.parametrize(
    "item_id",
    [
        "",
        "..",
        "../status",
        "a" * 25,
        "A" * 26,
        "a" * 26 + "\n",
        "a/b",
        "%2e%2e",
        "é" * 26,
    ],
)
async def test_an_id_that_is_none_never_leaves_the_house(
    client: EngineClient, item_id: str
) -> None:
    # Nobody listens: any request would be EngineUnavailable.
    for owner in (None, HOME_ID):
        ref = ItemRef(owner, item_id)
        for ask in (client.item(ref), client.locate(Wanted(ref)), client.pin(ref)):
            with pytest.raises(EngineError) as refused:
                await ask
            assert refused.value.key is ErrorKey.NOT_FOUND


@pytest.mark.parametrize("item_id", ["a" * 26 + "/", "a" * 27])
async def test_no_picture_is_asked_for_by_such_an_id(
    client: EngineClient, item_id: str
) -> None:
    for owner in (None, HOME_ID):
        with pytest.raises(EngineError) as refused:
            await client.locate(Wanted(ItemRef(owner, item_id), picture=True))
        assert refused.value.key is ErrorKey.NOT_FOUND


@pytest.mark.parametrize(
    "home",
    ["", ".", "..", "A" * 27, "A" * 29, "a" * 28, "U" * 28, f"{'A' * 27}/", "?" * 28],
)
async def test_what_is_no_home_is_never_asked_for(
    client: EngineClient, home: str
) -> None:
    # Nobody listens: any request would be EngineUnavailable.
    for ask in (
        client.forget_pairing(home),
        client.unblock(home),
        client.answer_pairing(home, PairingAnswer(accept=True)),
        client.item(ItemRef(home, ITEM_ID)),
        client.locate(Wanted(ItemRef(home, ITEM_ID))),
        client.wait(ItemRef(home, ITEM_ID), WAIT),
        client.release(ItemRef(home, ITEM_ID), "tv"),
    ):
        with pytest.raises(EngineError) as refused:
            await ask
        assert refused.value.key is ErrorKey.NOT_FOUND


@pytest.mark.parametrize("ask", EVERYTHING)
async def test_without_an_engine_everything_is_unavailable(
    client: EngineClient, ask: Ask
) -> None:
    with pytest.raises(EngineUnavailable):
        await ask(client)


@pytest.mark.parametrize("ask", [EVERYTHING[0], EVERYTHING[4], EVERYTHING[7]])
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"{}"),
        (200, b"<html>"),
        (404, b"404: Not Found"),
        (500, b"\xff"),
        (400, b"[]"),
    ],
)
async def test_what_is_no_engine_is_unavailable(
    client: EngineClient, serve: Impostor, ask: Ask, status: int, body: bytes
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    await serve(answer)
    with pytest.raises(EngineUnavailable, match="not this engine"):
        await ask(client)


@pytest.mark.parametrize("ask", EVERYTHING)
async def test_an_engine_that_hangs_is_unavailable(
    client: EngineClient, serve: Impostor, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    await serve(serve.hang)
    monkeypatch.setattr(client_module, "WORK_TIMEOUT", 0.05)
    monkeypatch.setattr(client_module, "QUICK_TIMEOUT", 0.05)
    with pytest.raises(EngineUnavailable, match="in time"):
        await ask(client)


async def test_an_answer_that_breaks_off_is_unavailable(
    client: EngineClient, serve: Impostor
) -> None:
    async def break_off(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"api_version"')
        assert request.transport is not None
        request.transport.abort()
        return response

    await serve(break_off)
    with pytest.raises(EngineUnavailable):
        await client.status()


@pytest.mark.parametrize("key", ErrorKey)
async def test_every_refusal_keeps_its_key(
    client: EngineClient, serve: Impostor, key: ErrorKey
) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=503, body=encode(ApiError(error=key, message="no")))

    await serve(refuse)
    with pytest.raises(EngineError, match=r"^no$") as refused:
        await client.status()
    assert refused.value.key is key


async def test_pictures_do_not_keep_a_look_up_waiting(
    client: EngineClient, serve: Impostor
) -> None:
    asked = []

    async def be_slow_with_pictures(request: web.Request) -> web.Response:
        asked.append(request.path)
        if request.path.endswith("thumbnail"):
            await serve.end.wait()
        return web.Response(
            status=404, body=encode(ApiError(error=ErrorKey.NOT_FOUND, message="no"))
        )

    await serve(be_slow_with_pictures)
    pictures = [
        asyncio.create_task(client.locate(Wanted(ref, picture=True)))
        for ref in (OWN, FRIENDS)
        for _ in range(200)
    ]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(2):
        with pytest.raises(EngineError):
            await client.locate(Wanted(OWN))
    # Nor do those of other homes keep those of this one waiting.
    assert len(asked) == 2 * client_module.MAX_WORK + 1
    for picture in pictures:
        picture.cancel()
    await asyncio.gather(*pictures, return_exceptions=True)


async def test_a_closed_client_can_ask_again(engine: Engine) -> None:
    await engine.client.status()
    await engine.client.close()
    await engine.client.close()
    await engine.client.status()


async def test_events_begin_with_hello(engine: Engine, tmp_path: Path) -> None:
    heard: list[Event] = []
    async with asyncio.timeout(10), engine.client.events() as events:
        async for event in events:
            heard.append(event)
            if isinstance(event, Hello):
                share = ShareConfig(
                    id="s", path=str(tmp_path), name="S", kinds=(Kind.MUSIC,)
                )
                await engine.client.configure(
                    EngineConfig(home_name="x", shares=(share,))
                )
            elif isinstance(event, StatusChanged) and event.status.shares:
                break
    assert isinstance(heard[0], Hello)
    assert all(isinstance(event, StatusChanged | ItemsChanged) for event in heard[1:])


async def test_without_an_engine_there_are_no_events(client: EngineClient) -> None:
    with pytest.raises(EngineUnavailable):
        async with client.events():
            raise AssertionError("nobody is there")


async def stream(
    *messages: bytes,
) -> Handler:
    async def tell(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for message in messages:
            await socket.send_str(message.decode())
        await socket.close()
        return socket

    return tell


async def test_events_that_this_release_does_not_know_are_left_out(
    client: EngineClient, serve: Impostor
) -> None:
    known = ItemsChanged(revision=1, items=None)
    news = NewMedia(home=HOME_ID, name="Ada", count=1, titles=("One",))
    unknown = b'{"type": "friend", "name": "x"}'
    await serve(await stream(unknown, encode(known), encode(news)))
    async with client.events() as events:
        assert [event async for event in events] == [known, news]


@pytest.mark.parametrize(
    "message", [b"", b"{}", b'{"type": "hello"}', b'{"type": 1}', b"hello"]
)
async def test_events_that_are_none_end_the_stream(
    client: EngineClient, serve: Impostor, message: bytes
) -> None:
    await serve(await stream(message))
    async with client.events() as events:
        with pytest.raises(EngineUnavailable, match="not this engine"):
            await anext(events)


async def test_an_engine_that_hangs_ends_the_stream(
    client: EngineClient, serve: Impostor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "SILENCE_TIMEOUT", 0.2)

    async def freeze(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await serve.end.wait()
        return socket

    await serve(freeze)
    async with asyncio.timeout(5), client.events() as events:
        with pytest.raises(EngineUnavailable, match="silent"):
            await anext(events)


async def test_the_client_allows_a_little_more_time_than_the_engine() -> None:
    assert client_module.QUICK_TIMEOUT > requests.QUICK_TIMEOUT
    assert client_module.WORK_TIMEOUT > requests.SLOW_TIMEOUT
    assert client_module.SILENCE_TIMEOUT > engine_events.HEARTBEAT + 1
