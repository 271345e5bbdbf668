"""The addresses: who may read, what is answered, and byte for byte what comes."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from email.utils import formatdate
import os
from pathlib import Path

from homeassistant.components.http.ban import KEY_FAILED_LOGIN_ATTEMPTS
from homeassistant.core import HomeAssistant
from hypothesis import HealthCheck, given, settings, strategies as st
import pytest
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.pemus import stream
from custom_components.pemus.engine.client import EngineError
from custom_components.pemus.p2p.models import ErrorKey
from custom_components.pemus.p2p.models.items import ItemRef

from .conftest import FILM, SONG, Site, all_closed
from .test_plan import parts

HOME = "H" * 28
BIG = "x" * 1_000_000


# --- Who may read


async def test_a_signed_path_opens(site: Site, film: Path, content: bytes) -> None:
    answer = await site.ask(site.path())
    assert (answer.status, answer.body) == (200, content)


async def test_a_token_opens(
    hass: HomeAssistant, site: Site, film: Path, hass_access_token: str
) -> None:
    path = stream.stream_path(ItemRef(None, FILM), "film.mp4")
    answer = await site.ask(
        path, {"Authorization": f"Bearer {hass_access_token}", "Range": "bytes=0-3"}
    )
    assert answer.status == 206


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_nobody_else_may_read_and_nobody_is_banned_for_it(
    site: Site, film: Path, method: str
) -> None:
    path = stream.stream_path(ItemRef(None, FILM), "film.mp4")
    strangers = [
        path,
        stream.thumbnail_path(ItemRef(None, FILM)),
        stream.subtitles_path(ItemRef(None, FILM), 0),
        stream.stream_path(ItemRef(HOME, FILM), "film.mp4"),
        stream.thumbnail_path(ItemRef(HOME, FILM)),
        stream.subtitles_path(ItemRef(HOME, FILM), 0),
        f"{path}?authSig=nonsense",
        # Signed, but for another item, another extension, or until a while ago.
        site.sign(stream.stream_path(ItemRef(None, SONG), "film.mp4")).replace(
            SONG, FILM
        ),
        site.path().replace(".mp4?", ".mkv?"),
        site.sign(path, timedelta(seconds=-1)),
        f"{site.path()}&more=1",
    ]
    for stranger in strangers:
        answer = await site.ask(stranger, method=method)
        assert (answer.status, answer.body) == (403, b""), stranger
        assert answer.get("WWW-Authenticate") is None
    answer = await site.ask(path, {"Authorization": "Bearer nonsense"})
    assert answer.status == 403
    assert not site.hass.http.app.get(KEY_FAILED_LOGIN_ATTEMPTS)
    assert site.folder.asked == 0


async def test_no_other_path_leads_anywhere(site: Site, film: Path) -> None:
    for path in (
        f"/api/pemus/stream/{FILM.upper()}.mp4",
        f"/api/pemus/stream/{FILM[:-1]}.mp4",
        f"/api/pemus/stream/{FILM}f.mp4",
        f"/api/pemus/stream/{'1' * 26}.mp4",
        f"/api/pemus/stream/{FILM}",
        f"/api/pemus/stream/{FILM}.",
        f"/api/pemus/stream/{FILM}.mp4/",
        f"/api/pemus/stream/{FILM}.toolongtobetrue",
        f"/api/pemus/stream/{FILM}.m%2e4",
        f"/api/pemus/stream/{FILM}.mp4%00",
        "/api/pemus/stream/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/api/pemus/stream/../../../../etc/passwd",
        f"/api/pemus/stream/..%2f{FILM[:-3]}.mp4",
        f"/api/pemus/thumbnail/{FILM}.jpg",
        f"/api/pemus/subtitles/{FILM}/-1.vtt",
        f"/api/pemus/subtitles/{FILM}/9999.vtt",
        f"/api/pemus/subtitles/{FILM}/x.vtt",
        f"/api/pemus/thumbnail/{HOME.lower()}/{FILM}",
        f"/api/pemus/thumbnail/{HOME}H/{FILM}",
        f"/api/pemus/thumbnail/{'U' * 28}/{FILM}",
        f"/api/pemus/thumbnail/{HOME}/..%2f{FILM[:-3]}",
        f"/api/pemus/subtitles/{HOME}/{FILM}/x.vtt",
        f"/api/pemus/subtitles/{HOME[1:]}/{FILM}/0.vtt",
    ):
        answer = await site.ask(path)
        assert answer.status in {400, 404}, path
    assert site.folder.asked == 0


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"]
)
async def test_nothing_can_be_written(site: Site, film: Path, method: str) -> None:
    assert (await site.ask(site.path(), method=method)).status == 405


async def test_another_page_may_ask_for_ranges(site: Site, film: Path) -> None:
    """This is what a Chromecast's receiver sends."""
    answer = await site.ask(
        stream.stream_path(ItemRef(None, FILM), "a.mp4"),
        {
            "Origin": "https://www.gstatic.com",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "range",
        },
        "OPTIONS",
    )
    assert answer.status == 204
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert "Range" in answer["Access-Control-Allow-Headers"]
    assert answer.get("Access-Control-Allow-Credentials") is None

    for path in (
        site.path(),
        stream.stream_path(ItemRef(None, FILM), "a.mp4"),
        site.path(SONG),
    ):
        answer = await site.ask(path, {"Origin": "https://www.gstatic.com"})
        assert answer["Access-Control-Allow-Origin"] == "*"
        assert "Content-Range" in answer["Access-Control-Expose-Headers"]


# --- What is answered


async def test_the_head_of_an_answer(site: Site, film: Path, content: bytes) -> None:
    get = await site.ask(site.path())
    assert get["Content-Type"] == "video/mp4"
    assert get["Content-Length"] == str(len(content))
    assert get["Accept-Ranges"] == "bytes"
    assert get["Content-Disposition"] == 'inline; filename="A film.mp4"'
    assert get["X-Content-Type-Options"] == "nosniff"
    assert get["Last-Modified"] == formatdate(film.stat().st_mtime // 1, usegmt=True)
    assert get["ETag"].startswith('"')
    assert get.get("Content-Encoding") is None
    assert get.get("Transfer-Encoding") is None

    head = await site.ask(site.path(), {"Range": "bytes=0-1"}, "HEAD")
    assert head.status == 200
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}


async def test_the_type_is_that_of_the_file_whatever_the_extension(
    site: Site, tmp_path: Path
) -> None:
    site.folder.put(SONG, tmp_path / "song.mp3", b"ID3", "audio/mpeg")
    answer = await site.ask(site.path(SONG, "x.mp4"))
    assert (answer["Content-Type"], answer.body) == ("audio/mpeg", b"ID3")


async def test_an_acceptable_encoding_changes_nothing(
    site: Site, film: Path, content: bytes
) -> None:
    film.with_name(f"{film.name}.gz").write_bytes(b"not this one")
    answer = await site.ask(site.path(), {"Accept-Encoding": "gzip, br, deflate"})
    assert answer.body == content
    assert answer.get("Content-Encoding") is None


@pytest.mark.parametrize(
    ("header", "status", "content_range", "expected"),
    [
        ("bytes=0-0", 206, "bytes 0-0/11010048", slice(0, 1)),
        (
            "bytes=5000000-",
            206,
            "bytes 5000000-11010047/11010048",
            slice(5_000_000, None),
        ),
        ("bytes=-5", 206, "bytes 11010043-11010047/11010048", slice(-5, None)),
        (
            "bytes=4194303-8388608",
            206,
            "bytes 4194303-8388608/11010048",
            slice(4_194_303, 8_388_609),
        ),
        ("bytes=0-99999999999", 206, "bytes 0-11010047/11010048", slice(None)),
        ("bytes=0-4,3-9", 206, "bytes 0-9/11010048", slice(0, 10)),
        ("bytes=-0", 416, "bytes */11010048", slice(0, 0)),
        ("bytes=11010048-", 416, "bytes */11010048", slice(0, 0)),
        ("pages=1-2", 200, None, slice(None)),
        ("bytes=5-2", 200, None, slice(None)),
        ("nonsense", 200, None, slice(None)),
    ],
)
async def test_single_ranges(
    site: Site,
    film: Path,
    content: bytes,
    header: str,
    status: int,
    content_range: str | None,
    expected: slice,
) -> None:
    answer = await site.ask(site.path(), {"Range": header})
    assert (answer.status, answer.get("Content-Range")) == (status, content_range)
    assert answer.body == content[expected]


async def test_several_ranges_of_several_windows_each(
    site: Site, film: Path, content: bytes
) -> None:
    answer = await site.ask(
        site.path(), {"Range": "bytes=9000000-9000009,0-6000000,-5"}
    )
    assert answer.status == 206
    found = parts({"Content-Type": answer["Content-Type"]}, answer.body)
    assert [data for _, _, data in found] == [
        content[9_000_000:9_000_010],
        content[:6_000_001],
        content[-5:],
    ]


async def test_a_client_that_knows_the_file_gets_304(site: Site, film: Path) -> None:
    first = await site.ask(site.path(), {"Range": "bytes=0-0"})
    for headers in (
        {"If-None-Match": first["ETag"]},
        {"If-Modified-Since": first["Last-Modified"]},
    ):
        answer = await site.ask(site.path(), headers)
        assert (answer.status, answer.body, answer["ETag"]) == (304, b"", first["ETag"])


async def test_a_download_is_resumed_only_if_the_file_is_the_same(
    site: Site, film: Path, content: bytes
) -> None:
    first = await site.ask(site.path(), {"Range": "bytes=0-0"})
    headers = {"Range": "bytes=10-19", "If-Range": first["ETag"]}
    assert (await site.ask(site.path(), headers)).body == content[10:20]

    site.folder.put(FILM, film, b"another film")
    os.utime(film, (1_700_000_000, 1_700_000_000))
    answer = await site.ask(site.path(), headers)
    assert (answer.status, answer.body) == (200, b"another film")
    assert (await site.ask(site.path(), {"If-Match": first["ETag"]})).status == 412
    assert (
        await site.ask(
            site.path(), {"Range": "bytes=8-", "If-Range": first["Last-Modified"]}
        )
    ).status == 200


async def test_an_empty_file(site: Site, tmp_path: Path) -> None:
    site.folder.put(FILM, tmp_path / "empty.mp4", b"")
    answer = await site.ask(site.path())
    assert (answer.status, answer.body, answer["Content-Length"]) == (200, b"", "0")
    answer = await site.ask(site.path(), {"Range": "bytes=0-"})
    assert (answer.status, answer["Content-Range"]) == (416, "bytes */0")
    assert (await site.ask(site.path(), method="HEAD")).status == 200


async def test_many_requests_on_one_connection(
    site: Site, film: Path, content: bytes
) -> None:
    path = site.path()
    async with site.connection() as connection:
        for index in range(100):
            start = index * 100_003
            answer = await connection.ask(
                path, {"Range": f"bytes={start}-{start + 999}"}
            )
            assert answer.body == content[start : start + 1000]
            assert (await connection.ask(path, method="HEAD")).status == 200
            assert (
                await connection.ask(path, {"Range": "bytes=99999999-"})
            ).status == 416
    assert site.folder.asked == 1, "the engine is asked once"
    assert await all_closed()


async def test_requests_that_are_sent_ahead_are_answered_in_order(
    site: Site, film: Path, content: bytes
) -> None:
    path = site.path()
    async with site.connection() as connection:
        for index in range(20):
            await connection.send(path, {"Range": f"bytes={index}-{index + 500_000}"})
        for index in range(20):
            assert await connection.head() == 206
            assert await connection.body() == (content[index : index + 500_001], True)


async def test_a_client_of_http_1_0_is_served(
    site: Site, film: Path, content: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port)
    writer.write(f"GET {site.path()} HTTP/1.0\r\n\r\n".encode())
    answer = await reader.read()
    assert answer.endswith(content)
    assert b"chunked" not in answer.partition(b"\r\n\r\n")[0]
    writer.close()
    await writer.wait_closed()


async def test_a_renderer_is_answered(site: Site, film: Path) -> None:
    asked = {"transferMode.dlna.org": "Streaming", "getcontentFeatures.dlna.org": "1"}
    for method in ("HEAD", "GET"):
        answer = await site.ask(site.path(), asked, method)
        assert answer["transferMode.dlna.org"] == "Streaming"
        assert answer["contentFeatures.dlna.org"].startswith(
            "DLNA.ORG_OP=01;DLNA.ORG_CI=0;DLNA.ORG_FLAGS=017000"
        )
    assert (
        await site.ask(site.path(), {"TimeSeekRange.dlna.org": "npt=5-"})
    ).status == 406
    assert (await site.ask(site.path())).get("transferMode.dlna.org") is None


@pytest.mark.parametrize("owner", [None, HOME])
async def test_pictures_and_subtitles(
    site: Site, film: Path, tmp_path: Path, owner: str | None
) -> None:
    picture, text = tmp_path / "p.jpg", tmp_path / "en.vtt"
    picture.write_bytes(b"JPEG")
    text.write_text("WEBVTT\n")
    path = site.sign(stream.thumbnail_path(ItemRef(owner, FILM)))
    assert (await site.ask(path)).status == 404
    site.folder.pictures[FILM] = picture
    site.folder.texts[FILM, 1] = text
    answer = await site.ask(path)
    assert (answer.status, answer["Content-Type"], answer.body) == (
        200,
        "image/jpeg",
        b"JPEG",
    )
    assert "max-age" in answer["Cache-Control"]
    answer = await site.ask(
        site.sign(stream.subtitles_path(ItemRef(owner, FILM), 1)),
        {"Range": "bytes=0-5"},
    )
    assert (answer.status, answer["Content-Type"], answer.body) == (
        206,
        "text/vtt",
        b"WEBVTT",
    )
    assert (
        await site.ask(site.sign(stream.subtitles_path(ItemRef(owner, FILM), 0)))
    ).status == 404


async def test_an_item_that_does_not_exist(site: Site) -> None:
    answer = await site.ask(site.path())
    assert (answer.status, answer.body, answer["Cache-Control"]) == (
        404,
        b"",
        "no-store",
    )


@pytest.mark.parametrize(
    ("key", "status"),
    [
        (ErrorKey.NOT_FOUND, 404),
        (ErrorKey.NO_PICTURE, 404),
        (ErrorKey.BAD_REQUEST, 404),
        (ErrorKey.UNAVAILABLE, 503),
        (ErrorKey.BUSY, 503),
        (ErrorKey.INTERNAL, 500),
    ],
)
async def test_what_the_engine_says_becomes_a_status(
    site: Site, film: Path, key: ErrorKey, status: int
) -> None:
    site.folder.error = EngineError(key, "no")
    answer = await site.ask(site.path())
    assert answer.status == status
    assert (answer.get("Retry-After") is not None) is (status == 503)


async def test_what_is_known_plays_on_while_the_engine_is_down(
    site: Site, film: Path, content: bytes, tmp_path: Path
) -> None:
    site.folder.put(SONG, tmp_path / "song.mp3", b"ID3", "audio/mpeg")
    path = site.path()
    assert (await site.ask(path, {"Range": "bytes=0-0"})).status == 206
    site.folder.engine_is_down()
    assert (await site.ask(path)).body == content
    answer = await site.ask(site.path(SONG))
    assert (answer.status, answer["Retry-After"]) == (503, "5")


# --- Files that are not what they were said to be


async def test_a_file_that_changed_is_looked_up_again(site: Site, film: Path) -> None:
    path = site.path()
    first = await site.ask(path)
    film.write_bytes(b"another film")
    second = await site.ask(path)
    assert (second.status, second.body) == (200, b"another film")
    assert second["ETag"] != first["ETag"]
    assert site.folder.asked == 2


async def test_a_file_that_is_gone_is_404(site: Site, film: Path) -> None:
    path = site.path()
    await site.ask(path)
    film.unlink()
    assert (await site.ask(path)).status == 404


async def test_a_link_in_the_place_of_a_file_leads_nowhere(
    site: Site, film: Path
) -> None:
    path = site.path()
    await site.ask(path)
    film.unlink()
    film.symlink_to("/etc/passwd")
    answer = await site.ask(path)
    assert (answer.status, answer.body) == (503, b"")
    assert await all_closed()


async def test_a_file_that_always_changes_is_unavailable(
    site: Site, film: Path
) -> None:
    from dataclasses import replace

    site.folder.describe = lambda file: replace(file, mtime_ns=file.mtime_ns - 1)
    answer = await site.ask(site.path())
    assert (answer.status, answer.body) == (503, b"")
    assert answer.get("ETag") is None
    assert site.folder.asked <= 4
    assert await all_closed()


async def test_a_file_that_must_not_be_read_is_403(
    site: Site, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def forbidden(path: str, *arguments: int) -> int:
        if path == str(film):
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", forbidden)
    assert (await site.ask(site.path())).status == 403


async def test_events_make_the_facts_be_asked_for_again(
    hass: HomeAssistant, site: Site, film: Path
) -> None:
    path = site.path()
    for forget in ([FILM], None, [SONG]):
        await site.ask(path, {"Range": "bytes=0-0"})
        stream.async_forget(hass, forget)
    await site.ask(path, {"Range": "bytes=0-0"})
    assert site.folder.asked == 3


# --- Hostile headers


@pytest.mark.parametrize(
    "name",
    [
        "Range",
        "If-Range",
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "X-Anything",
    ],
)
async def test_a_megabyte_of_header_is_refused(
    site: Site, film: Path, name: str
) -> None:
    async with site.connection() as connection:
        await connection.send(site.path(), {name: BIG})
        assert await connection.head() == 400
    assert await all_closed()


@pytest.mark.parametrize(
    "header",
    [
        "bytes=" + ",".join(f"{index}-{index}" for index in range(0, 2600, 2)),
        "bytes=" + ",".join(["0-"] * 2000),
        "bytes=" + "," * 7000,
        "bytes=" + "9" * 7000 + "-",
        "bytes=0-0" + " " * 7000,
    ],
    ids=["scattered", "overlapping", "empty", "digits", "blanks"],
)
async def test_thousands_of_ranges_get_no_more_than_the_file(
    site: Site, tmp_path: Path, header: str
) -> None:
    site.folder.put(FILM, tmp_path / "a.mp4", b"x" * 5000)
    answer = await site.ask(site.path(), {"Range": header})
    assert answer.status in {200, 206, 416}
    assert len(answer.body) <= 5000


async def test_two_range_headers_are_ignored(site: Site, tmp_path: Path) -> None:
    site.folder.put(FILM, tmp_path / "a.mp4", b"x" * 50)
    async with site.connection() as connection:
        connection.writer.write(
            f"GET {site.path()} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\nRange: bytes=4-5\r\n\r\n".encode()
        )
        assert await connection.head() == 200


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    specs=st.lists(
        st.tuples(
            st.none() | st.integers(0, 70_000), st.none() | st.integers(0, 70_000)
        ),
        min_size=1,
        max_size=6,
    ),
    method=st.sampled_from(["GET", "GET", "GET", "HEAD"]),
)
async def test_over_a_real_socket_exactly_the_right_bytes_come(
    site: Site, tmp_path: Path, specs: list[tuple[int | None, int | None]], method: str
) -> None:
    size = 65_000
    data = bytes(range(256)) * 254
    data = data[:size]
    if FILM not in site.folder.files:
        site.folder.put(FILM, tmp_path / "model.mp4", data)
    header = "bytes=" + ",".join(
        "-".join("" if n is None else str(n) for n in spec) for spec in specs
    )
    proper = all(
        (first is not None or last is not None)
        and (first is None or last is None or first <= last)
        for first, last in specs
    )
    wanted: set[int] = set()
    for first, last in specs:
        if first is None:
            wanted |= set(range(max(0, size - (last or 0)), size))
        else:
            wanted |= set(range(first, size if last is None else min(last + 1, size)))

    answer = await site.ask(site.path(), {"Range": header}, method)
    assert answer.complete
    if method == "HEAD" or not proper:
        assert answer.status == 200
        assert answer.body == (b"" if method == "HEAD" else data)
    elif not wanted:
        assert (answer.status, answer["Content-Range"], answer.body) == (
            416,
            f"bytes */{size}",
            b"",
        )
    else:
        assert answer.status == 206
        if (content_range := answer.get("Content-Range")) is not None:
            pieces = [("", content_range, answer.body)]
        else:
            pieces = parts({"Content-Type": answer["Content-Type"]}, answer.body)
        received: dict[int, int] = {}
        for _, content_range, part in pieces:
            start = int(content_range.split()[1].split("-")[0])
            received |= {start + index: byte for index, byte in enumerate(part)}
        assert set(received) == wanted
        assert all(data[position] == byte for position, byte in received.items())


async def test_a_home_assistant_client_is_served(
    hass: HomeAssistant, hass_client: ClientSessionGenerator, tmp_path: Path
) -> None:
    from homeassistant.setup import async_setup_component

    from .conftest import Folder

    assert await async_setup_component(hass, "http", {})
    folder = Folder()
    stream.async_register(hass, lambda: folder)
    folder.put(FILM, tmp_path / "a.mp4", b"0123456789")
    client = await hass_client()
    response = await client.get(
        stream.stream_path(ItemRef(None, FILM), "a.mp4"), headers={"Range": "bytes=2-4"}
    )
    assert response.status == 206
    assert await response.read() == b"234"
