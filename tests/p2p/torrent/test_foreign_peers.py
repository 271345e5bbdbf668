"""Stock libtorrent, with its own defaults, against a seed of the session: who is served, and who is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from hashlib import sha1
import os
from pathlib import Path
from typing import Any

import libtorrent as lt
import pytest

from p2p.torrent import metainfo
from p2p.torrent.metainfo import Metainfo
from p2p.torrent.session import Session, SessionSettings

SIZE = 2_000_000
DISABLED, ENABLED = 2, 1


class Silent:
    def piece_finished(self, index: int) -> None: ...
    def peer_connected(self) -> None: ...
    def peer_lost(self) -> None: ...
    def failed(self, message: str) -> None:
        raise AssertionError(message)


class Stranger:
    """A client that is libtorrent as it comes, on loopback alone."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.refused = 0
        self.session = lt.session(
            {
                "listen_interfaces": "127.0.0.1:0",
                "enable_dht": False,
                "enable_lsd": False,
                "enable_upnp": False,
                "enable_natpmp": False,
                "min_reconnect_time": 1,
                "alert_mask": int(lt.alert_category.all),
                **settings,
            }
        )

    def fetch(self, meta: Metainfo, port: int) -> lt.torrent_handle:
        parameters = lt.add_torrent_params()
        parameters.ti = lt.torrent_info(meta.encode())
        parameters.save_path = str(self.folder / meta.info_hash)
        handle = self.session.add_torrent(parameters)
        handle.connect_peer(("127.0.0.1", port))
        return handle

    def content(self, meta: Metainfo) -> bytes:
        return (self.folder / meta.info_hash / "item").read_bytes()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                for alert in self.session.pop_alerts():
                    self.refused += isinstance(alert, lt.peer_disconnected_alert)
                await asyncio.sleep(0.02)


@pytest.fixture
def content() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def pieces(content: bytes) -> bytes:
    length = metainfo.piece_length_for(SIZE)
    return b"".join(
        sha1(content[at : at + length]).digest() for at in range(0, SIZE, length)
    )


@pytest.fixture
async def owner(
    tmp_path: Path, content: bytes, pieces: bytes
) -> AsyncGenerator[tuple[Session, Metainfo]]:
    path = tmp_path / "film.mp4"
    path.write_bytes(content)
    meta = metainfo.make(SIZE, pieces, os.urandom(16))
    session = await Session.open(SessionSettings(addresses=("127.0.0.1",)))
    await session.seed(meta, os.open(path, os.O_RDONLY), "film", Silent())
    yield session, meta
    await session.close()


async def test_who_knows_the_info_hash_is_served_and_who_knows_the_pieces_is_not(
    owner: tuple[Session, Metainfo], content: bytes, pieces: bytes, tmp_path: Path
) -> None:
    session, meta = owner
    guessed = metainfo.make(SIZE, pieces, os.urandom(16))
    stranger = Stranger(tmp_path / "stranger")
    vain = stranger.fetch(guessed, session.port)
    await stranger.until(lambda: stranger.refused > 0)
    # The same client is served as soon as it knows more.
    served = stranger.fetch(meta, session.port)
    await stranger.until(lambda: served.status().is_seeding)
    assert stranger.content(meta) == content
    assert vain.status().total_payload_download == 0
    assert vain.status().num_pieces == 0


async def test_who_does_not_encrypt_is_not_served(
    owner: tuple[Session, Metainfo], content: bytes, tmp_path: Path
) -> None:
    session, meta = owner
    stranger = Stranger(
        tmp_path / "stranger", in_enc_policy=DISABLED, out_enc_policy=DISABLED
    )
    handle = stranger.fetch(meta, session.port)
    await stranger.until(lambda: stranger.refused > 0)
    assert handle.status().total_download == 0
    # The same client is served as soon as it encrypts.
    stranger.session.apply_settings(
        {"in_enc_policy": ENABLED, "out_enc_policy": ENABLED}
    )
    handle.connect_peer(("127.0.0.1", session.port))
    await stranger.until(lambda: handle.status().is_seeding)
    assert stranger.content(meta) == content
