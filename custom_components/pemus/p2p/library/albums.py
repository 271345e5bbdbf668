"""Which songs make an album, and whose it is.

Where songs name their album's artist, it is (album artist, album). Where they do not, a folder says more than the songs
do: those of one folder with the same album title belong together, also when some are "A feat. B". Only where the same
track numbers occur twice with different artists are there several albums of one title in one folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
import sqlite3

import orjson

from .migrations import MUSIC
from .names import NO_KEY, group_key

_FOLDERS = 50
"""Folders that are grouped in one transaction."""
_LAST_TRACK = 99_999


@dataclass(frozen=True, slots=True)
class Song:
    """What a song says about its place."""

    row: int
    artist: str | None = None
    album: str | None = None
    album_artist: str | None = None
    track: int | None = None
    disc: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Where a song is listed: its artist, its album with that one's artist, and its position in there."""

    artist_key: str
    artist_name: str | None
    album_key: str
    album_name: str | None
    album_by: str | None
    position: int


def group_songs(db: sqlite3.Connection) -> bool:
    """Group the songs of some folders in which new ones were read; return whether there were any."""
    folders = db.execute(
        f"""
        SELECT DISTINCT items.folder, items.share, folders.path
        FROM items INDEXED BY items_ungrouped JOIN folders ON folders.number = items.folder
        WHERE shown = {MUSIC} AND artist_key IS NULL AND level IS NOT NULL LIMIT {_FOLDERS}
        """
    ).fetchall()
    for folder, share, path in folders:
        songs, before = [], {}
        for row, facts, *known_group in db.execute(
            f"""
            SELECT row, facts, artist_key, artist_name, album_key, album_name, album_by, album_position
            FROM items WHERE folder = ? AND shown = {MUSIC} AND level IS NOT NULL
            """,
            (folder,),
        ):
            known = orjson.loads(facts) if facts else {}
            songs.append(
                Song(
                    row,
                    *(
                        known.get(name)
                        for name in ("artist", "album", "album_artist", "track", "disc")
                    ),
                )
            )
            before[row] = known_group
        groups = group(songs, f"{share}/{path}")
        db.executemany(
            """
            UPDATE items SET artist_key = ?, artist_name = ?, album_key = ?, album_name = ?, album_by = ?,
                album_position = ? WHERE row = ?
            """,
            [
                (*values, row)
                for row, made in groups.items()
                if (values := _values(made)) != before[row]
            ],
        )
    return bool(folders)


def group(songs: Iterable[Song], place: str) -> dict[int, Group]:
    """Return where the songs of one folder belong, by their rows. `place` tells the folder from all others."""
    groups: dict[int, Group] = {}
    alike: dict[str, list[Song]] = {}
    for song in songs:
        if not song.album:
            groups[song.row] = _loose(song)
        elif song.album_artist:
            groups[song.row] = _of(song, song.album_artist)
        else:
            alike.setdefault(group_key(song.album), []).append(song)
    for together in alike.values():
        groups.update(_of_one_title(together, place))
    return groups


def _of_one_title(songs: list[Song], place: str) -> dict[int, Group]:
    artists = Counter(group_key(song.artist) if song.artist else "" for song in songs)
    if _clash(songs):
        return {song.row: _of(song, song.artist, place) for song in songs}
    first, most = artists.most_common(1)[0]
    if first and 2 * most >= len(songs):
        by = next(s.artist for s in songs if s.artist and group_key(s.artist) == first)
        return {song.row: _of(song, by) for song in songs}
    return {song.row: _of_various(song, place) for song in songs}


def _clash(songs: list[Song]) -> bool:
    """Tell whether a track number occurs twice, with different artists."""
    seen: dict[tuple[int, int], str | None] = {}
    for song in songs:
        if song.track is not None:
            number = (song.disc or 1, song.track)
            if seen.setdefault(number, song.artist) != song.artist:
                return True
    return False


def _loose(song: Song) -> Group:
    artist = song.album_artist or song.artist
    return Group(*_artist(artist), NO_KEY, None, None, 0)


def _of(song: Song, by: str | None, place: str = "") -> Group:
    """Put a song into an album of one artist. Where nobody knows the artist, the folder tells albums apart."""
    assert song.album is not None
    key = group_key(by, song.album) if by else group_key("", place, song.album)
    return Group(*_artist(by), key, song.album, by, _position(song))


def _of_various(song: Song, place: str) -> Group:
    """Put a song into an album of several artists; it stays listed under its own."""
    assert song.album is not None
    key = group_key("", place, song.album)
    return Group(*_artist(song.artist), key, song.album, None, _position(song))


def _artist(name: str | None) -> tuple[str, str | None]:
    return (group_key(name), name) if name else (NO_KEY, None)


def _position(song: Song) -> int:
    disc = min(max(song.disc or 1, 0), 1_000)
    track = _LAST_TRACK if song.track is None else min(max(song.track, 0), _LAST_TRACK)
    return disc * (_LAST_TRACK + 1) + track


def _values(made: Group) -> list[str | int | None]:
    return [
        made.artist_key,
        made.artist_name,
        made.album_key,
        made.album_name,
        made.album_by,
        made.position,
    ]
