"""The page behind an invitation link: what it says, in whose language, and what it may not do."""

from __future__ import annotations

import aiohttp
import pytest

from pemus_signaling.web.invitations import APP, BROWSER, preferred
from tests.signaling.server import http, running


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr,de;q=0.5,en;q=0.3", "de"),
        ("en-GB,de;q=0.5", "en"),
        ("fr", "en"),
        ("*", "en"),
        (" DE ", "de"),
        ("d" * 5000, "en"),
        (",;,=,\u00e4", "en"),
    ],
)
def test_the_language_is_the_first_that_there_are_texts_in(
    accepted: str, language: str
) -> None:
    assert preferred(accepted) == language


@pytest.mark.parametrize("path", ["/", "/signals/"])
@pytest.mark.parametrize(
    ("language", "title"), [("en", "You are invited"), ("de", "Du bist")]
)
async def test_the_page_says_what_to_do(path: str, language: str, title: str) -> None:
    async with (
        running(path=path) as server,
        aiohttp.ClientSession(headers={"Accept-Language": language}) as session,
        session.get(http(server, f"{path}invite")) as answer,
    ):
        assert answer.status == 200
        assert answer.content_type == "text/html"
        assert answer.headers["Content-Language"] == language
        assert answer.headers["Vary"] == "Accept-Language"
        page = await answer.text()
    assert title in page
    assert f'lang="{language}"' in page
    for link in (APP, BROWSER):
        assert f'href="{link}"' in page
    # The ID stays in the browser: there is nothing that could send it, or be run.
    assert "<script" not in page
    assert "<form" not in page


async def test_nothing_else_may_be_loaded_or_told() -> None:
    async with running() as server, aiohttp.ClientSession() as session:
        async with session.get(http(server, "/invite")) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; style-src 'sha256-")
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["Referrer-Policy"] == "no-referrer"
        async with session.post(http(server, "/invite")) as answer:
            assert answer.status == 405
