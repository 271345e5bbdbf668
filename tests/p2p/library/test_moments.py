"""Photos lie in the month in which they were taken, where they were taken."""

from __future__ import annotations

from collections.abc import Iterator
import time

from hypothesis import given, strategies as st
import pytest

from p2p.library import photo_dates as moments


@pytest.fixture(params=["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"])
def zone(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    moments._local.cache_clear()
    yield request.param
    monkeypatch.undo()
    time.tzset()
    moments._local.cache_clear()


def test_a_file_is_of_the_local_month(zone: str) -> None:
    for stamp in range(1_500_000_000, 1_700_000_000, 10_000_019):
        local = time.localtime(stamp)
        month, moment = moments.of_file(stamp * 10**9)
        assert month == local.tm_year * 100 + local.tm_mon
        assert time.gmtime(moment)[:6] == local[:6]


def test_a_date_of_the_camera_is_taken_as_it_is(zone: str) -> None:
    found = moments.of_taken("2024-12-31T23:59:59")
    assert found is not None
    assert found[0] == 202412
    assert time.gmtime(found[1])[:6] == (2024, 12, 31, 23, 59, 59)


@pytest.mark.parametrize("mtime_ns", [0, -1, -(10**18), 10**9, 2**63 - 1, -(2**63)])
def test_a_time_that_was_never_set_is_unknown_and_no_time_breaks_it(
    mtime_ns: int,
) -> None:
    month, _ = moments.of_file(mtime_ns)
    assert month == moments.UNKNOWN_MONTH or month > 197000


@given(st.text(max_size=30))
def test_no_date_breaks_it(taken: str) -> None:
    found = moments.of_taken(taken)
    assert found is None or 0 < found[0] % 100 <= 12
