"""Conditional requests: the order of RFC 9110 section 13.2.2, and how tags and dates compare."""

from __future__ import annotations

from email.utils import formatdate
from itertools import product

from hypothesis import given, strategies as st
import pytest

from custom_components.pemus.stream.conditions import (
    Validators,
    Verdict,
    evaluate,
    range_applies,
)

TAG = '"1-2-3"'
CHANGED = 1_700_000_000
NOW = CHANGED + 3600
FILE = Validators.of(TAG, CHANGED * 1_000_000_000 + 123_456_789, NOW)

BEFORE = formatdate(CHANGED - 1, usegmt=True)
EXACT = formatdate(CHANGED, usegmt=True)
AFTER = formatdate(CHANGED + 1, usegmt=True)
OBSOLETE = ("Tuesday, 14-Nov-23 22:13:20 GMT", "Tue Nov 14 22:13:20 2023")
NONSENSE = (
    "",
    "yesterday",
    "0",
    "-1",
    "Tue, 14 Nov 2023 22:13:20 CET",
    "Tue, 31 Feb 2023 22:13:20 GMT",
    "x" * 10**6,
)


@pytest.mark.parametrize(
    "field",
    [TAG, "*", f'"other", {TAG}', f'{TAG},"other"', f" {TAG} ", f'"a,b", {TAG}'],
)
def test_if_match_holds_for_this_tag(field: str) -> None:
    assert evaluate({"If-Match": field}, FILE) is Verdict.PROCEED


@pytest.mark.parametrize(
    "field",
    ['"other"', f"W/{TAG}", "", "1-2-3", "nonsense", f'W/{TAG}, "x"', '"' * 10_000],
)
def test_if_match_fails_for_others_and_for_weak_tags(field: str) -> None:
    assert evaluate({"If-Match": field}, FILE) is Verdict.FAILED


@pytest.mark.parametrize("field", [TAG, f"W/{TAG}", "*", f'"other", W/{TAG}'])
def test_if_none_match_compares_weakly(field: str) -> None:
    assert evaluate({"If-None-Match": field}, FILE) is Verdict.NOT_MODIFIED


@pytest.mark.parametrize("field", ['"other"', "", "nonsense", "1-2-3"])
def test_if_none_match_proceeds_for_others(field: str) -> None:
    assert evaluate({"If-None-Match": field}, FILE) is Verdict.PROCEED


@pytest.mark.parametrize(
    ("date", "verdict"),
    [
        (BEFORE, Verdict.PROCEED),
        (EXACT, Verdict.NOT_MODIFIED),
        (AFTER, Verdict.NOT_MODIFIED),
    ],
)
def test_if_modified_since(date: str, verdict: Verdict) -> None:
    assert evaluate({"If-Modified-Since": date}, FILE) is verdict


@pytest.mark.parametrize(
    ("date", "verdict"),
    [(BEFORE, Verdict.FAILED), (EXACT, Verdict.PROCEED), (AFTER, Verdict.PROCEED)],
)
def test_if_unmodified_since(date: str, verdict: Verdict) -> None:
    assert evaluate({"If-Unmodified-Since": date}, FILE) is verdict


@pytest.mark.parametrize("date", OBSOLETE)
def test_the_obsolete_formats_of_dates_are_understood(date: str) -> None:
    assert evaluate({"If-Modified-Since": date}, FILE) is Verdict.NOT_MODIFIED
    assert range_applies(date, FILE)


@pytest.mark.parametrize("date", NONSENSE, ids=lambda date: date[:20])
def test_dates_that_make_no_sense_are_ignored(date: str) -> None:
    assert (
        evaluate({"If-Modified-Since": date, "If-Unmodified-Since": date}, FILE)
        is Verdict.PROCEED
    )
    assert not range_applies(date, FILE)


def test_every_combination_is_evaluated_in_the_order_of_the_rfc() -> None:
    tags, dates = (None, TAG, '"other"'), (None, BEFORE, EXACT)
    for match, unmodified, none_match, modified in product(tags, dates, tags, dates):
        fields = {
            "If-Match": match,
            "If-Unmodified-Since": unmodified,
            "If-None-Match": none_match,
            "If-Modified-Since": modified,
        }
        headers = {name: value for name, value in fields.items() if value is not None}
        if match == '"other"' or (match is None and unmodified == BEFORE):
            expected = Verdict.FAILED
        elif none_match == TAG or (none_match is None and modified == EXACT):
            expected = Verdict.NOT_MODIFIED
        else:
            expected = Verdict.PROCEED
        assert evaluate(headers, FILE) is expected, headers


def test_a_range_applies_only_to_exactly_this_version() -> None:
    assert range_applies(None, FILE)
    assert range_applies(TAG, FILE)
    assert range_applies(EXACT, FILE)
    for other in (f"W/{TAG}", '"other"', f"{TAG}, {TAG}", "*", BEFORE, AFTER, '"', ""):
        assert not range_applies(other, FILE), other


@pytest.mark.parametrize("age", [0.0, 0.2, 0.8])
def test_a_date_counts_for_nothing_while_its_second_lasts(age: float) -> None:
    """A file that was changed a moment ago may change again in the same second: two versions, one date."""
    young = Validators.of(TAG, CHANGED * 1_000_000_000, CHANGED + age)
    assert young.last_modified is None
    assert not range_applies(EXACT, young)
    assert evaluate({"If-Modified-Since": EXACT}, young) is Verdict.PROCEED
    assert range_applies(TAG, young)


def test_a_date_is_sent_once_its_second_has_passed() -> None:
    assert (
        Validators.of(
            TAG, CHANGED * 1_000_000_000 + 999_999_999, CHANGED + 1
        ).last_modified
        == EXACT
    )


@pytest.mark.parametrize("mtime", [NOW + 86_400, NOW + 10**9, -1, -(10**12)])
def test_a_file_from_the_future_or_from_before_the_epoch_has_no_date(
    mtime: int,
) -> None:
    odd = Validators.of(TAG, mtime * 1_000_000_000, NOW)
    assert odd.last_modified is None
    assert evaluate({"If-Modified-Since": AFTER}, odd) is Verdict.PROCEED


@given(field=st.text(max_size=80))
def test_no_header_whatsoever_does_harm(field: str) -> None:
    for name in (
        "If-Match",
        "If-None-Match",
        "If-Modified-Since",
        "If-Unmodified-Since",
    ):
        evaluate({name: field}, FILE)
    assert range_applies(field, FILE) is (field.strip(" \t") in {TAG, EXACT, *OBSOLETE})
