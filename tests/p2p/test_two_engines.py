"""Two engines on one machine: one shares, the other fetches what it holds a ticket for."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import Generator
import contextlib
import json
import os
from pathlib import Path
import tempfile
import time

import aiohttp
import pytest

from p2p.torrent import metainfo
from tests.p2p.torrent.owned import fetching
from tests.patience import PATIENCE

from .test_cli import Process, pemus

SIZE = 5_000_000
API = "http://engine/v1"
STRANGER = "S" * 28


def ask(engine: Process, *arguments: str, **options: object) -> str:
    done = pemus(*arguments, "--socket", str(engine.socket), **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(engine: Process, *arguments: str, **options: object) -> str:
    done = pemus(*arguments, "--socket", str(engine.socket), **options)
    assert done.returncode == 1, done.stdout
    return done.stderr


def transfers(engine: Process) -> list[str]:
    """Return what an engine says of each transfer but for its rate, which is of a moment."""
    return [line.rpartition(", ")[0] for line in ask(engine, "transfers").splitlines()]


def item_of(owner: Process) -> str:
    deadline = time.monotonic() + PATIENCE
    while not (found := ask(owner, "search", "film")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found.split()[0]


def ticket_for(owner: Process, receiver: Process) -> str:
    item, home = item_of(owner), ask(receiver, "home").strip()
    deadline = time.monotonic() + PATIENCE
    while True:
        ticket = ask(owner, "ticket", item, "--receiver", home)
        if json.loads(ticket)["torrent"]:
            return ticket
        assert time.monotonic() < deadline


@contextlib.contextmanager
def two_engines() -> Generator[tuple[Process, Process]]:
    with (
        tempfile.TemporaryDirectory(prefix="pemus-") as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(name)
        film = film_of(folder)
        film.parent.mkdir()
        film.write_bytes(os.urandom(SIZE))
        # An hour old: what changed just now may change once more unseen, and its hashes are not kept.
        os.utime(film, (time.time() - 3600,) * 2)
        owner = start(stack, folder / "owner", "--share", str(film.parent))
        yield owner, start(stack, folder / "receiver")


def film_of(folder: Path) -> Path:
    return folder / "Films" / "A film.mp4"


@pytest.fixture(scope="module")
def engines() -> Generator[tuple[Process, Process]]:
    """Two engines that a test leaves as they are."""
    with two_engines() as both:
        yield both


@pytest.fixture
def doomed() -> Generator[tuple[Process, Process]]:
    """Two engines that a test may kill."""
    with two_engines() as both:
        yield both


@pytest.fixture
def film(request: pytest.FixtureRequest) -> Path:
    """The file that the owner shares."""
    name = "doomed" if "doomed" in request.fixturenames else "engines"
    return film_of(request.getfixturevalue(name)[0].folder.parent)


def start(stack: contextlib.ExitStack, folder: Path, *options: str) -> Process:
    folder.mkdir(exist_ok=True)
    # One that was killed left its socket, which says nothing about the next.
    (folder / "engine.sock").unlink(missing_ok=True)
    process = Process(folder, "--watch-stdin", *options)
    stack.callback(process.close)
    process.wait_until_ready()
    return process


def test_a_film_goes_from_one_to_the_other(
    engines: tuple[Process, Process], tmp_path: Path, film: Path
) -> None:
    owner, receiver = engines
    target = tmp_path / "copy.mp4"
    ticket = ticket_for(owner, receiver)
    assert film.name not in json.loads(ticket)["torrent"]
    shown = ask(receiver, "fetch", "--output", str(target), input=ticket)
    assert "complete, 100 %" in shown
    assert target.read_bytes() == film.read_bytes()
    assert "complete" in ask(receiver, "transfers")
    home = ask(receiver, "browse").splitlines()[-1].split()[0]
    assert home == f"home/{json.loads(ticket)['owner']}"
    assert ask(receiver, "browse", home).split("  ")[1].strip() == "A film"


async def test_an_engine_sends_nothing_but_the_file_that_was_shared(
    doomed: tuple[Process, Process], tmp_path: Path, film: Path
) -> None:
    """With Landlock where the kernel has it; `tests/p2p/torrent/test_swaps.py` is the same without."""
    owner, receiver = doomed
    ticket = json.loads(await asyncio.to_thread(ticket_for, owner, receiver))
    # The most secret file of all, made long enough for a block.
    secret = owner.folder / "data" / "identity"
    secret.write_bytes(b"a private key " * SIZE)
    content = film.read_bytes()
    meta = metainfo.read(b64decode(ticket["torrent"]), len(content))
    port = int(ticket["endpoints"][0].rpartition(":")[2])
    async with fetching(tmp_path) as fetcher:
        assert await fetcher.fetch(meta, port) == content
        for number in range(6):
            if number % 2:
                film.rename(aside := film.with_name("aside"))
                film.symlink_to(secret)
            else:
                film.parent.rename(aside := film.parent.with_name("aside"))
                film.parent.symlink_to(private := tmp_path / f"private{number}")
                private.mkdir()
                (private / film.name).symlink_to(secret)
            assert b"a private key" not in await fetcher.whatever(meta, port, 2)
            if number % 2:
                aside.replace(film)
            else:
                film.parent.unlink()
                aside.rename(film.parent)


def test_what_was_fetched_is_there_when_the_owner_is_gone(
    doomed: tuple[Process, Process], tmp_path: Path, film: Path
) -> None:
    owner, receiver = doomed
    ticket = ticket_for(owner, receiver)
    ask(receiver, "fetch", input=ticket)
    owner.close()
    receiver.process.kill()
    receiver.end()
    with contextlib.ExitStack() as stack:
        again = start(stack, receiver.folder)
        target = tmp_path / "copy.mp4"
        ask(again, "fetch", "--output", str(target), input=ticket)
        assert target.read_bytes() == film.read_bytes()


def test_a_ticket_is_good_for_its_receiver_only(
    engines: tuple[Process, Process],
) -> None:
    owner, receiver = engines
    other = ask(owner, "ticket", item_of(owner), "--receiver", STRANGER)
    assert "another home" in refused(receiver, "accept", input=other)
    mine = json.loads(ticket_for(owner, receiver))
    assert mine["torrent"] != json.loads(other)["torrent"]


def test_what_is_no_ticket_is_refused(engines: tuple[Process, Process]) -> None:
    before = transfers(engines[1])
    for payload in ("", "{}", "[]", "\0", "{" * 5000, "x" * 13_000_000):
        assert refused(engines[1], "accept", input=payload)
    assert transfers(engines[1]) == before


def test_a_revoked_ticket_fetches_nothing(
    engines: tuple[Process, Process],
) -> None:
    owner, receiver = engines
    ticket = ticket_for(owner, receiver)
    node = ask(receiver, "accept", input=ticket).split()[0]
    ask(owner, "revoke", json.loads(ticket)["receiver"])
    fresh = json.loads(ticket_for(owner, receiver))
    assert fresh["torrent"] != json.loads(ticket)["torrent"]
    assert node.endswith(fresh["item"]["id"])


def test_no_ticket_without_an_item_and_a_home(
    engines: tuple[Process, Process],
) -> None:
    for item, receiver in (
        ("item/" + "a" * 26, STRANGER),
        ("../../etc/passwd", STRANGER),
        (item_of(engines[0]), "nobody"),
    ):
        assert refused(engines[0], "ticket", item, "--receiver", receiver)


def test_a_home_keeps_its_id(doomed: tuple[Process, Process]) -> None:
    receiver = doomed[1]
    home = ask(receiver, "home")
    receiver.close()
    with contextlib.ExitStack() as stack:
        again = start(stack, receiver.folder)
        assert ask(again, "home") == home


def test_an_owner_that_starts_again_hashes_nothing_and_serves_the_same(
    doomed: tuple[Process, Process], film: Path
) -> None:
    owner, receiver = doomed
    ticket = json.loads(ticket_for(owner, receiver))
    owner.close()
    with contextlib.ExitStack() as stack:
        again = start(stack, owner.folder, "--share", str(film.parent))
        item_of(again)
        renewed = json.loads(
            ask(
                again,
                "ticket",
                ticket["item"]["id"],
                "--receiver",
                ticket["receiver"],
            )
        )
        assert renewed["torrent"] == ticket["torrent"]
        assert "complete" in ask(receiver, "fetch", input=json.dumps(renewed))


async def test_webrtc_needs_nothing_but_a_channel(
    doomed: tuple[Process, Process], film: Path
) -> None:
    """The ticket names no address; what the engines have to say to each other goes through this test."""
    owner, receiver = doomed
    ticket = json.loads(await asyncio.to_thread(ticket_for, owner, receiver))
    path = f"remote/{ticket['owner']}/{ticket['item']['id']}"
    async with (
        session_with(owner) as at_owner,
        session_with(receiver) as at_receiver,
        at_owner.ws_connect(f"{API}/channels/{ticket['receiver']}") as left,
        at_receiver.ws_connect(f"{API}/channels/{ticket['owner']}") as right,
        asyncio.TaskGroup() as tasks,
        asyncio.timeout(PATIENCE),
    ):
        carriers = [
            tasks.create_task(carry(left, right)),
            tasks.create_task(carry(right, left)),
        ]
        payload = json.dumps(ticket | {"endpoints": []})
        await at_receiver.post(f"{API}/remote", data=payload)
        await at_receiver.put(f"{API}/{path}/pin")
        while True:
            async with at_receiver.get(f"{API}/remote") as answer:
                (transfer,) = (await answer.json())["items"]
            if transfer["state"] == "complete":
                break
            await asyncio.sleep(0.2)
        for carrier in carriers:
            carrier.cancel()
        async with at_receiver.get(f"{API}/{path}/file") as answer:
            fetched = Path((await answer.json())["path"])
    assert fetched.read_bytes() == film.read_bytes()


def session_with(engine: Process) -> aiohttp.ClientSession:
    connector = aiohttp.UnixConnector(str(engine.socket))
    return aiohttp.ClientSession(connector=connector)


async def carry(
    source: aiohttp.ClientWebSocketResponse, target: aiohttp.ClientWebSocketResponse
) -> None:
    async for message in source:
        await target.send_bytes(message.data)
