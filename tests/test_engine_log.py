"""What the engine writes becomes a line of Home Assistant's log, whatever it is."""

import asyncio
import logging

import orjson
import pytest

from custom_components.pemus.engine.log import KEPT_LINES, MAX_LINE, EngineLog

NAME = "custom_components.pemus.p2p"


def line(**said: object) -> bytes:
    return orjson.dumps(said) + b"\n"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            line(level="INFO", logger="p2p", message="ready"),
            (NAME, logging.INFO, "ready"),
        ),
        (
            line(level="DEBUG", logger="p2p.library.scan", message="x"),
            (f"{NAME}.library.scan", logging.DEBUG, "x"),
        ),
        (
            line(level="ERROR", logger="asyncio", message="100 % %s"),
            (f"{NAME}.asyncio", logging.ERROR, "100 % %s"),
        ),
        (
            line(
                level="ERROR",
                logger="p2p",
                message="it failed",
                exception="Traceback\n  x",
            ),
            (NAME, logging.ERROR, "it failed\nTraceback\n  x"),
        ),
        # What is not as expected is still told, and loudly enough to be seen.
        (
            b"Fatal Python error: Segmentation fault\n",
            (NAME, logging.WARNING, "Fatal Python error: Segmentation fault"),
        ),
        (b"[1, 2]\n", (NAME, logging.WARNING, "[1, 2]")),
        (b'{"message": 5}\n', (NAME, logging.WARNING, "5")),
        (line(level="LOUD", logger=7, message="x"), (NAME, logging.WARNING, "x")),
        (
            b"\xff\xfe half a character\n",
            (NAME, logging.WARNING, "\ufffd\ufffd half a character"),
        ),
        (b"{" * 1000 + b"\n", (NAME, logging.WARNING, "{" * 1000)),
    ],
)
def test_a_line_keeps_its_logger_and_level(
    caplog: pytest.LogCaptureFixture, written: bytes, expected: tuple[str, int, str]
) -> None:
    log = EngineLog()
    log.add(written)
    assert caplog.record_tuples == [expected]
    assert log.last == expected[2]


def test_empty_lines_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    log = EngineLog()
    log.add(b"\n")
    log.add(b"  \r\n")
    assert caplog.record_tuples == []
    assert log.last == ""


def test_only_the_last_lines_are_kept() -> None:
    log = EngineLog()
    for number in range(KEPT_LINES + 5):
        log.add(b"%d\n" % number)
    assert log.lines[0] == "5"
    assert len(log.lines) == KEPT_LINES


async def test_a_line_without_end_does_not_stop_the_log() -> None:
    stream = asyncio.StreamReader(limit=MAX_LINE)
    stream.feed_data(b"first\n")
    log = EngineLog()
    following = asyncio.create_task(log.follow(stream))
    await asyncio.sleep(0)
    for _ in range(4):
        stream.feed_data(b"x" * MAX_LINE)
        await asyncio.sleep(0)
    stream.feed_data(b"\nlast\nhalf a line")
    stream.feed_eof()
    await following
    assert (log.lines[0], log.lines[-2:]) == ("first", ("last", "half a line"))
