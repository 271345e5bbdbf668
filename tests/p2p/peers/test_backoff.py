"""How long is waited before another attempt, and so that not too much is done at a time."""

from __future__ import annotations

from hypothesis import given, strategies as st
import pytest

from p2p.core.backoff import Backoff, Pace, Rarely


def test_the_first_pause_is_short_and_the_others_get_twice_as_long_up_to_the_longest() -> (
    None
):
    pauses = [[backoff.failed() for _ in range(12)] for backoff in [Backoff(1, 60)] * 3]
    first = [Backoff(1, 60).failed() for _ in range(50)]

    assert all(0 <= pause <= 1 for pause in first)
    for pause, least, most in zip(
        pauses[0],
        (0, 1, 2, 4, 8, 16, 30, 30),
        (1, 2, 4, 8, 16, 32, 60, 60),
        strict=False,
    ):
        assert least <= pause <= most
    assert all(30 <= pause <= 60 for pause in pauses[1] + pauses[2])


def test_pauses_are_not_the_same_for_all() -> None:
    others = {tuple(Backoff(1, 60).failed() for _ in range(1)) for _ in range(20)}

    assert len(others) > 10


def test_after_a_success_it_begins_anew() -> None:
    backoff = Backoff(1, 60)
    for _ in range(10_000):
        backoff.failed()

    backoff.succeeded()

    assert backoff.failed() <= 1


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_allowed_at_once_costs_no_time_and_the_rest_does() -> None:
    clock = Clock()
    pace = Pace(10, 5, clock)

    assert [pace.spend(1) for _ in range(5)] == [0] * 5
    assert pace.spend(1) == pytest.approx(0.1)
    clock.now += 0.1
    assert pace.spend(1) == pytest.approx(0.1)


def test_a_long_rest_gives_no_more_than_what_is_allowed_at_once() -> None:
    clock = Clock()
    pace = Pace(10, 5, clock)
    pace.spend(5)

    clock.now += 3600

    assert pace.spend(6) == pytest.approx(0.1)


@given(st.lists(st.floats(0.5, 20), min_size=1, max_size=60))
def test_who_waits_as_told_keeps_the_rate(works: list[float]) -> None:
    clock = Clock()
    pace = Pace(10, 5, clock)
    for work in works:
        clock.now += pace.spend(work)

    assert sum(works) <= 5 + 10 * (clock.now - 1000) + 1e-6


def test_what_is_done_rarely_is_done_once_in_a_while() -> None:
    clock = Clock()
    rarely = Rarely(60, clock)
    assert [rarely.now() for _ in range(3)] == [True, False, False]

    clock.now += 59
    assert not rarely.now()
    clock.now += 1
    assert [rarely.now() for _ in range(2)] == [True, False]
