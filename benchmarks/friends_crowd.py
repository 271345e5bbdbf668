"""Twenty homes in one process, each with the engine's own part for friends, and with one small library for all of them.

Runs in the engine's environment for `friends.py`, which sends one JSON object per line and gets one for each: `settle`
starts them, and `meet` has them count one home among their friends, which their network shows.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from library import NothingRead
from swarm_peer import HOST, serve

if TYPE_CHECKING:
    from custom_components.pemus.p2p.access.audience import Access
    from custom_components.pemus.p2p.catalogue.sender import Catalogue
    from custom_components.pemus.p2p.core.news import News
    from custom_components.pemus.p2p.friends.friends import Friends
    from custom_components.pemus.p2p.library import Library
    from custom_components.pemus.p2p.models import EngineConfig, Kind, ShareConfig
    from custom_components.pemus.p2p.models.homes import FriendConfig, LanHome
    from custom_components.pemus.p2p.net import identity
else:
    from p2p.access.audience import Access
    from p2p.catalogue.sender import Catalogue
    from p2p.core.news import News
    from p2p.friends.friends import Friends
    from p2p.library import Library
    from p2p.models import EngineConfig, Kind, ShareConfig
    from p2p.models.homes import FriendConfig, LanHome
    from p2p.net import identity

SHARE = "share"


class Crowd:
    """All of them."""

    def __init__(self) -> None:
        """Have nobody yet."""
        self._homes: list[Friends] = []
        self._configs: dict[str, EngineConfig] = {}
        self._shares: tuple[ShareConfig, ...] = ()

    async def settle(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Start so many homes in a folder, with a library of what lies in another one."""
        folder = Path(ask["folder"])
        for name in ("data", "cache"):
            (folder / name).mkdir(parents=True)
        self._library = Library(
            data=folder / "data",
            cache=folder / "cache",
            media=cast(Any, NothingRead()),
            on_change=lambda: None,
            on_items=lambda items: None,
        )
        share = ShareConfig(
            id=SHARE, path=ask["share"], name="Share", kinds=tuple(Kind)
        )
        self._shares = (share,)
        await self._library.start()
        await self._library.apply(self._config("Crowd"))
        while self._library.shares[0].last_scan is None:
            await asyncio.sleep(0.1)
        homes = []
        for number in range(ask["count"]):
            home = await self._home(folder / f"home-{number}", _name(number))
            status = home.status()
            homes.append({"id": status.id, "name": _name(number), "port": status.port})
        return {"homes": homes}

    def _config(self, name: str, *friends: FriendConfig) -> EngineConfig:
        return EngineConfig(home_name=name, shares=self._shares, friends=friends)

    async def _home(self, folder: Path, name: str) -> Friends:
        folder.mkdir()
        home = Friends(
            identity.load(folder / "identity", first=True),
            data=folder,
            cache=folder / "friends",
            library=self._library,
            catalogue=Catalogue(
                self._library.store,
                shares=lambda: self._library.configured,
                available=self._library.available,
                on_fault=lambda: None,
            ),
            access=Access(self._library, lambda: self._configs[name]),
            swarm=lambda: None,
            downloads=lambda: None,
            news=News(),
        )
        self._configs[name] = self._config(name)
        await home.start(self._configs[name])
        self._homes.append(home)
        return home

    async def meet(self, ask: dict[str, Any]) -> dict[str, Any]:
        """Have a home among the friends of all."""
        friend = FriendConfig(id=ask["home"], name="Engine", shares=(SHARE,))
        near = LanHome(
            id=ask["home"], name="Engine", addresses=(HOST,), port=ask["port"]
        )
        for number, home in enumerate(self._homes):
            config = self._config(name := _name(number), friend)
            self._configs[name] = config
            await home.apply(config)
            home.connections.show((near,))
        return {}


def _name(number: int) -> str:
    return f"Home {number}"


async def _main() -> None:
    await serve(Crowd())


if __name__ == "__main__":
    asyncio.run(_main())
