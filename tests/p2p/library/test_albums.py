"""Songs are put into the albums that people would put them into."""

from __future__ import annotations

from p2p.library.albums import Song, group
from p2p.library.names import NO_KEY


def albums(*songs: Song, place: str = "1/folder") -> list[set[int]]:
    """Return the rows of each album, in the order of the first song."""
    groups = group(songs, place)
    found: dict[str, set[int]] = {}
    for song in songs:
        found.setdefault(groups[song.row].album_key, set()).add(song.row)
    return list(found.values())


def test_the_album_artist_decides() -> None:
    songs = [
        Song(1, "A", "Hits", "Various"),
        Song(2, "B", "Hits", "Various"),
        Song(3, "A", "Hits", "A"),
    ]
    assert albums(*songs) == [{1, 2}, {3}]
    assert group(songs, "x")[1].artist_name == "Various"


def test_an_album_in_two_folders_is_one() -> None:
    one = group([Song(1, "A", "Double", disc=1)], "1/CD1")[1]
    two = group([Song(2, "A", "Double", disc=2)], "1/CD2")[2]
    assert one.album_key == two.album_key
    assert one.position < two.position


def test_one_title_of_two_artists_is_two_albums() -> None:
    songs = [
        Song(1, "Queen", "Greatest Hits", track=1),
        Song(2, "Queen", "Greatest Hits", track=2),
        Song(3, "ABBA", "Greatest Hits", track=1),
        Song(4, "ABBA", "Greatest Hits", track=2),
    ]
    assert albums(*songs) == [{1, 2}, {3, 4}]
    one = group(songs[:2], "1/Queen")[1]
    two = group(songs[2:], "1/ABBA")[3]
    assert one.album_key != two.album_key


def test_guests_do_not_tear_an_album_apart() -> None:
    songs = [
        Song(1, "A", "Album", track=1),
        Song(2, "A feat. B", "Album", track=2),
        Song(3, "A", "Album", track=3),
    ]
    groups = group(songs, "x")
    assert albums(*songs) == [{1, 2, 3}]
    assert {each.artist_name for each in groups.values()} == {"A"}
    assert {each.album_by for each in groups.values()} == {"A"}


def test_a_compilation_is_one_album_of_nobody() -> None:
    songs = [Song(number, f"Artist {number}", "Summer", track=number) for number in range(1, 9)]  # fmt: skip
    groups = group(songs, "x")
    assert albums(*songs) == [set(range(1, 9))]
    assert {each.album_by for each in groups.values()} == {None}
    assert len({each.artist_key for each in groups.values()}) == 8
    assert groups[1].album_key != group(songs, "another folder")[1].album_key


def test_spellings_make_no_difference() -> None:
    songs = [Song(1, "Björk", "Post"), Song(2, "BJORK", "post ")]
    assert albums(*songs) == [{1, 2}]


def test_songs_that_say_nothing_have_no_album() -> None:
    groups = group([Song(1), Song(2, "A"), Song(3, None, "Album")], "x")
    assert groups[1].artist_key == groups[1].album_key == NO_KEY
    assert (groups[2].artist_name, groups[2].album_key) == ("A", NO_KEY)
    assert groups[3].artist_key == NO_KEY != groups[3].album_key


def test_songs_are_in_the_order_of_disc_and_track() -> None:
    songs = [
        Song(1, "A", "B", track=2, disc=2),
        Song(2, "A", "B", track=10),
        Song(3, "A", "B", track=9, disc=1),
        Song(4, "A", "B", disc=1),
        Song(5, "A", "B", track=-(10**9), disc=10**9),
    ]
    groups = group(songs, "x")
    assert sorted(groups, key=lambda row: groups[row].position) == [3, 2, 4, 1, 5]
