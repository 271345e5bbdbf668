"""What is said of real files, whole and broken, honest and hostile."""

from __future__ import annotations

from dataclasses import asdict
import os
from pathlib import Path
import shutil
import struct
from typing import Any

from mutagen.id3 import ID3, TIT2, TPE1
from PIL import Image
import pytest

from p2p.media.facts import MediaFacts
from p2p.media.reader import MediaReader
from p2p.models import Kind
from tests.p2p.media import handed, make

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def facts_of(
    reader: MediaReader, path: Path, kind: Kind = Kind.VIDEO
) -> MediaFacts:
    return await reader.read(handed.File(str(path)), kind)


@pytest.mark.parametrize(
    ("name", "options", "content_type", "codecs"),
    [
        ("a.mp4", {}, "video/mp4", ("h264", "aac")),
        ("a.m4v", {"container": "mp4"}, "video/mp4", ("h264", "aac")),
        ("first.mp4", {"options": {"movflags": "faststart"}}, "video/mp4", ("h264", "aac")),
        ("a.mov", {}, "video/quicktime", ("h264", "aac")),
        ("a.webm", {"codec": "libvpx-vp9", "sound": "libopus"}, "video/webm", ("vp9", "opus")),
        ("a.mkv", {"codec": "libx265"}, "video/x-matroska", ("hevc", "aac")),
        ("av1.mkv", {"codec": "libsvtav1", "sound": "libopus"}, "video/x-matroska", ("av1", "opus")),
        ("a.avi", {"codec": "mpeg4", "sound": "libmp3lame"}, "video/x-msvideo", ("mpeg4", "mp3")),
        ("a.ts", {}, "video/mp2t", ("h264", "aac")),
        ("a.mpg", {"codec": "mpeg2video", "sound": "mp2"}, "video/mpeg", ("mpeg2video", "mp2")),
        ("a.wmv", {"codec": "wmv2", "sound": "wmav2"}, "video/x-ms-wmv", ("wmv2", "wmav2")),
        ("a.flv", {}, "video/x-flv", ("h264", "aac")),
        ("a.3gp", {}, "video/3gpp", ("h264", "aac")),
        ("silent.mp4", {"sound": None}, "video/mp4", ("h264", None)),
    ],
)  # fmt: skip
async def test_a_film_tells_its_length_size_and_codecs(
    shared_reader: MediaReader,
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    content_type: str,
    codecs: tuple[str, str],
) -> None:
    path = make.film(tmp_path / name, **options)
    facts = await facts_of(shared_reader, path)
    assert facts.fault is None
    assert (facts.kind, facts.content_type) == (Kind.VIDEO, content_type)
    assert facts.duration == pytest.approx(2, abs=0.35)
    assert facts.width == 320
    assert (facts.video_codec, facts.audio_codec) == codecs
    assert facts.bit_rate
    assert facts.bit_rate == pytest.approx(path.stat().st_size * 8 / 2, rel=0.5)
    assert facts.has_picture


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"rotation": 90}, (180, 320)),
        ({"rotation": 180}, (320, 180)),
        ({"rotation": -90}, (180, 320)),
        ({"aspect": 2}, (640, 180)),
        ({"aspect": 2, "rotation": 90}, (180, 640)),
    ],
)
async def test_dimensions_of_a_film_are_those_on_the_screen(
    shared_reader: MediaReader,
    tmp_path: Path,
    options: dict[str, Any],
    shown: tuple[int, int],
) -> None:
    facts = await facts_of(shared_reader, make.film(tmp_path / "a.mp4", **options))
    assert (facts.width, facts.height) == shown


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Der Sommer in Lüneburg", "Der Sommer in Lüneburg"),
        ("2012", "2012"),
        ("www.pirates.example", None),
        ("Downloaded from https://x.example/1", None),
        ("videoplayback", None),
        ("Title 01", None),
        ("   ", None),
    ],
)
async def test_the_title_of_a_film_is_taken_only_if_a_person_wrote_it(
    shared_reader: MediaReader, tmp_path: Path, written: str, shown: str | None
) -> None:
    path = make.film(tmp_path / "a.mkv", sound=None, seconds=0.5, title=written)
    assert (await facts_of(shared_reader, path)).title == shown


@pytest.mark.parametrize("suffix", [".mp3", ".flac", ".m4a", ".ogg", ".opus"])
async def test_a_song_tells_its_tags(
    shared_reader: MediaReader, tmp_path: Path, suffix: str
) -> None:
    cover = make.jpeg(make.halves((300, 300)))
    path = make.tag(make.song(tmp_path / f"song{suffix}"), cover)
    facts = await facts_of(shared_reader, path, Kind.MUSIC)
    assert {key: getattr(facts, key) for key in make.TAGS} == make.TAGS
    assert facts.fault is None
    assert facts.kind is Kind.MUSIC
    assert facts.duration == pytest.approx(2, abs=0.2)
    assert facts.has_picture
    assert (facts.width, facts.video_codec) == (None, None)


@pytest.mark.parametrize(
    ("suffix", "content_type", "codec"),
    [
        (".mp3", "audio/mpeg", "mp3"),
        (".flac", "audio/flac", "flac"),
        (".m4a", "audio/mp4", "aac"),
        (".ogg", "audio/ogg", "opus"),
        (".wav", "audio/wav", "pcm_s16le"),
        (".aiff", "audio/aiff", "pcm_s16be"),
        (".wma", "audio/x-ms-wma", "wmav2"),
        (".aac", "audio/aac", "aac"),
        (".mka", "audio/x-matroska", "aac"),
    ],
)
async def test_an_untagged_song_is_known_by_its_content(
    shared_reader: MediaReader,
    tmp_path: Path,
    suffix: str,
    content_type: str,
    codec: str,
) -> None:
    path = make.song(tmp_path / f"song{suffix}")
    facts = await facts_of(shared_reader, path, Kind.MUSIC)
    assert (facts.kind, facts.content_type) == (Kind.MUSIC, content_type)
    assert facts.audio_codec == codec
    assert facts.duration == pytest.approx(2, abs=0.2)
    assert (facts.title, facts.artist, facts.track) == (None, None, None)
    assert not facts.has_picture
    assert facts.fault is None


async def test_a_cover_beside_the_songs_counts_as_their_picture(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    path = make.song(tmp_path / "song.mp3")
    (tmp_path / "Folder.JPG").write_bytes(make.jpeg(make.halves((50, 50))))
    assert (await facts_of(shared_reader, path, Kind.MUSIC)).has_picture


@pytest.mark.parametrize("container", ["mp4", "webm", "matroska", "ogg"])
async def test_a_film_container_with_nothing_but_sound_is_music(
    shared_reader: MediaReader, tmp_path: Path, container: str
) -> None:
    path = make.film(
        tmp_path / "concert.mp4", codec=None, sound="libopus", container=container
    )
    facts = await facts_of(shared_reader, path)
    assert facts.kind is Kind.MUSIC
    assert facts.content_type
    assert facts.content_type.startswith("audio/")


async def test_a_song_with_a_cover_is_no_film(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    path = make.film(
        tmp_path / "song.m4a",
        codec=None,
        cover=make.jpeg(make.halves((64, 64))),
        container="mp4",
    )
    facts = await facts_of(shared_reader, path, Kind.MUSIC)
    assert (facts.kind, facts.has_picture) == (Kind.MUSIC, True)


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.jpg", "image/jpeg"),
        ("a.png", "image/png"),
        ("a.webp", "image/webp"),
        ("a.tiff", "image/tiff"),
        ("a.avif", "image/avif"),
        ("a.gif", "image/gif"),
        ("a.bmp", "image/bmp"),
    ],
)
async def test_a_photo_tells_its_size_and_when_it_was_taken(
    shared_reader: MediaReader, tmp_path: Path, name: str, content_type: str
) -> None:
    facts = await facts_of(shared_reader, make.photo(tmp_path / name), Kind.PHOTO)
    assert (facts.kind, facts.content_type) == (Kind.PHOTO, content_type)
    assert (facts.width, facts.height) == (400, 300)
    assert facts.has_picture
    assert facts.fault is None
    if name not in ("a.gif", "a.bmp"):
        assert facts.taken == "2023-07-14T18:03:22"


@pytest.mark.parametrize("orientation", range(1, 9))
async def test_dimensions_of_a_photo_are_those_after_it_was_turned(
    shared_reader: MediaReader, tmp_path: Path, orientation: int
) -> None:
    path = make.photo(tmp_path / "a.jpg", orientation=orientation)
    facts = await facts_of(shared_reader, path, Kind.PHOTO)
    assert facts.orientation == orientation
    shown = (300, 400) if orientation >= 5 else (400, 300)
    assert (facts.width, facts.height) == shown


@pytest.mark.parametrize(
    "taken", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", "1500:01:01 00:00:00", ""]
)  # fmt: skip
async def test_a_camera_without_a_clock_took_its_photo_at_no_time(
    shared_reader: MediaReader, tmp_path: Path, taken: str
) -> None:
    path = make.photo(tmp_path / "a.jpg", taken=taken)
    facts = await facts_of(shared_reader, path, Kind.PHOTO)
    assert (facts.taken, facts.fault) == (None, None)


async def test_orientations_that_do_not_exist_are_ignored(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    path = make.photo(tmp_path / "a.jpg", orientation=77)
    assert (await facts_of(shared_reader, path, Kind.PHOTO)).orientation is None


async def test_content_decides_and_not_the_name(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    photo = make.photo(tmp_path / "a.jpg").rename(tmp_path / "holiday.mp4")
    film = make.film(tmp_path / "a.webm", codec="libvpx", sound=None)
    film = film.rename(tmp_path / "song.mp3")
    song = make.song(tmp_path / "a.flac").rename(tmp_path / "photo.jpg")
    found = [
        await facts_of(shared_reader, photo),
        await facts_of(shared_reader, film, Kind.MUSIC),
        await facts_of(shared_reader, song, Kind.PHOTO),
    ]
    assert [(each.kind, each.content_type, each.fault) for each in found] == [
        (Kind.PHOTO, "image/jpeg", None),
        (Kind.VIDEO, "video/webm", None),
        (Kind.MUSIC, "audio/flac", None),
    ]


async def test_a_tag_before_a_song_does_not_hide_what_it_is(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    for suffix, content_type in ((".flac", "audio/flac"), (".aac", "audio/aac")):
        path = make.song(tmp_path / f"a{suffix}")
        tags = ID3()
        tags.add(TIT2(encoding=3, text=["Title"]))
        tags.save(tmp_path / "tag")
        path.write_bytes((tmp_path / "tag").read_bytes() + path.read_bytes())
        facts = await facts_of(shared_reader, path, Kind.MUSIC)
        assert (facts.content_type, facts.fault) == (content_type, None)


@pytest.mark.parametrize("name", ["a.mp4", "a.mp3", "a.jpg", "a.mkv"])
@pytest.mark.parametrize(
    "content",
    [
        b"Dear diary, this is no film. " * 500,
        b"#EXTM3U\n#EXTINF:3,\n/etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\0" * 100_000,
        b"\xff",
    ],
    ids=["text", "playlist", "concat", "zeros", "one byte"],
)
async def test_what_is_no_media_has_a_fault(
    shared_reader: MediaReader, tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    facts = await facts_of(shared_reader, path)
    assert facts == MediaFacts(fault="It is neither a film nor a song nor a photo.")


@pytest.mark.parametrize("name", ["a.mp4", "a.mp3", "a.jpg", "a.mkv", "a.flac"])
async def test_random_bytes_have_a_fault(
    shared_reader: MediaReader, tmp_path: Path, name: str
) -> None:
    for seed in range(5):
        content = make.random_bytes(tmp_path / name, seed=seed)
        facts = await facts_of(shared_reader, content)
        assert facts.fault
        assert facts.duration is None


@pytest.mark.parametrize(
    "head",
    [
        b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41",
        b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01",
        b"OggS\0\2",
        b"fLaC\0\0\0\x22",
        b"ID3\4\0\0\x7f\x7f\x7f\x7f",
        b"RIFF\xff\xff\xff\xffAVI LIST",
        b"\xff\xd8\xff\xe0\xff\xff",
        b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR",
        b"GIF89a\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\xff\xff",
        b"RIFF\xff\xff\xff\xffWEBPVP8 ",
        b"BM\0\0\0\0\0\0\0\0\0\0\0\0\x28\0\0\0",
        b"\0\0\0\x1cftypavif\0\0\0\0avifmif1",
    ],
    ids=lambda head: repr(head[:12]),
)
async def test_rubbish_behind_a_good_beginning_has_a_fault(
    shared_reader: MediaReader, tmp_path: Path, head: bytes
) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(head + os.urandom(50_000))
    facts = await facts_of(shared_reader, path)
    assert facts.fault


async def test_an_empty_file_says_so(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").touch()
    facts = await facts_of(shared_reader, tmp_path / "a.mp4")
    assert facts == MediaFacts(fault="The file is empty.")


async def test_a_film_whose_end_is_missing_is_known_as_far_as_it_goes(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    path = make.film(tmp_path / "a.mp4", seconds=5, options={"movflags": "faststart"})
    os.truncate(path, path.stat().st_size // 2)
    facts = await facts_of(shared_reader, path)
    assert facts.fault == "The end of the file is missing."
    assert facts.duration == pytest.approx(5, abs=0.2)
    assert (facts.width, facts.height, facts.video_codec) == (320, 180, "h264")


async def test_a_film_whose_index_is_missing_is_at_least_a_film(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    path = make.film(tmp_path / "a.mp4")
    os.truncate(path, path.stat().st_size // 2)
    facts = await facts_of(shared_reader, path)
    assert facts.kind is Kind.VIDEO
    assert facts.content_type == "video/mp4"
    assert facts.fault
    assert facts.fault.startswith("The file is damaged: ")


@pytest.mark.parametrize("suffix", [".mkv", ".mp3", ".flac", ".ogg", ".m4a", ".avi"])
@pytest.mark.parametrize("kept", [0.01, 0.1, 0.5, 0.9])
async def test_half_a_file_is_described_or_has_a_fault(
    shared_reader: MediaReader, tmp_path: Path, suffix: str, kept: float
) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix in make.SOUNDS:
        make.tag(make.song(path), make.jpeg(make.halves((200, 200))))
    else:
        make.film(path, sound="libmp3lame")
    os.truncate(path, int(path.stat().st_size * kept))
    facts = await facts_of(shared_reader, path)
    assert facts.fault or facts.duration


async def test_a_film_of_noise_is_told_from_one_that_plays(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    path = make.film(tmp_path / "a.mp4", options={"movflags": "faststart"}, sound=None)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    content[start:] = os.urandom(len(content) - start)
    path.write_bytes(content)
    facts = await facts_of(shared_reader, path)
    assert facts.fault == "Its picture is damaged: no frame can be decoded."
    assert (facts.kind, facts.width) == (Kind.VIDEO, 320)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
async def test_a_photo_whose_end_is_missing_says_so(
    shared_reader: MediaReader, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    Image.effect_noise((800, 600), 80).convert("RGB").save(path)
    os.truncate(path, path.stat().st_size // 2)
    facts = await facts_of(shared_reader, path, Kind.PHOTO)
    assert facts.fault == "The end of the picture is missing."
    assert facts.kind is Kind.PHOTO
    if suffix != ".webp":
        assert (facts.width, facts.height) == (800, 600)


async def test_the_thumbnail_inside_a_photo_does_not_pass_for_its_end(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    path = tmp_path / "a.jpg"
    whole = make.jpeg(Image.effect_noise((900, 900), 80).convert("RGB"))
    thumbnail = make.jpeg(make.halves((160, 120)))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    path.write_bytes((whole[:2] + segment + whole[2:])[: len(whole) // 2])
    facts = await facts_of(shared_reader, path, Kind.PHOTO)
    assert facts.fault == "The end of the picture is missing."


async def test_a_photo_with_a_film_behind_it_is_whole(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    path = make.photo(tmp_path / "a.jpg")
    film = make.film(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes() + film.read_bytes() + bytes(5000))
    assert (await facts_of(shared_reader, path, Kind.PHOTO)).fault is None


@pytest.mark.parametrize("side", [20_000, 100_000])
async def test_a_small_file_that_unfolds_into_a_huge_picture_is_not_decoded(
    shared_reader: MediaReader, tmp_path: Path, side: int
) -> None:
    path = make.png_bomb(tmp_path / "a.png", side)
    facts = await facts_of(shared_reader, path, Kind.PHOTO)
    assert (facts.kind, facts.has_picture) == (Kind.PHOTO, False)
    target = tmp_path / "out.jpg"
    assert not await shared_reader.picture(handed.File(str(path)), Kind.PHOTO, target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\0b\x07c", "abc"),
        ("  two\n\tlines \r\n", "two lines"),
        ("x" * 3_000_000, "x" * 500),
        ("JosÃ© GonzÃ¡lez", "José González"),
        ("\u202eevil\ufffe\ue000", "\u202eevil"),
        ("e\u0301", "é"),
        ("\0\0", None),
    ],
    ids=["controls", "lines", "huge", "mojibake", "unassigned", "composed", "nothing"],
)
async def test_texts_of_strangers_are_fit_to_be_shown(
    shared_reader: MediaReader, tmp_path: Path, text: str, shown: str | None
) -> None:
    path = make.song(tmp_path / "a.mp3", seconds=0.3)
    tags = ID3()
    tags.add(TIT2(encoding=3, text=[text]))
    tags.add(TPE1(encoding=3, text=["somebody"]))
    tags.save(path)
    facts = await facts_of(shared_reader, path, Kind.MUSIC)
    # ID3 ends a text at a NUL and begins another.
    if text == "a\0b\x07c":
        shown = "a, bc"
    assert (facts.title, facts.artist) == (shown, "somebody")


async def test_titles_that_are_no_utf8_are_read_as_what_they_most_likely_are(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    path = make.film(tmp_path / "a.mkv", sound=None, seconds=0.3, title="CafZZ bar")
    path.write_bytes(path.read_bytes().replace(b"CafZZ bar", b"Caf\xe9  bar"))
    assert (await facts_of(shared_reader, path)).title == "Café bar"


@pytest.mark.parametrize("make_it", ["folder", "pipe", "link", "device", "nothing"])
async def test_only_regular_files_are_opened(
    shared_reader: MediaReader, tmp_path: Path, make_it: str
) -> None:
    path = tmp_path / "a.mp4"
    match make_it:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link":
            path.symlink_to(make.film(tmp_path / "real.mp4", seconds=0.3))
        case "device":
            path = Path("/dev/zero")
    facts = await facts_of(shared_reader, path)
    assert facts.fault
    assert asdict(facts) == asdict(MediaFacts(fault=facts.fault))


async def test_names_may_be_anything_that_the_file_system_takes(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    source = make.song(tmp_path / "a.mp3", seconds=0.3)
    for name in (b"\xff\xfe caf\xe9.mp3", "日本 #%20 'x' \n.mp3".encode(), b"-i.mp3"):
        path = os.fsencode(tmp_path) + b"/" + name
        shutil.copy(source, path)
        facts = await shared_reader.read(handed.File(os.fsdecode(path)), Kind.MUSIC)
        assert (facts.kind, facts.fault) == (Kind.MUSIC, None)
