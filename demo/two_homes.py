"""Two Home Assistants on one machine that are friends, and a signalling server between them.

`python -m demo.two_homes --folder DIR --library DIR` starts them, pairs them as two users would who know each
other's PeMuS ID, and stays until Ctrl-C. The end-to-end tests use the parts.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import AsyncExitStack, suppress
import os
from pathlib import Path
import shutil
import signal
import sys
import time
from typing import Any, Final

import aiohttp

from .home import DEFAULT_PORT, PASSWORD, PATIENCE, USER, Home, HomeError, free_port
from .signaling import SignalingServer, say, use_servers

NAMES: Final = ("Anna's home", "Ben's home")
PAIR_TIMEOUT: Final = 120
"""Seconds until both homes list each other."""
LOOK: Final = 0.25


async def engine(home: Home, path: str, method: str = "GET", body: Any = None) -> Any:
    """Return the answer of a home's engine to a request. Raises HomeError, aiohttp.ClientError."""
    connector = aiohttp.UnixConnector(str(home.engine_socket()))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request(method, f"http://engine/v1/{path}", json=body) as answer,
    ):
        return await answer.json()


async def pemus_id(home: Home) -> str:
    """Return a home's PeMuS ID."""
    return str((await engine(home, "status"))["peers"]["id"])


async def _subentries(home: Home, kind: str) -> set[str]:
    """Return the ids of a home's subentries of a type."""
    entry = await home.entry()
    return {
        each["subentry_id"]
        for each in await home.ask("config_entries/subentries/list", entry_id=entry)
        if each["subentry_type"] == kind
    }


async def remove_friends(home: Home) -> None:
    """End all friendships of a home, as a user would. Raises HomeError."""
    entry = await home.entry()
    for subentry in await _subentries(home, "friend"):
        await home.ask(
            "config_entries/subentries/delete", entry_id=entry, subentry_id=subentry
        )


async def shares_of(home: Home) -> list[str]:
    """Return the devices of a home's shared folders."""
    entry = await home.entry()
    subentries = await _subentries(home, "share")
    return [
        device["id"]
        for device in await home.ask("config/device_registry/list")
        if subentries & set(device["config_entries_subentries"].get(entry, ()))
    ]


async def pair(anna: Home, ben: Home, seconds: float = PAIR_TIMEOUT) -> None:
    """Make two homes friends by Home Assistant's actions, each seeing all that the other shares. Raises HomeError."""
    ids = await pemus_id(anna), await pemus_id(ben)
    if not await is_friend(anna, ids[1]):
        request = {"home_id": ids[1], "shares": await shares_of(anna)}
        await anna.post("/api/services/pemus/request_friend", request)
        deadline = time.monotonic() + seconds
        # Not by the engine, which knows of it a moment before its Home Assistant does.
        while not any(
            dialog["context"].get("unique_id") == f"request_{ids[0]}"
            for dialog in await ben.ask("config_entries/flow/progress")
        ):
            if time.monotonic() > deadline:
                raise HomeError(f"the request did not arrive\n{ben.last_lines()}")
            await asyncio.sleep(LOOK)
        answer = {"home_id": ids[0], "accept": True, "shares": await shares_of(ben)}
        await ben.post("/api/services/pemus/answer_request", answer)
    for home, other in ((anna, ids[1]), (ben, ids[0])):
        await wait_for_list(home, other, seconds)


async def is_friend(home: Home, other: str) -> bool:
    """Tell whether a home counts another one among its friends."""
    friends = (await engine(home, "status"))["peers"]["friends"]
    return any(friend["id"] == other for friend in friends)


async def wait_for_list(home: Home, other: str, seconds: float = PAIR_TIMEOUT) -> None:
    """Wait until a home has the list of a friend's items. Raises HomeError."""
    deadline = time.monotonic() + seconds
    while True:
        for friend in (await engine(home, "status"))["peers"]["friends"]:
            if friend["id"] == other and friend["items"] and friend["online"]:
                return
        if time.monotonic() > deadline:
            raise HomeError(
                f"{home.name} does not list its friend\n{home.last_lines()}"
            )
        await asyncio.sleep(LOOK)


def divide(library: Path, folders: list[Path]) -> None:
    """Deal what lies in each folder of a library out to several libraries, which are made afresh, with hard links."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    for kind in sorted(library.iterdir()):
        entries = sorted(kind.iterdir()) if kind.is_dir() else []
        # What belongs to a film lies beside it and begins with its name.
        stems = sorted({each.name.partition(".")[0] for each in entries})
        for entry in entries:
            number = stems.index(entry.name.partition(".")[0])
            target = folders[number % len(folders)] / kind.name / entry.name
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry.is_dir():
                shutil.copytree(entry, target, copy_function=os.link)
            else:
                os.link(entry, target)


async def _run(arguments: argparse.Namespace) -> None:
    folder: Path = arguments.folder.resolve()
    shares = [folder / f"{name.partition(' ')[0]} library" for name in NAMES]
    divide(arguments.library.resolve(), shares)
    async with AsyncExitStack() as stack:
        say("Starting the signalling server")
        server = await stack.enter_async_context(
            SignalingServer(folder, arguments.signaling_python)
        )
        homes: list[Home] = []
        port = arguments.port
        for name, share in zip(NAMES, shares, strict=True):
            say(f"Starting {name}")
            home = Home(
                folder / name.partition("'")[0].lower(),
                port=free_port(port),
                python=arguments.python,
                name=name,
            )
            port = home.port + 1
            homes.append(await stack.enter_async_context(home))
            await home.share(share, share.name)
            await home.wait_for_environment()
            await use_servers(home, server.url)
            with suppress(HomeError):
                await home.wait_for_library(PATIENCE)
        say("Pairing")
        anna, ben = homes
        await pair(anna, ben)
        lines = "".join(
            f"  {home.name:<16} {home.url}/media-browser\n" for home in homes
        )
        sys.stdout.write(
            f"\n{lines}"
            f"  Login            {USER} / {PASSWORD}\n"
            f"  Signalling       {server.url}\n\n"
            "  Each shows the other in its media browser. Ctrl-C stops them.\n\n"
        )
        sys.stdout.flush()
        ended = [asyncio.create_task(_end_of(home)) for home in homes]
        try:
            await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in ended:
                task.cancel()
        raise HomeError("a Home Assistant ended by itself")


async def _end_of(home: Home) -> None:
    assert home.process is not None
    await home.process.wait()


async def _until_signalled(arguments: argparse.Namespace) -> None:
    running = asyncio.create_task(_run(arguments))
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(sign, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        say("Stopping")


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="configurations")
    parser.add_argument(
        "--library", type=Path, required=True, help="dealt out to both homes"
    )
    parser.add_argument("--port", type=int, default=DEFAULT_PORT)
    parser.add_argument("--python", type=Path, help="that has Home Assistant")
    parser.add_argument(
        "--signaling-python",
        type=Path,
        required=True,
        help="that has the signalling server",
    )
    arguments = parser.parse_args()
    try:
        asyncio.run(_until_signalled(arguments))
    except HomeError as err:
        sys.exit(f"error: {err}")


if __name__ == "__main__":
    main()
