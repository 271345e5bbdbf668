"""The whole answer to a request, against a byte-level model of a file."""

from __future__ import annotations

from email.parser import BytesParser
from email.utils import formatdate
from http import HTTPStatus
import os
import re

from hypothesis import given, strategies as st
import pytest

from custom_components.pemus.p2p.models import LocalFile
from custom_components.pemus.stream.plan import Plan, make_plan

CONTENT = os.urandom(300)
CHANGED = 1_700_000_000
NOW = CHANGED + 100


def file(
    size: int = len(CONTENT), content_type: str = "video/mp4", name: str = "a.mp4"
) -> LocalFile:
    return LocalFile(
        path="/a",
        name=name,
        content_type=content_type,
        size=size,
        mtime_ns=CHANGED * 10**9,
        inode=1,
        device=1,
        etag='"tag"',
    )


def plan(
    request: dict[str, str] | None = None,
    method: str = "GET",
    of: LocalFile | None = None,
) -> Plan:
    return make_plan(
        method,
        request or {},
        of or file(),
        now=NOW,
        cache_control="private, no-cache",
        for_renderers=True,
    )


def body(planned: Plan, content: bytes = CONTENT) -> bytes:
    return b"".join(
        piece if isinstance(piece, bytes) else content[piece.start : piece.stop]
        for piece in planned.body
    )


def parts(headers: dict[str, str], raw: bytes) -> list[tuple[str, str, bytes]]:
    """Take a multipart/byteranges body apart as a client would."""
    message = BytesParser().parsebytes(
        f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + raw
    )
    boundary = message.get_boundary()
    assert message.get_content_type() == "multipart/byteranges"
    assert boundary is not None
    delimiter = b"--" + boundary.encode()
    assert raw.startswith(delimiter + b"\r\n") and raw.endswith(
        b"\r\n" + delimiter + b"--\r\n"
    )
    found = []
    for part in raw[len(delimiter) + 2 : -len(delimiter) - 6].split(
        b"\r\n" + delimiter + b"\r\n"
    ):
        head, _, data = part.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        found.append((lines["Content-Type"], lines["Content-Range"], data))
    return found


def test_the_whole_file_is_sent_with_all_that_describes_it() -> None:
    answer = plan()
    assert answer.status is HTTPStatus.OK
    assert body(answer) == CONTENT
    assert answer.headers == {
        "ETag": '"tag"',
        "Cache-Control": "private, no-cache",
        "Last-Modified": formatdate(CHANGED, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": "video/mp4",
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": 'inline; filename="a.mp4"',
        "Content-Length": "300",
    }


def test_head_is_answered_like_get_without_a_body_and_knows_no_ranges() -> None:
    head, get = plan({"Range": "bytes=0-1"}, "HEAD"), plan()
    assert (head.status, head.headers, head.body) == (get.status, get.headers, ())
    assert plan({"Range": "bytes=999-"}, "HEAD").status is HTTPStatus.OK


def test_a_part_says_where_it_lies() -> None:
    answer = plan({"Range": "bytes=10-19"})
    assert answer.status is HTTPStatus.PARTIAL_CONTENT
    assert answer.headers["Content-Range"] == "bytes 10-19/300"
    assert answer.headers["Content-Length"] == "10"
    assert body(answer) == CONTENT[10:20]


def test_several_parts_come_as_multipart() -> None:
    answer = plan({"Range": "bytes=200-209,0-4,-1"})
    assert answer.status is HTTPStatus.PARTIAL_CONTENT
    assert "Content-Range" not in answer.headers
    raw = body(answer)
    assert len(raw) == int(answer.headers["Content-Length"])
    assert parts(answer.headers, raw) == [
        ("video/mp4", "bytes 200-209/300", CONTENT[200:210]),
        ("video/mp4", "bytes 0-4/300", CONTENT[:5]),
        ("video/mp4", "bytes 299-299/300", CONTENT[299:]),
    ]


def test_boundaries_cannot_be_guessed() -> None:
    assert (
        len(
            {
                plan({"Range": "bytes=0-1,5-6"}).headers["Content-Type"]
                for _ in range(100)
            }
        )
        == 100
    )


def test_nothing_satisfiable_is_416_with_the_size() -> None:
    answer = plan({"Range": "bytes=300-"})
    assert answer.status is HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    assert answer.headers["Content-Range"] == "bytes */300"
    assert answer.headers["Content-Length"] == "0"
    assert "Content-Type" not in answer.headers


@pytest.mark.parametrize(
    ("request_range", "status"),
    [(None, 200), ("bytes=0-", 416), ("bytes=-1", 416), ("items=0-", 200)],
)
def test_an_empty_file_has_no_ranges(request_range: str | None, status: int) -> None:
    request = {} if request_range is None else {"Range": request_range}
    answer = plan(request, of=file(0))
    assert (answer.status, answer.body, answer.headers["Content-Length"]) == (
        status,
        (),
        "0",
    )
    if status == 416:
        assert answer.headers["Content-Range"] == "bytes */0"


def test_another_version_is_sent_whole() -> None:
    for if_range in (
        '"old"',
        'W/"tag"',
        formatdate(CHANGED + 1, usegmt=True),
        "nonsense",
    ):
        answer = plan({"Range": "bytes=10-19", "If-Range": if_range})
        assert (answer.status, body(answer)) == (HTTPStatus.OK, CONTENT), if_range
        # Even a range that cannot be satisfied does not matter then.
        assert (
            plan({"Range": "bytes=999-", "If-Range": if_range}).status is HTTPStatus.OK
        )


def test_the_same_version_is_resumed() -> None:
    for if_range in ('"tag"', formatdate(CHANGED, usegmt=True)):
        assert (
            plan({"Range": "bytes=10-19", "If-Range": if_range}).status
            is HTTPStatus.PARTIAL_CONTENT
        )


def test_conditions_come_before_ranges() -> None:
    assert (
        plan({"Range": "bytes=999-", "If-None-Match": '"tag"'}).status
        is HTTPStatus.NOT_MODIFIED
    )
    assert (
        plan({"Range": "bytes=999-", "If-Match": '"old"'}).status
        is HTTPStatus.PRECONDITION_FAILED
    )


def test_not_modified_says_which_version_it_is() -> None:
    answer = plan({"If-None-Match": '"tag"'})
    assert answer.headers == {
        "ETag": '"tag"',
        "Cache-Control": "private, no-cache",
        "Last-Modified": formatdate(CHANGED, usegmt=True),
    }
    assert answer.body == ()


@pytest.mark.parametrize(
    "content_type",
    ["image/svg+xml", "text/html", "application/pdf", "application/octet-stream"],
)
def test_what_could_run_a_script_is_downloaded_and_locked_in(content_type: str) -> None:
    answer = plan(of=file(content_type=content_type))
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_renderers_are_answered_also_in_parts() -> None:
    request = {
        "Range": "bytes=0-9",
        "transferMode.dlna.org": "Streaming",
        "getcontentFeatures.dlna.org": "1",
    }
    answer = plan(request)
    assert answer.status is HTTPStatus.PARTIAL_CONTENT
    assert answer.headers["transferMode.dlna.org"] == "Streaming"
    assert answer.headers["contentFeatures.dlna.org"].startswith("DLNA.ORG_OP=01;")
    assert (
        plan({"TimeSeekRange.dlna.org": "npt=1-"}).status is HTTPStatus.NOT_ACCEPTABLE
    )


@given(
    specs=st.lists(
        st.tuples(st.integers(0, 330), st.integers(0, 60)), min_size=1, max_size=25
    ),
    size=st.integers(0, len(CONTENT)),
)
def test_a_client_can_put_together_what_it_asked_for(
    specs: list[tuple[int, int]], size: int
) -> None:
    content = CONTENT[:size]
    request = {
        "Range": "bytes="
        + ",".join(f"{start}-{start + length}" for start, length in specs)
    }
    wanted = {
        position
        for start, length in specs
        for position in range(start, min(start + length + 1, size))
    }
    answer = plan(request, of=file(size))
    raw = body(answer, content)
    assert len(raw) == int(answer.headers["Content-Length"])
    if answer.status is HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        assert not wanted and not raw
        return
    if answer.status is HTTPStatus.OK:
        assert raw == content
        return
    received: dict[int, int] = {}
    if "Content-Range" in answer.headers:
        pieces = [("", answer.headers["Content-Range"], raw)]
    else:
        pieces = parts(answer.headers, raw)
        assert 2 <= len(pieces) <= 16
    for _, content_range, data in pieces:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", content_range)
        assert match is not None
        start, last, total = map(int, match.groups())
        assert total == size and len(data) == last - start + 1
        received |= {start + index: byte for index, byte in enumerate(data)}
    assert received == {position: content[position] for position in wanted}
