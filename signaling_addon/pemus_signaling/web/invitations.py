"""The page behind an invitation link: it tells who opened one what to do with it.

A link is `{path}invite#ID`. What stands behind `#` stays in the browser, so the server learns neither who invites nor
whom; and the page has no script, so it needs the ID as little. Home Assistant takes the whole link where it asks for a
friend's ID.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from string import Template
from typing import Final

from aiohttp import hdrs, web

_INTEGRATION: Final = "integrations/integration?domain=pemus"
APP: Final = f"homeassistant://navigate/config/{_INTEGRATION}"
"""Opens the companion app at the integration."""
BROWSER: Final = "https://my.home-assistant.io/redirect/integration/?domain=pemus"
"""Opens the Home Assistant that a browser remembers."""

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #f3f5f8; --card: #fff; --accent: #0277bd; --on-accent: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --paper: #12161c; --card: #1d232c; --accent: #4fb3f0; --on-accent: #06202f; }
}
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.5rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; }
main { max-width: 32rem; padding: 2rem; border-radius: 1rem; background: var(--card);
  box-shadow: 0 .5rem 2rem rgb(0 0 0 / .12); }
h1 { margin: 0 0 .5rem; font-size: 1.5rem; line-height: 1.25; }
ol { margin: 1.25rem 0; padding-left: 1.4rem; }
li { margin: .5rem 0; }
a { color: var(--accent); }
.button { display: block; margin: .75rem 0; padding: .75rem 1rem; border-radius: .6rem; border: 2px solid var(--accent);
  text-align: center; text-decoration: none; font-weight: 600; }
.first { background: var(--accent); color: var(--on-accent); }
small { display: block; margin-top: 1.25rem; opacity: .75; }
code { overflow-wrap: anywhere; }
"""
_PAGE: Final = Template("""<!doctype html>
<html lang="$language">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
<h1>$title</h1>
<p>$what</p>
<ol>
<li>$copy</li>
<li>$open</li>
<li>$paste</li>
</ol>
<a class="button first" href="$app">$in_app</a>
<a class="button" href="$browser">$in_browser</a>
<small>$server</small>
</main>
</body>
</html>
""")
_TEXTS: Final = {
    "en": {
        "title": "You are invited to become friends",
        "what": "Someone would like to share films, music or photos with you, from one Home Assistant to another.",
        "copy": "Copy the whole address of this page.",
        "open": "Open PeMuS in your Home Assistant: <em>Settings → Devices &amp; services → PeMuS</em>.",
        "paste": "Select <em>Add friend</em>, and paste the address into the field <em>PeMuS ID of your friend</em>.",
        "in_app": "Open PeMuS in the Home Assistant app",
        "in_browser": "Open PeMuS in the browser",
        "server": "Both of you need this signalling server, unless you are in one network: add the part of the address before"
        " <code>invite</code> to the <em>Signalling servers</em> in the options of PeMuS. It connects your homes, and never sees"
        " what you share.",
    },
    "de": {
        "title": "Du bist zur Freundschaft eingeladen",
        "what": "Jemand möchte Filme, Musik oder Fotos mit dir teilen, von einem Home Assistant zum anderen.",
        "copy": "Kopiere die ganze Adresse dieser Seite.",
        "open": "Öffne PeMuS in deinem Home Assistant: <em>Einstellungen → Geräte &amp; Dienste → PeMuS</em>.",
        "paste": "Wähle <em>Freund hinzufügen</em>, und füge die Adresse in das Feld <em>PeMuS-ID deines Freundes</em> ein.",
        "in_app": "PeMuS in der Home-Assistant-App öffnen",
        "in_browser": "PeMuS im Browser öffnen",
        "server": "Ihr braucht beide diesen Signalisierungsserver, es sei denn, ihr seid in einem Netz: Füge den Teil der Adresse"
        " vor <code>invite</code> in den Optionen von PeMuS zu den <em>Signalisierungsservern</em> hinzu. Er verbindet eure Zuhause"
        " und sieht nie, was ihr teilt.",
    },
}
_FALLBACK: Final = "en"


def _page(language: str) -> bytes:
    return _PAGE.substitute(
        _TEXTS[language],
        language=language,
        style=_STYLE,
        app=APP,
        browser=BROWSER,
    ).encode()


_PAGES: Final = {language: _page(language) for language in _TEXTS}
_STYLE_HASH: Final = b64encode(sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    hdrs.VARY: hdrs.ACCEPT_LANGUAGE,
    hdrs.CACHE_CONTROL: "max-age=3600",
    # Nothing but its own style: neither scripts nor anybody else's pages around it.
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def routes(prefix: str) -> list[web.RouteDef]:
    """Return what is to be served below a path."""
    return [web.get(f"{prefix}invite", _answer)]


async def _answer(request: web.Request) -> web.Response:
    language = preferred(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))
    return web.Response(
        body=_PAGES[language],
        content_type="text/html",
        charset="utf-8",
        headers=_HEADERS | {hdrs.CONTENT_LANGUAGE: language},
    )


def preferred(accepted: str) -> str:
    """Return the first language of an `Accept-Language` (RFC 9110 section 12.5.4) that there are texts in.

    Browsers send them in the order of preference, so their weights need not be compared.
    """
    for each in accepted.split(","):
        language = each.partition(";")[0].strip().lower().partition("-")[0]
        if language in _TEXTS:
            return language
    return _FALLBACK
