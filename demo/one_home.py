"""One Home Assistant that shares a folder with the people in the house, and a film with guests.

`python -m demo.one_home --folder DIR --share DIR --signaling-python PYTHON` starts it and a signalling server, sets PeMuS
up as a user would, and stays until Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress
from pathlib import Path
import signal
import sys
from typing import Any, Final

from .home import (
    DEFAULT_PORT,
    PASSWORD,
    PATIENCE,
    RESTART_STATUS,
    USER,
    Home,
    HomeError,
    free_port,
)
from .signaling import SignalingServer, say, use_servers

ROOM: Final = "Sample for you"


async def share_sample(home: Home, name: str = ROOM) -> str:
    """Share a film with guests, as a user would, and return the link. Raises HomeError."""
    rooms = await home.ask(
        "config_entries/subentries/list", entry_id=await home.entry()
    )
    if any(room["title"] == name for room in rooms):
        shared = await act(home, "change_room", {"room": name})
    else:
        media = await first_item(home, "media-source://pemus")
        shared = await act(home, "share", {"media_content_id": media, "name": name})
    return str(shared["link"])


async def first_item(home: Home, place: str) -> str | None:
    """Return the media content id of the first item below a place of the media browser. Raises HomeError."""
    found = await home.ask("media_source/browse_media", media_content_id=place)
    for child in found["children"]:
        content_id = str(child["media_content_id"])
        if child["can_play"]:
            return content_id
        if below := await first_item(home, content_id):
            return below
    return None


async def act(home: Home, action: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return the response of an action of PeMuS. Raises HomeError."""
    answer = await home.post(f"/api/services/pemus/{action}?return_response", data)
    response: dict[str, Any] = answer["service_response"]
    return response


async def _run(home: Home, share: Path, name: str, server: SignalingServer) -> None:
    """Run a home and a signalling server until a signal says that it is enough."""
    running = asyncio.create_task(_with_server(home, share, name, server))
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(sign, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        say("Stopping")
    finally:
        await home.stop()


async def _with_server(
    home: Home, share: Path, name: str, server: SignalingServer
) -> None:
    say("Starting the signalling server")
    async with server:
        await _keep_running(home, share, name, server.url)


async def _keep_running(home: Home, share: Path, name: str, server: str) -> None:
    """Start the home, and again whenever it wants to be restarted. Raises HomeError."""
    while True:
        say("Starting Home Assistant")
        await home.start()
        say("Setting up PeMuS")
        await home.share(share, name)
        if not await home.wait_for_environment():
            say(
                "The engine has no environment of its own yet: Settings, Repairs say why"
            )
        say("Reading the library")
        with suppress(HomeError):
            # A large one is read while it is looked at.
            await home.wait_for_library(PATIENCE)
        await use_servers(home, server)
        try:
            link = await share_sample(home)
        except HomeError as err:
            link = f"none yet: {err}"
        sys.stdout.write(
            f"\n  Home Assistant   {home.url}/media-browser\n"
            f"  Login            {USER} / {PASSWORD}\n"
            f"  Shared folder    {share}\n"
            f"  Link for guests  {link}\n"
            f"  Log              {home.log}\n\n"
            "  Ctrl-C stops it.\n\n"
        )
        sys.stdout.flush()
        assert home.process is not None
        status = await home.process.wait()
        await home.stop()
        if status != RESTART_STATUS:
            raise HomeError(
                f"Home Assistant ended with status {status}\n{home.last_lines()}"
            )


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="configuration")
    parser.add_argument("--share", type=Path, required=True, help="folder to share")
    parser.add_argument("--name", help="what the share is called")
    parser.add_argument("--port", type=int, help=f"from {DEFAULT_PORT} by default")
    parser.add_argument("--python", type=Path, help="that has Home Assistant")
    parser.add_argument(
        "--signaling-python",
        type=Path,
        required=True,
        help="that has the signalling server",
    )
    arguments = parser.parse_args()
    if not arguments.share.is_dir():
        sys.exit(f"error: {arguments.share} is not a folder")
    port = arguments.port or free_port(DEFAULT_PORT)
    if free_port(port) != port:
        sys.exit(f"error: something listens on port {port} already")
    if port != DEFAULT_PORT and not arguments.port:
        say(f"Port {DEFAULT_PORT} is taken; using {port}")
    share = arguments.share.resolve()
    name = arguments.name or share.name
    folder = arguments.folder.resolve()
    try:
        home = Home(folder, port=port, python=arguments.python)
        server = SignalingServer(folder, arguments.signaling_python)
        asyncio.run(_run(home, share, name, server))
    except HomeError as err:
        sys.exit(f"error: {err}")


if __name__ == "__main__":
    main()
