"""The parsing and selection of ranges, against a model that knows nothing but bytes."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
import re
import time

from hypothesis import example, given, strategies as st
import pytest

from custom_components.pemus.stream.ranges import (
    MAX_PARTS,
    MAX_SPECS,
    Span,
    Unsatisfiable,
    select,
)


def spans(header: str, size: int) -> list[tuple[int, int]] | None:
    selected = select(header, size)
    return None if selected is None else [(span.start, span.stop) for span in selected]


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=0-0", 10, [(0, 1)]),
        ("bytes=0-9", 10, [(0, 10)]),
        ("bytes=0-10", 10, [(0, 10)]),
        ("bytes=9-", 10, [(9, 10)]),
        ("bytes=-1", 10, [(9, 10)]),
        ("bytes=-10", 10, [(0, 10)]),
        ("bytes=-11", 10, [(0, 10)]),
        ("bytes=0-999999999999999999999999999999", 10, [(0, 10)]),
        ("bytes=-999999999999999999999999999999", 10, [(0, 10)]),
        (
            "bytes=0000000000000000000000001-000000000000000000000000000002",
            10,
            [(1, 3)],
        ),
        ("BYTES=1-2", 10, [(1, 3)]),
        ("bytes=1-2 ", 10, [(1, 3)]),
        ("bytes= 1-2", 10, [(1, 3)]),
        ("bytes=,1-2,", 10, [(1, 3)]),
        ("bytes=1-2 \t, 4-5", 10, [(1, 3), (4, 6)]),
        ("bytes=4-5,1-2", 10, [(4, 6), (1, 3)]),
        ("bytes=0-1,2-3", 10, [(0, 4)]),
        ("bytes=0-5,3-8", 10, [(0, 9)]),
        ("bytes=8-9,0-1,1-2", 10, [(8, 10), (0, 3)]),
        ("bytes=6-6,0-1,5-5", 10, [(5, 7), (0, 2)]),
        ("bytes=0-1,50-60", 10, [(0, 2)]),
        ("bytes=0-1,-0", 10, [(0, 2)]),
        ("bytes=-1,0-0", 1, [(0, 1)]),
    ],
)
def test_ranges_are_selected_as_the_rfc_says(
    header: str, size: int, expected: list[tuple[int, int]]
) -> None:
    assert spans(header, size) == expected


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=--1",
        "bytes=1",
        "bytes=a-b",
        "bytes=2-1",
        "bytes=0-1,2-1",
        "bytes=0-1;2-3",
        "bytes=0-1,x",
        "bytes=0x0-0x1",
        "bytes=+0-1",
        "bytes=0-1.5",
        "bytes=\u0661-\u0662",
        "bytes=0 - 1",
        "bytes =0-1",
        "bytes:0-1",
        "bytes 0-1/10",
        "items=0-1",
        "seconds=0-",
        "none",
        "bytes=0-1, bytes=2-3",
        "bytes=0-\x00",
    ],
)
def test_what_is_malformed_or_of_another_unit_is_ignored(header: str) -> None:
    assert spans(header, 10) is None


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ("bytes=10-", 10),
        ("bytes=10-20", 10),
        ("bytes=-0", 10),
        ("bytes=-00000000000000000000000000000000", 10),
        ("bytes=99999999999999999999999999-", 10),
        ("bytes=10-,-0,11-12", 10),
        ("bytes=0-", 0),
        ("bytes=-5", 0),
        ("bytes=0-0", 0),
    ],
)
def test_ranges_beyond_the_file_are_unsatisfiable(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        select(header, size)


def test_no_header_selects_nothing() -> None:
    assert select(None, 10) is None


def test_sixteen_parts_are_sent_and_seventeen_are_not() -> None:
    many = [f"{index * 2}-{index * 2}" for index in range(MAX_PARTS + 1)]
    assert len(spans("bytes=" + ",".join(many[:-1]), 1000) or []) == MAX_PARTS
    assert spans("bytes=" + ",".join(many), 1000) is None


def test_a_hundred_ranges_that_merge_into_one_are_sent_and_a_hundred_and_one_are_ignored() -> (
    None
):
    assert spans("bytes=" + ",".join(["0-1"] * MAX_SPECS), 10) == [(0, 2)]
    assert spans("bytes=" + ",".join(["0-1"] * (MAX_SPECS + 1)), 10) is None


@pytest.mark.parametrize(
    "header",
    [
        "bytes=" + "0-1," * 300_000,
        "bytes=" + "9" * 1_000_000 + "-",
        "bytes=" + " " * 10**6,
    ],
    ids=["ranges", "digits", "blanks"],
)
def test_a_megabyte_of_header_takes_no_time(header: str) -> None:
    begin = time.thread_time()
    with suppress(Unsatisfiable):
        select(header, 10)
    assert time.thread_time() - begin < 0.2


# --- The model: a file is a list of positions, and a range is whichever of them it names.

numbers = st.one_of(st.integers(0, 40), st.integers(0, 10**25))
well_formed = st.one_of(
    st.tuples(numbers, numbers).map(sorted).map(lambda pair: (pair[0], pair[1])),
    st.tuples(numbers, st.none()),
    st.tuples(st.none(), numbers),
)
blanks = st.sampled_from(["", " ", "\t", "  "])


def written(spec: tuple[int | None, int | None]) -> str:
    return "-".join("" if number is None else str(number) for number in spec)


def model(spec: tuple[int | None, int | None], size: int) -> set[int]:
    first, last = spec
    everything = range(size)
    if first is None:
        assert last is not None
        return {position for position in everything if size - position <= last}
    return {
        position
        for position in everything
        if first <= position and (last is None or position <= last)
    }


@given(
    specs=st.lists(well_formed, min_size=1, max_size=12),
    size=st.integers(0, 40),
    data=st.data(),
)
def test_exactly_the_bytes_asked_for_are_selected(
    specs: list[tuple[int | None, int | None]], size: int, data: st.DataObject
) -> None:
    header = "bytes=" + ",".join(
        data.draw(blanks) + written(spec) + data.draw(blanks) for spec in specs
    )
    asked = [model(spec, size) for spec in specs]
    wanted = set().union(*asked)
    if not wanted:
        with pytest.raises(Unsatisfiable):
            select(header, size)
        return
    selected = select(header, size)
    assert selected is not None

    covered = [set(range(span.start, span.stop)) for span in selected]
    assert set().union(*covered) == wanted
    # Nothing is sent twice, and nothing is left apart that touches.
    assert sum(map(len, covered)) == len(wanted)
    borders = sorted((span.start, span.stop) for span in selected)
    assert all(before[1] < after[0] for before, after in pairwise(borders))
    # The parts come in the order in which the first byte range of each was asked for.
    first_asked = [
        min(index for index, bytes_ in enumerate(asked) if bytes_ & part)
        for part in covered
    ]
    assert first_asked == sorted(first_asked)


@given(header=st.text(max_size=60), size=st.integers(0, 100))
@example(header="bytes=0-0" + "," * 40, size=1)
def test_no_header_whatsoever_selects_anything_outside_the_file(
    header: str, size: int
) -> None:
    for text in (header, "bytes=" + header):
        try:
            selected = select(text, size)
        except Unsatisfiable:
            continue
        assert selected is None or all(
            0 <= span.start < span.stop <= size for span in selected
        )


@given(
    header=st.from_regex(
        re.compile(r"bytes=[0-9,\- \t]{0,30}", re.ASCII), fullmatch=True
    ),
    size=st.integers(0, 40),
)
def test_anything_that_looks_like_a_range_is_answered_or_ignored_as_a_whole(
    header: str, size: int
) -> None:
    body = header.removeprefix("bytes=")
    elements = [element for part in body.split(",") if (element := part.strip(" \t"))]
    parsed = [re.fullmatch(r"(\d*)-(\d*)", element) for element in elements]
    proper = bool(elements) and all(
        match
        and (match[1] or match[2])
        and not (match[1] and match[2] and int(match[2]) < int(match[1]))
        for match in parsed
    )
    try:
        selected = select(header, size)
    except Unsatisfiable:
        assert proper
    else:
        assert proper or selected is None


def test_a_span_knows_its_length_and_its_header() -> None:
    assert len(Span(2, 5)) == 3
    assert Span(2, 5).content_range(10) == "bytes 2-4/10"
