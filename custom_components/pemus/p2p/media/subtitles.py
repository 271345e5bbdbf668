"""Subtitle files as WebVTT, the one format that browsers show.

SubRip and WebVTT are read here; for the SubStation Alpha formats pysubs2 makes SubRip of them first. Only cues are taken
over, and of their markup only bold, italic and underlined text: styles, scripts and settings of a stranger's file
never reach a player.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
import re
from typing import BinaryIO

from .facts import MediaError

MAX_SIZE = 10 * 1024 * 1024
"""Bytes of a subtitle file. A long film has a tenth of a megabyte."""
MAX_CUES = 50_000
MAX_LINES = 12
"""Lines of one cue; more would cover the picture."""
MAX_LINE = 1000
"""Characters of one line."""

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
_TIMING = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(.*)", re.ASCII)
_SETTING = re.compile(
    r"vertical:(?:rl|lr)|line:-?[\d.]{1,8}%?(?:,(?:start|center|end))?"
    r"|position:[\d.]{1,8}%(?:,(?:line-left|center|line-right))?|size:[\d.]{1,8}%"
    r"|align:(?:start|center|end|left|right)",
    re.ASCII,
)
_TOKEN = re.compile(
    r"(?P<style></?[biu]>)|(?P<tag></?[a-z][^<>]{0,200}>|<\d[\d:.]{0,20}>)"
    r"|(?P<override>\{\\[^{}]{0,200}\})|(?P<entity>&(?:amp|lt|gt|nbsp|lrm|rlm|#\d{1,6});)"
    r"|(?P<special>[&<>])|(?P<text>[^&<>{]+|\{)",
    re.IGNORECASE,
)
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_CONTROLS = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_DIALOGUE = re.compile(
    r"Dialogue:[^,]*,\s*\d+:\d{1,2}:\d{1,2}[.:]\d{1,3}\s*,\s*\d+:\d{1,2}:\d{1,2}[.:]\d{1,3}\s*,"
)


@dataclass(frozen=True, slots=True)
class Cue:
    """A piece of text and when it is shown, in milliseconds."""

    start: int
    end: int
    settings: str
    lines: tuple[str, ...]


def convert(file: BinaryIO) -> bytes:
    """Return a subtitle file as WebVTT.

    Raises:
        MediaError: it is too large, holds no subtitles, or its format cannot be read here.
        OSError: it cannot be read.

    """
    content = file.read(MAX_SIZE + 1)
    if len(content) > MAX_SIZE:
        raise MediaError("The subtitle file is too large.")
    text = decode(content)
    found = list(islice(cues(text), MAX_CUES))
    if not found and "Dialogue:" in text:
        found = list(islice(cues(_subrip(text)), MAX_CUES))
    if not found:
        raise MediaError("There are no subtitles in the file.")
    return webvtt(sorted(found, key=lambda each: each.start)).encode()


def decode(content: bytes) -> str:
    """Return the text of a subtitle file, with newlines between lines, whatever program wrote it."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = content.decode("utf-16", "replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252", "replace")
    return _CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def cues(text: str) -> Iterator[Cue]:
    """Yield the cues of a SubRip or WebVTT text: a line with times, and the lines up to the next empty one."""
    lines = iter(text.split("\n"))
    line = next(lines, None)
    while line is not None:
        timing = _TIMING.fullmatch(line) if len(line) <= MAX_LINE else None
        line = next(lines, None)
        if timing is None:
            continue
        shown: list[str] = []
        while line is not None and line.strip() and not _TIMING.fullmatch(line):
            if len(shown) < MAX_LINES and (cleaned := markup(line[:MAX_LINE])):
                shown.append(cleaned)
            line = next(lines, None)
        if line and line.strip() and shown and shown[-1].isdigit():
            # The next cue follows without an empty line: this is its number.
            shown.pop()
        start, end = _milliseconds(timing, 1), _milliseconds(timing, 5)
        if shown and end > start:
            yield Cue(start, end, _settings(timing[9]), tuple(shown))


def markup(line: str) -> str:
    """Return a line as WebVTT cue text: what is no harmless markup is either dropped or shown as it is written."""
    open_tags: list[str] = []
    parts: list[str] = []
    for token in _TOKEN.finditer(line):
        match token.lastgroup:
            case "style":
                parts.append(_balanced(token[0].lower(), open_tags))
            case "special":
                parts.append(_ESCAPES[token[0]])
            case "entity" | "text":
                parts.append(token[0])
    parts.extend(f"</{name}>" for name in reversed(open_tags))
    text = "".join(parts).strip()
    return text if re.sub(r"</?[biu]>", "", text) else ""


def webvtt(cues: list[Cue]) -> str:
    """Write cues as a WebVTT file."""
    blocks = ["WEBVTT\n"]
    for cue in cues:
        times = f"{_timestamp(cue.start)} --> {_timestamp(cue.end)} {cue.settings}"
        blocks.append("\n".join((times.rstrip(), *cue.lines)) + "\n")
    return "\n".join(blocks)


def _balanced(tag: str, open_tags: list[str]) -> str:
    """Return a tag if it fits those that are open, so that each line is well-formed by itself."""
    name = tag.strip("</>")
    if not tag.startswith("</"):
        if name in open_tags:
            return ""
        open_tags.append(name)
        return tag
    if open_tags and open_tags[-1] == name:
        open_tags.pop()
        return tag
    return ""


def _milliseconds(timing: re.Match[str], first: int) -> int:
    hours, minutes, seconds, fraction = (
        timing[first + index] or "0" for index in range(4)
    )
    whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
    return whole * 1000 + int(fraction.ljust(3, "0"))


def _settings(text: str) -> str:
    """Return those settings of a WebVTT cue that only say where it stands."""
    return " ".join(each for each in text[:200].split() if _SETTING.fullmatch(each))


def _timestamp(milliseconds: int) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{fraction:03}"


def _subrip(text: str) -> str:
    """Return a SubStation Alpha text as SubRip."""
    try:
        import pysubs2
    except ImportError:
        raise MediaError(
            "Subtitles of this format need a library that is missing."
        ) from None
    # Half a line, as at the end of a file that is still being copied, would make the library refuse the whole file.
    kept = [
        line[: 2 * MAX_LINE]
        for line in text.split("\n")
        if line.startswith("Style:") or _DIALOGUE.match(line)
    ]
    version = "ass" if "[V4+ Styles]" in text else "ssa"
    try:
        parsed = pysubs2.SSAFile.from_string("\n".join(kept), format_=version)
        return str(parsed.to_string("srt"))
    except Exception as err:
        raise MediaError("The subtitle file is damaged.") from err
