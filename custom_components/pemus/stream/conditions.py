"""Conditional requests (RFC 9110 section 13), as pure functions.

A file has two validators: a strong entity tag, and the time of its last change. That time has a resolution of one
second, so it identifies a version only after that second has passed. Until then no Last-Modified is sent, so that no
client gets a date that two versions share. This makes the date strong enough for If-Range (8.8.2.2).
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
"""The current format, and the two obsolete ones that recipients must accept (5.6.7)."""
_LONGEST_DATE = 40


class Verdict(Enum):
    """The result of evaluating a request's conditions."""

    PROCEED = auto()
    NOT_MODIFIED = auto()
    """304: the client already has this version."""
    FAILED = auto()
    """412: this is not the version that the client requires."""


@dataclass(frozen=True, slots=True)
class Validators:
    """The validators of one version of a file."""

    etag: str
    """The strong entity tag, with quotes."""
    changed: int
    """The time of the last change, in whole seconds since the Unix epoch."""
    dated: bool
    """Whether `changed` identifies the version, because that second has passed."""

    @classmethod
    def of(cls, etag: str, mtime_ns: int, now: float) -> Self:
        """Return the validators at the time `now` (Unix time) of a file with the modification time `mtime_ns`."""
        changed = mtime_ns // 1_000_000_000
        return cls(etag, changed, dated=changed >= 0 and changed + 1 <= now)

    @property
    def last_modified(self) -> str | None:
        """The value of Last-Modified, or None if the time does not identify the version."""
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
    """Return whether the Range header applies: there is no If-Range, or it identifies this version (13.1.5).

    Only the exact strong tag or the exact date of this version match. Otherwise the client gets the whole file, so that
    it never combines parts of two versions.
    """
    if if_range is None:
        return True
    if_range = if_range.strip(" \t")
    if '"' in if_range:
        return if_range == validators.etag
    return validators.dated and _date(if_range) == validators.changed


def _listed(field: str, etag: str, *, weak: bool) -> bool:
    """Return whether the tag is listed in If-Match (strong comparison) or If-None-Match (weak comparison)."""
    if field.strip(" \t") == "*":
        return True
    return any(
        match["opaque"] == etag and (weak or not match["weak"])
        for match in _ENTITY_TAG.finditer(field)
    )


def _date(field: str | None) -> int | None:
    """Return an HTTP-date as seconds since the Unix epoch, or None if it is missing or invalid."""
    if field is None or len(field) > _LONGEST_DATE:
        return None
    for date_format in _DATE_FORMATS:
        with suppress(ValueError):
            moment = datetime.strptime(field.strip(" \t"), date_format).replace(
                tzinfo=UTC
            )
            return int(moment.timestamp())
    return None
