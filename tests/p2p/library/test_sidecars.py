"""Subtitle files find their videos, whatever they are called."""

from __future__ import annotations

from hypothesis import given, strategies as st
import pytest

from p2p.library.sidecars import Sidecar, language_of, matches, signature


def belonging(videos: list[str], files: list[str]) -> dict[str, list[str]]:
    rows = {name: number for number, name in enumerate(videos)}
    found = matches(rows, [Sidecar(name, 1, 1) for name in files])
    return {
        videos[row]: [f"{each.name}={language}" for each, language in several]
        for row, several in found.items()
    }


def test_a_sidecar_has_the_name_of_its_video() -> None:
    assert belonging(
        ["Film.mkv", "Other.mp4"], ["Film.srt", "Film.en.srt", "Nobody.srt"]
    ) == {"Film.mkv": ["Film.en.srt=en", "Film.srt=None"]}


def test_the_longest_name_wins() -> None:
    assert belonging(["Film.mkv", "Film.2.mkv"], ["Film.2.srt", "Film.2.de.srt"]) == {
        "Film.2.mkv": ["Film.2.de.srt=de", "Film.2.srt=None"]
    }


def test_case_and_unicode_forms_make_no_difference() -> None:
    assert belonging(["F\u00edlm.MKV"], ["fi\u0301lm.EN.SRT"]) == {
        "F\u00edlm.MKV": ["fi\u0301lm.EN.SRT=en"]
    }


def test_two_versions_of_a_video_share_their_subtitles() -> None:
    assert belonging(["Film.mkv", "Film.mp4"], ["Film.srt"]) == {
        "Film.mkv": ["Film.srt=None"],
        "Film.mp4": ["Film.srt=None"],
    }


@pytest.mark.parametrize(
    ("parts", "language"),
    [
        ([], None),
        (["en"], "en"),
        (["eng"], "en"),
        (["English"], "en"),
        (["forced"], None),
        (["de", "forced"], "de"),
        (["sdh", "de"], "de"),
        (["pt-BR"], "pt-BR"),
        (["pt_br"], "pt-BR"),
        (["zh-hans"], "zh-Hans"),
        (["hi"], "hi"),
        (["en", "hi"], "en"),
        (["2"], None),
        (["director's cut"], None),
        (["\u0130"], None),
    ],
)
def test_the_language_is_in_the_name(parts: list[str], language: str | None) -> None:
    assert language_of(parts) == language


@given(
    st.lists(st.text(min_size=1, max_size=20), max_size=5),
    st.lists(st.text(min_size=1, max_size=20), max_size=5),
)
def test_no_names_break_it(videos: list[str], files: list[str]) -> None:
    found = matches(
        dict(zip(videos, range(9), strict=False)), [Sidecar(f, 1, 1) for f in files]
    )
    assert all(each.name in files for several in found.values() for each, _ in several)


def test_the_signature_changes_with_the_files() -> None:
    one, other = Sidecar("a.srt", 1, 1), Sidecar("b.srt", 1, 1)
    assert signature([]) == ""
    assert signature([one, other]) == signature([other, one])
    assert (
        len(
            {
                signature(each)
                for each in ([one], [other], [one, other], [Sidecar("a.srt", 2, 1)])
            }
        )
        == 4
    )
