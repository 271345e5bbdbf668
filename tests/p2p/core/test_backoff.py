"""How long to wait before the next attempt."""

from __future__ import annotations

from p2p.core.backoff import Backoff


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
