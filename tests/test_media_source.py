"""The library in the media browser."""

import os
from pathlib import Path
import signal
from typing import Any

from homeassistant.components.media_player import (
    BrowseError,
    MediaClass,
    SearchMediaQuery,
    async_process_play_media_url,
)
from homeassistant.components.media_source import (
    BrowseMediaSource,
    PlayMedia,
    Unresolvable,
    async_browse_media,
    async_resolve_media,
    async_search_media,
)
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import (
    ClientSessionGenerator,
    WebSocketGenerator,
)

from .household import age, eventually, fill, share, until_scanned

ROOT = "media-source://pemus"


async def browse(hass: HomeAssistant, *names: str) -> BrowseMediaSource:
    """Walk from the root through places of these titles, and return the last one."""
    place = await async_browse_media(hass, ROOT)
    for name in names:
        (chosen,) = (child for child in place.children if child.title == name)
        assert chosen.can_expand
        place = await async_browse_media(hass, chosen.media_content_id)
        assert place.title == name
    return place


def titles(place: BrowseMediaSource) -> list[str]:
    """Return the titles of what lies in a place."""
    return [child.title for child in place.children]


def classes(place: BrowseMediaSource) -> dict[str, tuple[str, str | None]]:
    """Return the class of each thing in a place, and that of what it holds."""
    return {
        child.title: (child.media_class, child.children_media_class)
        for child in place.children
    }


async def find(
    hass: HomeAssistant, text: str, *wanted: MediaClass, below: str = ROOT
) -> list[str]:
    """Return the titles of what a search finds."""
    query = SearchMediaQuery(
        search_query=text, media_filter_classes=list(wanted) or None
    )
    return [
        found.title for found in (await async_search_media(hass, below, query)).result
    ]


async def play(hass: HomeAssistant, media_content_id: str) -> PlayMedia:
    """Resolve an item."""
    return await async_resolve_media(hass, media_content_id, None)


async def test_the_root_shows_the_kinds_of_media(
    hass: HomeAssistant, media: Path
) -> None:
    root = await browse(hass)

    assert root.title == "PeMuS"
    assert classes(root) == {
        "Videos": (MediaClass.DIRECTORY, MediaClass.VIDEO),
        "Music": (MediaClass.DIRECTORY, MediaClass.TRACK),
        "Photos": (MediaClass.DIRECTORY, MediaClass.IMAGE),
    }
    assert root.can_search
    assert all(child.can_search and not child.can_play for child in root.children)


async def test_videos_are_browsed_by_folder_and_by_age(
    hass: HomeAssistant, media: Path
) -> None:
    assert titles(await browse(hass, "Videos")) == ["Recently added", "Folders"]
    recent = await browse(hass, "Videos", "Recently added")
    assert sorted(titles(recent)) == ["Mountain", "Ocean"]
    for film in recent.children:
        assert film.media_class is MediaClass.VIDEO
        assert film.media_content_type == "video/mp4"
        assert film.can_play and not film.can_expand
        item_id = film.media_content_id.removeprefix(f"{ROOT}/item/")
        assert film.thumbnail == f"/api/pemus/thumbnail/{item_id}"
    folders = await browse(hass, "Videos", "Folders", "films")
    assert classes(folders) == {
        "trips": (MediaClass.DIRECTORY, MediaClass.VIDEO),
        "Ocean": (MediaClass.VIDEO, None),
    }
    assert titles(await browse(hass, "Videos", "Folders", "films", "trips")) == [
        "Mountain"
    ]


async def test_music_is_browsed_by_artist_album_song_and_folder(
    hass: HomeAssistant, media: Path
) -> None:
    assert classes(await browse(hass, "Music")) == {
        "Artists": (MediaClass.DIRECTORY, MediaClass.ARTIST),
        "Albums": (MediaClass.DIRECTORY, MediaClass.ALBUM),
        "Songs": (MediaClass.DIRECTORY, MediaClass.TRACK),
        "Folders": (MediaClass.DIRECTORY, MediaClass.TRACK),
    }
    artists = await browse(hass, "Music", "Artists")
    assert classes(artists) == {
        "Ada Moll": (MediaClass.ARTIST, MediaClass.ALBUM),
        "Trio Dur": (MediaClass.ARTIST, MediaClass.ALBUM),
    }
    assert classes(await browse(hass, "Music", "Artists", "Ada Moll")) == {
        "Daylight": (MediaClass.ALBUM, MediaClass.TRACK)
    }
    # Among all albums it helps to see whose it is.
    assert titles(await browse(hass, "Music", "Albums")) == [
        "Daylight – Ada Moll",
        "Hills – Trio Dur",
    ]
    album = await browse(hass, "Music", "Albums", "Daylight – Ada Moll")
    assert classes(album) == {
        "Dawn": (MediaClass.TRACK, None),
        "Noon": (MediaClass.TRACK, None),
    }
    assert [song.media_content_type for song in album.children] == ["audio/flac"] * 2


async def test_photos_are_browsed_by_year_and_month(
    hass: HomeAssistant, media: Path
) -> None:
    assert titles(await browse(hass, "Photos")) == ["Years", "Folders"]
    assert titles(await browse(hass, "Photos", "Years")) == ["2024", "2023"]
    assert classes(await browse(hass, "Photos", "Years", "2023")) == {
        "July": (MediaClass.DIRECTORY, MediaClass.IMAGE)
    }
    july = await browse(hass, "Photos", "Years", "2023", "July")
    assert classes(july) == {"beach": (MediaClass.IMAGE, None)}


async def test_places_have_titles_in_the_homes_language(
    hass: HomeAssistant, media: Path
) -> None:
    hass.config.language = "de"

    assert titles(await browse(hass)) == ["Videos", "Musik", "Fotos"]
    assert titles(await browse(hass, "Fotos", "Jahre", "2023")) == ["Juli"]


async def test_what_has_no_artist_or_album_is_collected(
    hass: HomeAssistant, entry: MockConfigEntry, tmp_path: Path
) -> None:
    from tests.p2p.media.make import song

    (tmp_path / "Demos").mkdir()
    await hass.async_add_executor_job(song, tmp_path / "Demos" / "untitled.flac")
    age(tmp_path / "Demos")
    share(hass, entry, tmp_path / "Demos", "Demos", ("music",))
    await until_scanned(hass, entry)

    assert titles(await browse(hass, "Music", "Artists")) == ["Unknown artist"]
    assert titles(await browse(hass, "Music", "Albums")) == ["Unknown album"]


async def test_an_empty_home_is_shown_empty(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    root = await browse(hass)

    assert root.children == []
    assert root.as_dict()["children_media_class"] == MediaClass.DIRECTORY


async def test_several_shares_are_shown_each_and_together(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path, tmp_path: Path
) -> None:
    more = await hass.async_add_executor_job(fill, tmp_path / "More")
    share(hass, entry, more, "More", ("music",))
    await until_scanned(hass, entry)

    assert titles(await browse(hass)) == [
        "Videos",
        "Music",
        "Photos",
        "Media",
        "More",
    ]
    assert titles(await browse(hass, "More")) == ["Music"]
    assert len(titles(await browse(hass, "Music", "Songs"))) == 6
    assert len(titles(await browse(hass, "More", "Music", "Songs"))) == 3
    place = (await browse(hass, "More", "Music")).media_content_id
    assert len(await find(hass, "dawn")) == 2
    assert len(await find(hass, "dawn", below=place)) == 1


async def test_long_lists_come_in_pages(
    hass: HomeAssistant, entry: MockConfigEntry, tmp_path: Path
) -> None:
    folder = tmp_path / "Many"
    folder.mkdir()
    for number in range(450):
        (folder / f"{number:03}.jpg").touch()
    age(folder)
    share(hass, entry, folder, "Many", ("photo",))
    await until_scanned(hass, entry)

    pages = await browse(hass, "Photos", "Folders")
    while len(pages.children) == 1:
        pages = await async_browse_media(hass, pages.children[0].media_content_id)

    assert len(pages.children) == 3
    assert len(set(titles(pages))) == 3
    shown = [
        photo.title
        for page in pages.children
        for photo in (await async_browse_media(hass, page.media_content_id)).children
    ]
    assert shown == [f"{number:03}" for number in range(450)]


async def test_a_search_finds_artists_albums_and_items(
    hass: HomeAssistant, media: Path
) -> None:
    assert await find(hass, "ada") == [
        "Ada Moll",
        "Dawn – Ada Moll",
        "Noon – Ada Moll",
    ]
    assert await find(hass, "daylight", MediaClass.ALBUM) == ["Daylight – Ada Moll"]
    assert sorted(await find(hass, "mountain")) == [
        "Mountain",
        "Mountain song – Trio Dur",
    ]
    assert await find(hass, "nothing of this kind") == []
    assert await find(hass, "   ") == []


async def test_a_search_is_narrowed_to_media_classes(
    hass: HomeAssistant, media: Path
) -> None:
    film, song = "Mountain", "Mountain song – Trio Dur"
    for wanted, found in (
        ([MediaClass.VIDEO], [film]),
        ([MediaClass.MOVIE], [film]),
        ([MediaClass.MUSIC], [song]),
        ([MediaClass.TRACK, MediaClass.ALBUM], [song]),
        ([MediaClass.ALBUM, MediaClass.ARTIST], []),
        ([MediaClass.IMAGE], []),
        ([MediaClass.PODCAST], []),
    ):
        assert await find(hass, "mountain", *wanted) == found, wanted


async def test_a_search_stays_below_its_place(hass: HomeAssistant, media: Path) -> None:
    videos, music, photos = (await browse(hass)).children

    assert await find(hass, "mountain", below=videos.media_content_id) == ["Mountain"]
    assert await find(hass, "mountain", below=photos.media_content_id) == []
    assert videos.search_media_classes == [MediaClass.VIDEO]
    assert music.search_media_classes == [
        MediaClass.TRACK,
        MediaClass.ALBUM,
        MediaClass.ARTIST,
    ]


async def test_a_search_where_there_is_nothing_is_an_error(
    hass: HomeAssistant, media: Path
) -> None:
    with pytest.raises(BrowseError):
        await find(hass, "x", below=f"{ROOT}/no/such/place")


async def test_an_item_is_resolved_to_a_path_that_can_be_signed(
    hass: HomeAssistant, media: Path, hass_client_no_auth: ClientSessionGenerator
) -> None:
    (ocean,) = (await browse(hass, "Videos", "Folders", "films")).children[1:]

    resolved = await play(hass, ocean.media_content_id)

    item_id = ocean.media_content_id.rpartition("/")[2]
    assert resolved.url == f"/api/pemus/stream/{item_id}.mp4"
    assert resolved.mime_type == "video/mp4"
    assert resolved.path == media / "films" / "Ocean.mp4"
    signed = async_process_play_media_url(hass, resolved.url, allow_relative_url=True)
    assert "authSig=" in signed
    client = await hass_client_no_auth()
    response = await client.get(signed)
    assert response.status == 200
    assert await response.read() == resolved.path.read_bytes()


async def test_posters_are_fetched_with_the_users_token(
    hass: HomeAssistant,
    media: Path,
    hass_client: ClientSessionGenerator,
    hass_client_no_auth: ClientSessionGenerator,
) -> None:
    (film, *_) = (await browse(hass, "Videos", "Recently added")).children

    response = await (await hass_client()).get(film.thumbnail)
    assert response.status == 200
    assert response.content_type == "image/jpeg"
    response = await (await hass_client_no_auth()).get(film.thumbnail)
    assert response.status in {401, 403, 404}


async def test_subtitles_are_served_as_webvtt(
    hass: HomeAssistant, media: Path, hass_client: ClientSessionGenerator
) -> None:
    (ocean,) = (await browse(hass, "Videos", "Folders", "films")).children[1:]
    item_id = ocean.media_content_id.rpartition("/")[2]

    response = await (await hass_client()).get(f"/api/pemus/subtitles/{item_id}/0.vtt")

    assert response.status == 200
    assert response.content_type == "text/vtt"
    assert "The sea." in await response.text()


async def test_nothing_is_served_once_the_home_is_disabled(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    media: Path,
    hass_client: ClientSessionGenerator,
) -> None:
    (film, *_) = (await browse(hass, "Videos", "Recently added")).children
    url = (await play(hass, film.media_content_id)).url
    client = await hass_client()
    assert (await client.get(url)).status == 200

    await hass.config_entries.async_set_disabled_by(
        entry.entry_id, ConfigEntryDisabler.USER
    )

    assert (await client.get(url)).status in {404, 503}


async def test_a_browser_asks_over_the_websocket(
    hass: HomeAssistant, media: Path, hass_ws_client: WebSocketGenerator
) -> None:
    client = await hass_ws_client()

    async def ask(**message: Any) -> dict[str, Any]:
        await client.send_json_auto_id(message)
        return await client.receive_json()

    answer = await ask(type="media_source/browse_media", media_content_id=ROOT)
    assert [child["title"] for child in answer["result"]["children"]] == [
        "Videos",
        "Music",
        "Photos",
    ]
    answer = await ask(
        type="media_source/search_media", media_content_id=ROOT, search_query="dawn"
    )
    (song,) = answer["result"]["result"]
    answer = await ask(
        type="media_source/resolve_media", media_content_id=song["media_content_id"]
    )
    assert answer["result"]["mime_type"] == "audio/flac"

    answer = await ask(
        type="media_source/browse_media", media_content_id=f"{ROOT}/all/books"
    )
    assert answer["error"] == {
        "code": "browse_media_failed",
        "message": "This item is no longer in the library",
    }


async def test_what_is_no_item_is_not_played(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    for identifier, reason in (
        ("item/aaaaaaaaaaaaaaaaaaaaaaaaaa", "not_found"),
        ("item/AAAAAAAAAAAAAAAAAAAAAAAAAA", "not_found"),
        ("item/", "not_found"),
        ("item/../../status", "not_found"),
        ("item/%2e%2e", "not_found"),
        ("item/" + "a" * 5000, "not_found"),
        ("all/video", "not_playable"),
        ("nonsense", "not_playable"),
        ("../../etc/passwd", "not_playable"),
    ):
        with pytest.raises(Unresolvable) as caught:
            await play(hass, f"{ROOT}/{identifier}")
        assert caught.value.translation_key == reason, identifier


async def test_the_root_itself_is_not_played(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    with pytest.raises(Unresolvable) as caught:
        await play(hass, ROOT)

    assert caught.value.translation_key == "not_playable"


async def test_what_is_no_place_is_not_browsed(
    hass: HomeAssistant, media: Path
) -> None:
    for identifier in (
        "nowhere",
        "all",
        "all/books",
        "all/video/folders/zzzz",
        "all/photo/years/2023/13",
        "all/music/songs/~0-200/~0-200/~5-1",
        "../../v1/status",
        "all/video?node=",
        "Ä/ö",
        "a" * 5000,
    ):
        with pytest.raises(BrowseError) as caught:
            await async_browse_media(hass, f"{ROOT}/{identifier}")
        assert caught.value.translation_key in {"not_found", "engine_error"}


async def test_items_of_an_unplugged_disk_are_shown_but_not_played(
    hass: HomeAssistant, entry: MockConfigEntry, media: Path
) -> None:
    media.rename(media.with_name("unplugged"))
    await entry.runtime_data.engine.client.rescan()
    await eventually(
        hass, lambda: not entry.runtime_data.coordinator.data.shares[0].available
    )

    films = (await browse(hass, "Videos", "Recently added")).children
    assert len(films) == 2
    assert not any(film.can_play for film in films)
    with pytest.raises(Unresolvable) as caught:
        await play(hass, films[0].media_content_id)
    assert caught.value.translation_key == "folder_unavailable"
    query = SearchMediaQuery(search_query="ocean")
    (ocean,) = (await async_search_media(hass, ROOT, query)).result
    assert not ocean.can_play


async def test_everything_says_when_the_home_is_not_there(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    await hass.config_entries.async_set_disabled_by(
        entry.entry_id, ConfigEntryDisabler.USER
    )

    for call, error in (
        (browse(hass), BrowseError),
        (find(hass, "x"), BrowseError),
        (play(hass, f"{ROOT}/item/aaaaaaaaaaaaaaaaaaaaaaaaaa"), Unresolvable),
    ):
        with pytest.raises(error) as caught:
            await call
        assert caught.value.translation_key == "not_loaded"


async def test_everything_says_when_the_engine_is_down(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    coordinator = entry.runtime_data.coordinator
    os.kill(coordinator.data.pid, signal.SIGKILL)

    for call, error in (
        (browse(hass), BrowseError),
        (find(hass, "x"), BrowseError),
        (play(hass, f"{ROOT}/item/aaaaaaaaaaaaaaaaaaaaaaaaaa"), Unresolvable),
    ):
        with pytest.raises(error) as caught:
            await call
        assert caught.value.translation_key == "engine_unavailable"
    await eventually(hass, lambda: not coordinator.last_update_success)
    await eventually(hass, lambda: coordinator.last_update_success)
