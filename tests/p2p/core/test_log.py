"""Every line of the log is one JSON object of bounded length, whatever is logged."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
import io
import json
import logging
import sys
import warnings

from hypothesis import given, settings, strategies as st
import pytest

from p2p.core import log


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_restored() -> Generator[None]:
    """Undo what `configure` does to the whole process."""
    root, engine = logging.getLogger(), logging.getLogger("p2p")
    before = root.handlers[:], root.level, engine.level, sys.excepthook
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    engine.setLevel(before[2])
    sys.excepthook = before[3]
    logging.captureWarnings(False)
    logging.raiseExceptions = True


def said(stream: io.StringIO) -> list[dict[str, str]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def formatted(message: str, **options: object) -> dict[str, str]:
    record = logging.makeLogRecord(
        {"name": "p2p.library", "levelname": "INFO", "msg": message} | options
    )
    line = log.JsonFormatter().format(record)
    # Lines are told apart as bytes; to those, a line separator of Unicode is a character like others.
    assert len(line.encode()) < log.MAX_LINE
    assert len(line.encode().splitlines()) == 1
    parsed = json.loads(line)
    assert isinstance(parsed, dict)
    return parsed


def test_a_line_says_level_logger_and_message() -> None:
    stream = io.StringIO()
    log.configure("info", stream)
    logging.getLogger("p2p.library.scan").info("%d files in %s", 3, "Ärger")
    assert said(stream) == [
        {"level": "INFO", "logger": "p2p.library.scan", "message": "3 files in Ärger"}
    ]


def test_the_level_is_for_the_engine_and_libraries_speak_from_warning_on() -> None:
    stream = io.StringIO()
    log.configure("debug", stream)
    logging.getLogger("p2p.library").debug("told")
    logging.getLogger("sqlalchemy").info("not told")
    logging.getLogger("sqlalchemy").warning("told")
    assert [line["message"] for line in said(stream)] == ["told", "told"]


@pytest.mark.parametrize(
    "text",
    [
        "two\nlines",
        "\r\x0b\x0c\x1c\x85\u2028\u2029",
        "\x1b[31m red",
        "\0",
        "\udcff.mp4",
        '"}\\',
    ],
)
def test_odd_characters_stay_inside_one_line(text: str) -> None:
    message = formatted("%s", args=(text,))["message"]
    assert message == text.replace("\udcff", "\\udcff")


@settings(deadline=None)
@given(st.text(max_size=200), st.integers(min_value=1, max_value=200))
def test_any_text_of_any_length_fits(text: str, times: int) -> None:
    message = formatted("%s", args=(text * times,))["message"]
    clean = (text * times).encode("utf-8", "backslashreplace").decode()
    assert message == clean or " [...] " in message


def test_escapes_are_counted() -> None:
    assert " [...] " in formatted("\0" * log.MAX_LINE)["message"]


def test_a_traceback_keeps_its_end() -> None:
    try:
        raise ValueError("x" * 20_000 + " the end")
    except ValueError:
        line = formatted("it failed", exc_info=sys.exc_info())
    assert line["message"] == "it failed"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith(" the end")


def test_arguments_that_do_not_fit_are_logged_all_the_same() -> None:
    assert formatted("%d files", args=("many",))["message"] == "%d files ('many',)"


def test_warnings_become_lines() -> None:
    stream = io.StringIO()
    log.configure("info", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("this is old", DeprecationWarning, stacklevel=1)
    [line] = said(stream)
    assert (line["level"], line["logger"]) == ("WARNING", "py.warnings")
    assert "this is old" in line["message"]


async def test_what_nobody_waits_for_is_logged() -> None:
    stream = io.StringIO()
    log.configure("info", stream)
    loop = asyncio.get_running_loop()
    log.watch_loop(loop)
    loop.call_soon(lambda: 1 // 0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    loop.set_exception_handler(None)
    [line] = said(stream)
    assert line["level"] == "ERROR"
    assert "ZeroDivisionError" in line["exception"]


def test_what_nobody_catches_is_logged() -> None:
    stream = io.StringIO()
    log.configure("info", stream)
    error = RuntimeError("gone wrong")
    sys.excepthook(RuntimeError, error, None)
    [line] = said(stream)
    assert line["level"] == "CRITICAL"
    assert "gone wrong" in line["exception"]


def test_a_log_that_cannot_be_written_raises_nothing() -> None:
    stream = io.StringIO()
    log.configure("info", stream)
    stream.close()
    logging.getLogger("p2p").warning("nobody hears this")


def test_on_a_terminal_the_lines_are_for_people() -> None:
    stream = Terminal()
    log.configure("info", stream)
    logging.getLogger("p2p.library").info("red: \x1b[31m")
    [line] = stream.getvalue().splitlines()
    assert line.endswith("INFO    p2p.library: red: �[31m")
