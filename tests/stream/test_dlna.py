"""What renderers ask for beside HTTP."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from custom_components.pemus.stream.dlna import Refused, answer


def test_who_asks_for_nothing_gets_nothing() -> None:
    assert answer({}, "video/mp4") == {}


@pytest.mark.parametrize(
    ("mode", "content_type"),
    [
        ("Streaming", "video/mp4"),
        ("Streaming", "audio/mpeg"),
        ("Background", "video/mp4"),
        ("Interactive", "image/jpeg"),
        ("Background", "image/png"),
    ],
)
def test_a_transfer_mode_that_fits_is_echoed(mode: str, content_type: str) -> None:
    assert answer({"transferMode.dlna.org": mode}, content_type) == {
        "transferMode.dlna.org": mode
    }
    assert answer({"transferMode.dlna.org": f" {mode.lower()}"}, content_type) == {
        "transferMode.dlna.org": mode
    }


@pytest.mark.parametrize(
    ("mode", "content_type"),
    [
        ("Interactive", "video/mp4"),
        ("Interactive", "audio/flac"),
        ("Streaming", "image/jpeg"),
    ],
)
def test_a_transfer_mode_that_does_not_fit_is_refused(
    mode: str, content_type: str
) -> None:
    with pytest.raises(Refused) as refused:
        answer({"transferMode.dlna.org": mode}, content_type)
    assert refused.value.status is HTTPStatus.NOT_ACCEPTABLE


def test_the_features_of_a_film_are_told_on_request() -> None:
    assert answer({"getcontentFeatures.dlna.org": "1"}, "video/mp4") == {
        "contentFeatures.dlna.org": "DLNA.ORG_OP=01;DLNA.ORG_CI=0;DLNA.ORG_FLAGS=01700000000000000000000000000000"
    }


def test_the_features_of_a_picture_are_those_of_something_to_look_at() -> None:
    assert answer({"getcontentFeatures.dlna.org": "1"}, "image/jpeg") == {
        "contentFeatures.dlna.org": "DLNA.ORG_OP=01;DLNA.ORG_CI=0;DLNA.ORG_FLAGS=00F00000000000000000000000000000"
    }


@pytest.mark.parametrize(
    "name", ["transferMode.dlna.org", "getcontentFeatures.dlna.org"]
)
@pytest.mark.parametrize("value", ["", "0", "2", "Warp", "1, 1", "x" * 10_000])
def test_values_that_make_no_sense_are_bad_requests(name: str, value: str) -> None:
    with pytest.raises(Refused) as refused:
        answer({name: value}, "video/mp4")
    assert refused.value.status is HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    "headers",
    [
        {"TimeSeekRange.dlna.org": "npt=10-"},
        {"PlaySpeed.dlna.org": "speed=2"},
        {"PlaySpeed.dlna.org": ""},
    ],
)
def test_seeking_by_time_and_other_speeds_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Refused) as refused:
        answer(headers, "video/mp4")
    assert refused.value.status is HTTPStatus.NOT_ACCEPTABLE


def test_the_normal_speed_is_not_refused() -> None:
    assert answer({"PlaySpeed.dlna.org": "speed = 1"}, "video/mp4") == {}
