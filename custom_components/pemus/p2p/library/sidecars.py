"""Subtitle files beside videos: `Film.srt`, `Film.en.srt`, `Film.pt-BR.forced.ass` belong to `Film.mkv`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2s
import re

from .names import fold, stem_of

_MAX_PARTS = 3
"""How many parts between the video's name and the extension: language, `forced`, `sdh`."""
_FLAGS = frozenset({"forced", "sdh", "cc", "hi", "default", "full", "signs"})
_TAG = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")

# BCP 47 wants the two letters where a language has them; files are named with three, or in English.
_SHORT = {
    "ara": "ar", "bul": "bg", "cat": "ca", "ces": "cs", "chi": "zh", "cze": "cs", "dan": "da", "deu": "de", "dut": "nl",
    "ell": "el", "eng": "en", "est": "et", "fin": "fi", "fra": "fr", "fre": "fr", "ger": "de", "gre": "el", "heb": "he",
    "hin": "hi", "hrv": "hr", "hun": "hu", "ind": "id", "isl": "is", "ita": "it", "jpn": "ja", "kor": "ko", "lav": "lv",
    "lit": "lt", "nld": "nl", "nor": "no", "per": "fa", "fas": "fa", "pol": "pl", "por": "pt", "ron": "ro", "rum": "ro",
    "rus": "ru", "slk": "sk", "slo": "sk", "slv": "sl", "spa": "es", "srp": "sr", "swe": "sv", "tha": "th", "tur": "tr",
    "ukr": "uk", "vie": "vi", "zho": "zh",
    "arabic": "ar", "chinese": "zh", "czech": "cs", "danish": "da", "dutch": "nl", "english": "en", "finnish": "fi",
    "french": "fr", "german": "de", "greek": "el", "hebrew": "he", "hindi": "hi", "hungarian": "hu", "italian": "it",
    "japanese": "ja", "korean": "ko", "norwegian": "no", "polish": "pl", "portuguese": "pt", "romanian": "ro",
    "russian": "ru", "spanish": "es", "swedish": "sv", "turkish": "tr", "ukrainian": "uk",
}  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Sidecar:
    """A subtitle file as a scan found it."""

    name: str
    size: int
    mtime_ns: int


def signature(sidecars: Iterable[Sidecar]) -> str:
    """Return a text that changes when a folder's subtitle files do; "" for none."""
    found = sorted(sidecars)
    if not found:
        return ""
    described = "\0".join(f"{it.name}/{it.size}/{it.mtime_ns}" for it in found)
    return blake2s(described.encode(), digest_size=12).hexdigest()


def matches(
    videos: dict[str, int], sidecars: Iterable[Sidecar]
) -> dict[int, list[tuple[Sidecar, str | None]]]:
    """Return what belongs to each video, with its language.

    `videos` maps file names to rows. A sidecar goes to the video whose name is the longest that it begins with.
    """
    stems: dict[str, list[int]] = {}
    for name, row in videos.items():
        stems.setdefault(fold(stem_of(name)), []).append(row)
    found: dict[int, list[tuple[Sidecar, str | None]]] = {}
    for sidecar in sorted(sidecars):
        parts = stem_of(sidecar.name).split(".")
        for extra in range(min(_MAX_PARTS, len(parts) - 1) + 1):
            rows = stems.get(fold(".".join(parts[: len(parts) - extra])))
            if rows:
                language = language_of(parts[len(parts) - extra :])
                for row in rows:
                    found.setdefault(row, []).append((sidecar, language))
                break
    return found


def language_of(parts: list[str]) -> str | None:
    """Return the BCP 47 tag among the parts of a file name that follow the video's name."""
    lowered = [part.lower().replace("_", "-") for part in parts]
    for part in lowered:
        if part in _FLAGS:
            continue
        head, dash, rest = part.partition("-")
        tag = _SHORT.get(head, head) + dash + rest
        if _TAG.fullmatch(tag):
            return _cased(tag)
    # "hi" marks subtitles for the hard of hearing more often than Hindi, unless it stands alone.
    return "hi" if lowered == ["hi"] else None


def _cased(tag: str) -> str:
    """Write a tag as is usual: `pt-BR`, `zh-Hans`."""
    head, *rest = tag.split("-")
    return "-".join(
        [
            head,
            *(
                part.upper()
                if len(part) == 2
                else part.title()
                if len(part) == 4
                else part
                for part in rest
            ),
        ]
    )
