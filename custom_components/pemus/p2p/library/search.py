"""Finds items by words, and artists and albums by their names.

Every word has to be met, by a word that begins with it. What was found is not ranked by a formula that has to weigh all
matches against each other, which takes long where a single letter matches everything, but looked for in steps, from the
best to the least, and no further than needed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
import re
import sqlite3
import unicodedata

from ..core.errors import BadRequest
from ..models import Kind, Node, SearchQuery, SearchResult, ShareConfig
from .browse.address import parse
from .browse.music import album_nodes, artist_nodes
from .browse.scope import KindScope, Scope, View
from .items import load, records
from .migrations import NUMBERS
from .names import fold, phrases

MAX_LIMIT = 500
"""Items that one search returns at most."""
MAX_NODES = 20
"""Artists that one search returns at most, and albums."""
MAX_WORDS = 16
"""Words that are looked for; who types more has said enough."""

_BEGINNINGS = 200
"""Titles that begin as was typed, among which an exact one is looked for."""
_CANDIDATES = 200
"""Artists or albums that are looked at more closely."""
_COLUMNS = (
    "title",
    "{title people}",
    "{title people album}",
    "{title people album place}",
)
"""Where words are looked for, step by step."""

_WORD = re.compile(r"[^\W_]+")


def search(
    db: sqlite3.Connection,
    query: SearchQuery,
    shares: Sequence[ShareConfig],
    available: Collection[str],
) -> SearchResult:
    """Return what is found, the best first. `shares` and `available` are those of `browse.listing`.

    The place to search below is narrowed to its share and its kind of media, not to a single folder, artist or album.

    Raises:
        BadRequest: the limit is out of bounds, or the place to search below is none.
        NotFound: that place is no more.

    """
    if not 1 <= query.limit <= MAX_LIMIT:
        raise BadRequest(f"the limit of a search is 1 to {MAX_LIMIT}")
    view = View.of(db, shares, available)
    scope, kinds = view.around(parse(query.below).segments)
    kinds = tuple(kind for kind in kinds if kind in query.kinds)
    # Composed, as a name is one word then, which its accents would else divide.
    text = unicodedata.normalize("NFC", query.text)
    words = [word for word in phrases(text, MAX_WORDS) if _WORD.search(word)]
    if not words or not kinds:
        return SearchResult(items=(), nodes=())
    rows = _rows_of(view, scope, kinds, words, query)
    nodes: list[Node] = []
    if Kind.MUSIC in kinds:
        music = scope.of(Kind.MUSIC)
        nodes += artist_nodes(music, _keys(music, "artists", text))
        nodes += album_nodes(music, _keys(music, "albums", text))
    return SearchResult(items=tuple(load(db, rows, view.shares)), nodes=tuple(nodes))


def _rows_of(
    view: View,
    scope: Scope,
    kinds: tuple[Kind, ...],
    words: list[str],
    query: SearchQuery,
) -> list[int]:
    """Return the rows of the items that are found, the best first."""
    within = _within(view, scope, kinds)
    whole = " AND ".join(words)
    beginning = " AND ".join(f"{word} *" for word in words)
    *nearer, widest = (f"{columns} : ({beginning})" for columns in _COLUMNS)
    # The widest step first: it tells how many there are to be found, and the search is over as soon as it has them.
    everything = _rows(view.db, widest + within, query.limit)
    if not everything:
        return []
    begins = f"title : ^ {' + '.join(words)}"
    found = _titled(view, begins + within, query)
    for step in (f"title : ({whole})", f"{begins} *", *nearer):
        if len(found) >= len(everything):
            break
        found |= dict.fromkeys(_rows(view.db, step + within, query.limit))
    return list(found | dict.fromkeys(everything))[: query.limit]


def _titled(view: View, begins: str, query: SearchQuery) -> dict[int, None]:
    """Return the rows of the items whose titles begin with the text, those before all that are called just so."""
    rows = _rows(view.db, begins, max(query.limit, _BEGINNINGS))
    wanted = fold(query.text.strip())
    titles = records(view.db, rows)
    exact = (row for row in rows if row in titles and fold(titles[row].title) == wanted)
    return dict.fromkeys([*exact, *rows])


def _within(view: View, scope: Scope, kinds: tuple[Kind, ...]) -> str:
    """Return a further condition for the search index, by the tags that say an item's kind and share."""
    tags = []
    if len(kinds) < len(Kind):
        tags.append([f"k{NUMBERS[kind]}" for kind in kinds])
    numbers = scope.numbers
    if view.shares.others or len(numbers) < len(view.shares.ids):
        # No share has the number 0: where the index knows no share yet, nothing is found.
        tags.append([f"s{number}" for number in numbers or [0]])
    return "".join(f" AND tags : ({' OR '.join(each)})" for each in tags)


def _rows(db: sqlite3.Connection, expression: str, limit: int) -> list[int]:
    return [
        row
        for (row,) in db.execute(
            "SELECT rowid FROM words WHERE words MATCH ? LIMIT ?", (expression, limit)
        )
    ]


def _keys(scope: KindScope, table: str, text: str) -> list[str]:
    """Return the keys of artists or albums by their names: first those that begin with the text."""
    wanted = fold(text)
    words = _WORD.findall(wanted)[:MAX_WORDS]
    conditions, values = [], []
    for word in words:
        for letters, digits in re.findall(r"([^0-9]+)|([0-9]+)", word):
            # In what a name is sorted by, its numbers are written in another way.
            conditions.append(f" AND instr({'title' if digits else 'sort'}, ?)")
            values.append(digits or letters)
    found = scope.view.db.execute(
        f"""
        SELECT key, title FROM {table} WHERE {scope.within} AND title IS NOT NULL{"".join(conditions)}
        ORDER BY instr(sort, ?1) != 1, instr(' ' || sort, ' ' || ?1) = 0, sort, key LIMIT {_CANDIDATES}
        """,
        values,
    )
    patterns = [_beginning(word) for word in words]
    keys = (
        key
        for key, title in found
        if all(pattern.search(fold(title)) for pattern in patterns)
    )
    # The same one may be in several shares.
    return list(dict.fromkeys(keys))[:MAX_NODES]


def _beginning(word: str) -> re.Pattern[str]:
    """Return a pattern for where a word of a name begins with `word`. Scripts without spaces have no such places."""
    return re.compile(
        rf"(?<![^\W_]){re.escape(word)}" if word.isascii() else re.escape(word)
    )
