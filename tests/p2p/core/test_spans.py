"""Sets of bytes behave like sets of numbers, whatever is done to them."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st
import pytest

from p2p.core.spans import Spans

SIZE = 40
span = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE))
operations = st.lists(st.tuples(st.sampled_from(["add", "discard"]), span), max_size=30)


def numbers(start: int, stop: int) -> set[int]:
    return set(range(start, stop))


def build(steps: list[tuple[str, tuple[int, int]]]) -> tuple[Spans, set[int]]:
    spans, model = Spans(), set[int]()
    for what, (start, stop) in steps:
        inside = numbers(start, stop)
        if what == "add":
            assert spans.add(start, stop) == len(inside - model)
            model |= inside
        else:
            assert spans.discard(start, stop) == len(inside & model)
            model -= inside
    return spans, model


@given(operations)
@settings(max_examples=500)
def test_it_holds_what_a_set_of_numbers_would(
    steps: list[tuple[str, tuple[int, int]]],
) -> None:
    spans, model = build(steps)
    found = list(spans)
    assert set().union(*(numbers(*each) for each in found)) == model
    assert spans.total == len(model)
    assert len(spans) == len(found)
    # In order, none empty, and none that touches the next.
    flat = [number for each in found for number in each]
    assert flat == sorted(set(flat))


@given(operations, span)
@settings(max_examples=500)
def test_questions_are_answered_as_by_a_set_of_numbers(
    steps: list[tuple[str, tuple[int, int]]], asked: tuple[int, int]
) -> None:
    spans, model = build(steps)
    start, stop = asked
    inside = numbers(start, stop)
    assert spans.covers(start, stop) == (inside <= model)
    assert spans.meets(start, stop) == bool(inside & model)
    run = spans.run_from(start)
    assert numbers(start, run) <= model
    assert run not in model
    for parts, expected in (
        (list(spans.missing(start, stop)), inside - model),
        (list(spans.within(start, stop)), inside & model),
    ):
        assert all(low < high for low, high in parts)
        assert [part for each in parts for part in sorted(numbers(*each))] == sorted(
            expected
        )


@given(operations, st.integers(1, 12), st.integers(0, SIZE))
def test_whole_pieces_are_found(
    steps: list[tuple[str, tuple[int, int]]], length: int, size: int
) -> None:
    spans, model = build(steps)
    spans.discard(size, SIZE)
    model = {each for each in model if each < size}
    assert spans.whole(length, size) == [
        numbers(start, min(start + length, size)) <= model
        for start in range(0, size, length)
    ]


@given(operations)
def test_it_comes_back_from_a_text(steps: list[tuple[str, tuple[int, int]]]) -> None:
    spans, _ = build(steps)
    again = Spans.decode(spans.encode(), SIZE)
    assert again == spans
    assert again.total == spans.total
    assert again != Spans([(0, SIZE), (SIZE + 1, SIZE + 2)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{}",
        "[1]",
        "[[1]]",
        "[[0, 101]]",
        "[[-1, 5]]",
        "[[5, 5]]",
        '[["0", "5"]]',
        "[[0, 1.5]]",
        "[[0, 1e400]]",
        "[[0, 5]",
    ],
)
def test_a_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Spans.decode(text, 100)
