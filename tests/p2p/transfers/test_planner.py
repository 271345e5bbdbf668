"""Whatever is there and whoever reads: a plan asks for what is missing, the most urgent first, and for no more than fits."""

from __future__ import annotations

from hypothesis import given, settings, strategies as st

from p2p.core.spans import Spans
from p2p.torrent.metainfo import Metainfo
from p2p.torrent.priority import Priority
from p2p.transfers import planner
from p2p.transfers.content import Content
from p2p.transfers.planner import Need, Plan, make_plan

PIECE = 1000
SIZE = 40 * PIECE - 300
META = Metainfo(
    info_hash="0" * 40,
    size=SIZE,
    piece_length=PIECE,
    pieces=bytes(20 * 40),
    salt=bytes(16),
)
PLENTY = 2**40

place = st.integers(0, SIZE)
span = st.tuples(place, place).map(sorted).map(tuple)


@st.composite
def contents(draw: st.DrawFn) -> Content:
    content = Content(SIZE, draw(st.sampled_from([META, None])))
    if content.meta is None:
        content.spans = Spans(draw(st.lists(span, max_size=5)))
        return content
    pieces = draw(st.sets(st.integers(0, 39), max_size=40))
    for number in pieces:
        start, stop = number * PIECE, min(SIZE, (number + 1) * PIECE)
        (content.spans if number % 3 else content.unchecked).add(start, stop)
    return content


@st.composite
def needs(draw: st.DrawFn) -> Need:
    start, stop = draw(span)
    return Need(
        start=start,
        stop=stop,
        near=start + draw(st.sampled_from([0, 2 * PIECE, SIZE])),
        rate=draw(st.sampled_from([100.0, 5000.0])),
        is_waiting=draw(st.booleans()),
    )


def plan_of(
    content: Content, *needs: Need, room: int = PLENTY, with_copy: bool = False
) -> Plan:
    return make_plan(content, needs, room, with_copy=with_copy)


def need(start: int, stop: int = SIZE, *, is_waiting: bool = False) -> Need:
    return Need(start, stop, start + 2 * PIECE, 1000.0, is_waiting)


def asked(plan: Plan) -> Spans:
    return Spans((each.start, each.stop) for each in plan.wanted)


@settings(deadline=None)
@given(contents(), st.lists(needs(), max_size=4), st.booleans())
def test_only_what_is_missing_is_asked_for(
    content: Content, who: list[Need], with_copy: bool
) -> None:
    plan = plan_of(content, *who, with_copy=with_copy)
    for wanted in plan.wanted:
        assert wanted.start < wanted.stop <= SIZE
        assert not content.spans.meets(wanted.start, wanted.stop)
        assert not content.unchecked.meets(wanted.start, wanted.stop)


@settings(deadline=None)
@given(contents(), st.lists(needs(), max_size=4))
def test_all_that_readers_need_is_asked_for_if_there_is_room(
    content: Content, who: list[Need]
) -> None:
    plan = plan_of(content, *who)
    assert not plan.is_cut
    for each in who:
        for start, stop in content.missing(each.start, each.stop):
            assert asked(plan).covers(start, stop)


@settings(deadline=None)
@given(contents(), st.lists(needs(), max_size=4), st.integers(0, SIZE), st.booleans())
def test_no_more_arrives_than_there_is_room_for(
    content: Content, who: list[Need], room: int, with_copy: bool
) -> None:
    plan = plan_of(content, *who, room=room, with_copy=with_copy)
    assert plan.size <= room
    arriving = Spans()
    for wanted in plan.wanted:
        for start, stop in content.arriving(wanted.start, wanted.stop, arriving):
            arriving.add(start, stop)
    assert arriving.total == plan.size
    if plan.is_cut:
        # It is the beginning of what would be asked for with more room.
        whole = plan_of(content, *who, with_copy=with_copy)
        assert plan.wanted == whole.wanted[: len(plan.wanted)]


@settings(deadline=None)
@given(contents(), st.lists(needs(), min_size=1, max_size=4))
def test_what_readers_wait_for_comes_first(content: Content, who: list[Need]) -> None:
    plan = plan_of(content, *who)
    urgent = [wanted.priority is Priority.NOW for wanted in plan.wanted]
    assert urgent == sorted(urgent, reverse=True)
    awaited = {
        each.start
        for each in who
        if each.is_waiting
        and each.start < each.stop
        and content.missing(each.start, each.start + 1)
    }
    assert awaited <= {
        wanted.start for wanted in plan.wanted if wanted.priority is Priority.NOW
    }


@settings(deadline=None)
@given(contents(), st.lists(needs(), min_size=1, max_size=4))
def test_room_for_one_piece_each_is_enough_for_all_who_wait(
    content: Content, who: list[Need]
) -> None:
    waiting = [each for each in who if each.is_waiting and each.start < each.stop]
    # A piece without a torrent is as long as what is asked for of it.
    room = len(waiting) * content.piece_length
    wanted = asked(plan_of(content, *who, room=room))
    for each in waiting:
        if content.missing(each.start, each.start + 1):
            assert wanted.meets(each.start, each.start + 1)


def test_readers_take_turns_by_seconds_of_play() -> None:
    content = Content(SIZE, META)
    plan = plan_of(content, need(0, 3 * PIECE), need(20 * PIECE, 23 * PIECE))
    assert [wanted.start // PIECE for wanted in plan.wanted] == [0, 20, 1, 21, 2, 22]


def test_a_seek_is_asked_for_before_what_was_read_ahead() -> None:
    content = Content(SIZE, META)
    content.spans.add(0, 5 * PIECE)
    first, *rest = plan_of(content, need(30 * PIECE + 7, is_waiting=True)).wanted
    assert (first.start, first.stop) == (30 * PIECE + 7, 31 * PIECE)
    assert first.priority is Priority.NOW
    assert [each.start for each in rest] == [number * PIECE for number in range(31, 40)]


def test_an_offline_copy_goes_on_from_the_beginning_and_behind_readers() -> None:
    content = Content(SIZE, META)
    content.spans.add(0, 2 * PIECE)
    plan = plan_of(content, with_copy=True)
    assert [each.start for each in plan.wanted] == [
        number * PIECE for number in range(2, 40)
    ]
    assert plan.size == SIZE - 2 * PIECE < planner.COPY_WINDOW
    plan = plan_of(content, need(30 * PIECE, 31 * PIECE), with_copy=True)
    assert plan.wanted[0].start == 30 * PIECE
    assert plan.wanted[1].start == 2 * PIECE
