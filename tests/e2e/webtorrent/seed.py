"""The engine's session, seeding one file to who knows its tracker. Runs in the engine's environment.

    python seed.py FILE TRACKER

Says the torrent in one line (base64), and runs until its input ends.
"""

from __future__ import annotations

import asyncio
import base64
from hashlib import sha1
import os
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parents[3] / ".venvs" / "engine-path"))

from p2p.torrent import metainfo
from p2p.torrent.session import Session, SessionSettings


class Silent:
    """A listener that has nothing to do but to complain."""

    def piece_finished(self, index: int) -> None: ...
    def peer_connected(self) -> None: ...
    def peer_lost(self) -> None: ...
    def failed(self, message: str) -> None:
        sys.exit(message)


async def seed(path: Path, tracker: str) -> None:
    content = path.read_bytes()
    length = metainfo.piece_length_for(len(content))
    pieces = b"".join(
        sha1(content[at : at + length]).digest()
        for at in range(0, len(content), length)
    )
    meta = metainfo.make(len(content), pieces, os.urandom(16))
    session = await Session.open(SessionSettings(addresses=("127.0.0.1",)))
    torrent = await session.seed(meta, os.open(path, os.O_RDONLY), path.name, Silent())
    torrent.add_tracker(tracker)
    print(base64.b64encode(meta.encode()).decode(), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    # The session's end would wait for the tracker, and nothing is left to be put in order.
    os._exit(0)


asyncio.run(seed(Path(sys.argv[1]), sys.argv[2]))
