"""Whether a request's conditions hold (RFC 9110 section 13), as pure functions.

A file has two validators: its entity tag, which is strong, and the time of its last change. That time counts whole
seconds, so it only identifies a version when that second has passed: while it has not, `Validators` has no date, none is
sent, and no client can come back with a date that two versions share. This is what makes a date strong enough for
If-Range (8.8.2.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from enum import Enum, auto
import re
from typing import Self

_ENTITY_TAG = re.compile(r'(?P<weak>W/)?(?P<opaque>"[\x21\x23-\x7e\x80-\U0010ffff]*")')
_DATE_FORMATS = (
    "%a, %d %b %Y %H:%M:%S GMT",
    "%A, %d-%b-%y %H:%M:%S GMT",
    "%a %b %d %H:%M:%S %Y",
)
"""The one format to send and the two obsolete ones that must be understood (5.6.7)."""
_LONGEST_DATE = 40


class Verdict(Enum):
    """What the conditions of a request lead to."""

    PROCEED = auto()
    NOT_MODIFIED = auto()
    """304: the client has this version."""
    FAILED = auto()
    """412: this is not the version that the client insists on."""


@dataclass(frozen=True, slots=True)
class Validators:
    """What tells one version of a file from another."""

    etag: str
    """Strong entity tag, with its quotes."""
    changed: int
    """Whole seconds since the Unix epoch."""
    dated: bool
    """Whether `changed` identifies the version, because that second has passed."""

    @classmethod
    def of(cls, etag: str, mtime_ns: int, now: float) -> Self:
        """Describe a file that was last changed at `mtime_ns`, as seen at the time `now`."""
        changed = mtime_ns // 1_000_000_000
        return cls(etag, changed, dated=changed >= 0 and changed + 1 <= now)

    @property
    def last_modified(self) -> str | None:
        """The value of Last-Modified; None when it would not be safe to send one."""
        return formatdate(self.changed, usegmt=True) if self.dated else None


def evaluate(headers: Mapping[str, str], validators: Validators) -> Verdict:
    """Evaluate the preconditions of a GET or HEAD request in the order of section 13.2.2."""
    if (if_match := headers.get("If-Match")) is not None:
        if not _listed(if_match, validators.etag, weak=False):
            return Verdict.FAILED
    elif (
        since := _date(headers.get("If-Unmodified-Since"))
    ) is not None and validators.changed > since:
        return Verdict.FAILED

    if (if_none_match := headers.get("If-None-Match")) is not None:
        if _listed(if_none_match, validators.etag, weak=True):
            return Verdict.NOT_MODIFIED
    elif (
        (since := _date(headers.get("If-Modified-Since"))) is not None
        and validators.dated
        and validators.changed <= since
    ):
        return Verdict.NOT_MODIFIED
    return Verdict.PROCEED


def range_applies(if_range: str | None, validators: Validators) -> bool:
    """Tell whether a Range header counts: without an If-Range, or when that names this very version (13.1.5).

    Anything that is not exactly this version's strong tag or its exact date means no: the client then gets the whole
    file, rather than the end of another version than the one whose beginning it has.
    """
    if if_range is None:
        return True
    if_range = if_range.strip(" \t")
    if '"' in if_range:
        return if_range == validators.etag
    return validators.dated and _date(if_range) == validators.changed


def _listed(field: str, etag: str, *, weak: bool) -> bool:
    """Tell whether the tag is in the list of If-Match (strong comparison) or If-None-Match (weak comparison)."""
    if field.strip(" \t") == "*":
        return True
    return any(
        match["opaque"] == etag and (weak or not match["weak"])
        for match in _ENTITY_TAG.finditer(field)
    )


def _date(field: str | None) -> int | None:
    """Return the seconds since the epoch that an HTTP-date stands for; None when there is none that makes sense."""
    if field is None or len(field) > _LONGEST_DATE:
        return None
    for date_format in _DATE_FORMATS:
        with suppress(ValueError):
            moment = datetime.strptime(field.strip(" \t"), date_format).replace(
                tzinfo=UTC
            )
            return int(moment.timestamp())
    return None
