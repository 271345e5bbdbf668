"""Subtitle files of all ages and programs become WebVTT, and nothing but cues gets through."""

from __future__ import annotations

import os
from pathlib import Path
import re
from string import printable

from hypothesis import given, strategies as st
import pytest

from p2p.media.facts import MediaError
from p2p.media.reader import MediaReader
from p2p.media.subtitles import MAX_SIZE, Cue, convert, cues, markup, webvtt
from tests.p2p.media import handed

SRT = """1
00:00:01,000 --> 00:00:02,500
Grüße aus <i>Köln</i>

2
00:01:00,000 --> 00:01:03,040
Two
lines
"""
VTT = """WEBVTT

00:00:01.000 --> 00:00:02.500
Grüße aus <i>Köln</i>

00:01:00.000 --> 00:01:03.040
Two
lines
"""
ASS = """[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline
Style: Default,Arial,20,&H00FFFFFF,&H000000FF,&H00000000,&H00000000,0,0,0,0,100,100,0,0,1,2,2,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:01:00.00,0:01:03.04,Default,,0,0,0,,Two\\Nlines
Dialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,{\\pos(1,2)}Grüße aus {\\i1}Köln{\\i0}
Comment: 0,0:00:05.00,0:00:06.00,Default,,0,0,0,,not shown
"""


def converted(path: Path, content: bytes | str) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with path.open("rb") as file:
        return convert(file).decode()


def well_formed(text: str) -> None:
    """Check a file against the grammar of WebVTT, as strictly as no browser does."""
    time = r"\d\d+:[0-5]\d:[0-5]\d\.\d{3}"
    head, *blocks = text.split("\n\n")
    assert head == "WEBVTT"
    for block in blocks:
        timing, *lines = block.rstrip("\n").split("\n")
        assert re.fullmatch(rf"{time} --> {time}( [a-z]+:[a-z\d.,%-]+)*", timing)
        assert lines
        for line in lines:
            assert line.strip()
            assert "-->" not in line
            assert not re.sub(r"</?[biu]>", "", line).count("<")
            assert not re.search(r"[\0-\x08\x0a-\x1f\x7f]", line)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("utf-8.srt", SRT.encode()),
        ("bom.srt", SRT.encode("utf-8-sig")),
        ("windows.srt", SRT.encode("cp1252")),
        ("utf-16.srt", SRT.encode("utf-16")),
        ("utf-16-be.srt", b"\xfe\xff" + SRT.encode("utf-16-be")),
        ("crlf.srt", SRT.replace("\n", "\r\n").encode()),
        ("cr.srt", SRT.replace("\n", "\r").encode()),
        ("tight.srt", SRT.replace("\n\n", "\n").encode()),
        ("spaces.srt", SRT.replace("\n\n", "\n  \n\n").encode()),
        ("a.vtt", VTT.encode()),
        ("short.vtt", VTT.replace("00:0", "0").replace("00:01:00", "01:00").encode()),
        ("a.ass", ASS.encode()),
        ("utf-16.ass", ASS.encode("utf-16")),
        ("really-an-ass.srt", ASS.encode()),
        ("really-an-srt.ass", SRT.encode()),
    ],
)
def test_every_format_and_encoding_says_the_same(
    tmp_path: Path, name: str, content: bytes
) -> None:
    assert converted(tmp_path / name, content) == VTT


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("<b>bold</b>", "<b>bold</b>"),
        ("<I>never closed", "<i>never closed</i>"),
        ("<b><i>crossed</b></i>", "<b><i>crossed</i></b>"),
        ("closed only</i>", "closed only"),
        ('<font color="#ff0000">red</font>', "red"),
        ("<c.yellow>word</c>", "word"),
        ("<v Fred>Hello", "Hello"),
        ("<00:00:01.500>karaoke", "karaoke"),
        ("{\\an8}at the top", "at the top"),
        ("1 < 2 && 3 > 2", "1 &lt; 2 &amp;&amp; 3 &gt; 2"),
        ("Q&amp;A &#9834; &nbsp;", "Q&amp;A &#9834; &nbsp;"),
        ("<script>alert(1)</script>", "alert(1)"),
        ("<img src=x onerror=alert(1)>", ""),
        ("<<i>script>", "&lt;<i>script&gt;</i>"),
        ("--> 00:00:09.000", "--&gt; 00:00:09.000"),
        ("<i></i>", ""),
        ("{curly}", "{curly}"),
    ],
)
def test_only_harmless_markup_gets_through(written: str, shown: str) -> None:
    assert markup(written) == shown


def test_styles_regions_and_notes_of_a_stranger_never_reach_a_player(
    tmp_path: Path,
) -> None:
    hostile = (
        "WEBVTT - title\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000\n\n"
        "STYLE\n::cue { background: url(https://x.example/spy) }\n\n"
        "REGION\nid:fred\n\nNOTE secret\n\n"
        "id --&gt; 1\n00:01.000 --> 00:02.000 align:start line:0 region:fred position:150%;x evil:1\nHello\n"
        "STYLE\n\n::cue{}\n"
    )
    text = converted(tmp_path / "a.vtt", hostile)
    well_formed(text)
    assert text == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.000 align:start line:0\nHello\nSTYLE\n"
    )


@pytest.mark.parametrize(
    "content",
    ["", "\n\n", "hello", "00:00:01,000 --> 00:00:02,000\n\n", "WEBVTT\n\n",
     "00:00:02,000 --> 00:00:01,000\nbackwards\n", "[Script Info]\n", "\0" * 5000],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".srt", ".vtt", ".ass", ".ssa"])
def test_a_file_without_subtitles_is_an_error(
    tmp_path: Path, content: str, suffix: str
) -> None:
    with pytest.raises(MediaError):
        converted(tmp_path / f"a{suffix}", content)


def test_a_subtitle_file_of_another_size_than_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="too large"):
        converted(tmp_path / "a.srt", SRT.encode() * (MAX_SIZE // 60))


@pytest.mark.parametrize("end", range(330, 700, 7))
def test_half_a_file_says_half(tmp_path: Path, end: int) -> None:
    content = ASS.encode()[: end + 350]
    try:
        well_formed(converted(tmp_path / "a.ass", content))
    except MediaError:
        assert content.count(b"Dialogue:") <= 1


@pytest.mark.filterwarnings("ignore:Failed to parse")
def test_broken_styles_cost_only_the_styles(tmp_path: Path) -> None:
    broken = ASS.replace("Arial,20", "Arial,much")
    assert converted(tmp_path / "a.ass", broken).count("-->") == 2


def test_cues_are_bounded_in_length(tmp_path: Path) -> None:
    line = "<i>" + "x" * 100_000
    text = converted(
        tmp_path / "a.srt",
        "00:00:01,000 --> 00:00:02,000\n" + f"{line}\n" * 100,
    )
    well_formed(text)
    assert len(text) < 20_000


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=400))
def test_no_text_breaks_out_of_its_cue(text: str) -> None:
    source = (
        f"00:00:01,000 --> 00:00:02,000\n{text}\n\n00:00:03,000 --> 00:00:04,000\nlast"
    )
    source = source.replace("\0", "").replace("\r", "\n")
    found = list(cues(re.sub(r"[\0-\x08\x0b-\x1f\x7f]", "", source)))
    well_formed(webvtt(found))
    assert found[-1].lines == ("last",)


@given(
    st.lists(
        st.sampled_from(
            [
                "<",
                ">",
                "&",
                "</",
                "i",
                "b>",
                "<i>",
                "</b>",
                "{\\",
                "}",
                "--",
                ";",
                "amp",
                " ",
                "1",
            ]
        )
    )
)
def test_no_markup_breaks_out_of_its_line(parts: list[str]) -> None:
    if shown := markup("".join(parts)):
        well_formed(webvtt([Cue(0, 1, "", (shown,))]))


@pytest.mark.filterwarnings("ignore:Failed to parse")
@given(st.binary(max_size=600) | st.text(alphabet=printable).map(str.encode))
def test_no_bytes_upset_the_conversion(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".srt", ".ass"):
            for before in (b"", SRT.encode(), ASS.encode()):
                try:
                    text = converted(Path(folder) / f"a{suffix}", before + content)
                except MediaError:
                    assert b"-->" not in before
                else:
                    well_formed(text)


@pytest.mark.asyncio(loop_scope="session")
async def test_the_reader_writes_webvtt_beside_nothing_else(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    (tmp_path / "a.srt").write_text(SRT)
    target = tmp_path / "cache" / "a.vtt"
    target.parent.mkdir()
    await shared_reader.subtitles(handed.File(str(tmp_path / "a.srt")), target)
    assert target.read_text() == VTT
    assert [each.name for each in target.parent.iterdir()] == ["a.vtt"]


@pytest.mark.asyncio(loop_scope="session")
async def test_the_reader_says_what_is_wrong_with_subtitles(
    shared_reader: MediaReader, tmp_path: Path
) -> None:
    target = tmp_path / "cache" / "a.vtt"
    target.parent.mkdir()
    os.mkfifo(tmp_path / "pipe.srt")
    (tmp_path / "empty.srt").touch()
    for name, message in (
        ("gone.srt", "cannot be read: No such file"),
        ("pipe.srt", "cannot be read: pipe.srt is not a regular file"),
        ("empty.srt", "There are no subtitles"),
    ):
        with pytest.raises(MediaError, match=message):
            await shared_reader.subtitles(handed.File(str(tmp_path / name)), target)
    assert not list(target.parent.iterdir())
