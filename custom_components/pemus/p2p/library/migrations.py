"""The index's schema, as the steps that lead to it.

The steps are never changed, only added to: `PRAGMA user_version` says how many of them a database has seen. Everything
that derives from files can be made again, but the ids cannot, so a database is carried along and never simply dropped.

Kinds are numbers in here (see `KINDS`). A folder's path is written from the share's root, "/" between names, "" for the
root itself. Times are seconds since the epoch, sizes bytes.
"""

from __future__ import annotations

from typing import Final

from ..models import Kind

KINDS: Final = (Kind.VIDEO, Kind.MUSIC, Kind.PHOTO)
"""Kind by its number in the database."""
NUMBERS: Final = {kind: number for number, kind in enumerate(KINDS)}
VIDEO, MUSIC, PHOTO = range(3)

FACTS, PICTURE = range(1, 3)
"""Values of `items.todo`, the next step for an item that is in the search index: read it, make its picture. NULL when all
is done."""

_TOLD: Final = ", ".join(
    f"{{row}}.{column}"
    for column in (
        "nonce", "share", "folder", "name", "shown", "size", "mtime_ns", "inode", "added", "facts", "month", "moment",
        "artist_key", "artist_name", "album_key", "album_name", "album_by", "album_position",
    )
) + (
    ", {row}.picture IS NOT 0 AND "
    f"coalesce({{row}}.has_picture, coalesce({{row}}.content_kind, {{row}}.kind) != {MUSIC})"
)  # fmt: skip
"""What friends are told of an item."""

STEPS: Final = (
    """
    CREATE TABLE state (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO state VALUES ('revision', 1);

    CREATE TABLE shares (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        path TEXT NOT NULL,
        kinds INTEGER NOT NULL, -- bit 1 << kind
        device INTEGER, -- of the root when it was last seen, as is its inode
        inode INTEGER,
        scanned REAL, -- when the last complete scan ended
        worded INTEGER NOT NULL DEFAULT 0 -- items up to this row are in the search index, and those behind it are not
    );

    CREATE TABLE folders (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        share INTEGER NOT NULL,
        parent INTEGER,
        name TEXT NOT NULL,
        path TEXT NOT NULL,
        sort TEXT NOT NULL,
        device INTEGER,
        inode INTEGER,
        sidecars TEXT NOT NULL DEFAULT '', -- signature of its subtitle files
        listing BLOB, -- signature of its media files; if set, the items that are not gone are these files
        gone INTEGER NOT NULL DEFAULT 0
    );
    CREATE UNIQUE INDEX folders_by_path ON folders (share, path);
    CREATE INDEX folders_by_parent ON folders (parent, sort);

    CREATE TABLE items (
        row INTEGER PRIMARY KEY,
        folder INTEGER NOT NULL,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        gone REAL, -- since when the file is missing; it is forgotten when a later complete scan does not find it either
        share INTEGER NOT NULL,
        kind INTEGER NOT NULL, -- what the name says
        content_kind INTEGER, -- what the content says
        shown INTEGER, -- the kind under which the item is listed; NULL hides it
        nonce BLOB NOT NULL, -- the random part of its id
        added REAL NOT NULL,
        todo INTEGER,
        name_sort TEXT NOT NULL,
        title_sort TEXT, -- of music
        month INTEGER, -- of photos: year * 100 + month, 0 if unknown
        moment REAL, -- of photos: when in local time
        level TEXT, -- how well it was read; NULL if it was not
        has_picture INTEGER, -- what reading it said
        picture INTEGER, -- what making it showed
        facts TEXT, -- MediaFacts as JSON, without what is not known
        artist_key TEXT, -- NULL until the song was read and grouped, as is what follows
        artist_name TEXT,
        album_key TEXT,
        album_name TEXT,
        album_by TEXT,
        album_position INTEGER
    );
    CREATE INDEX items_by_folder ON items (folder, shown, name_sort);
    CREATE INDEX items_todo ON items (todo, share) WHERE todo IS NOT NULL;
    CREATE INDEX items_gone ON items (share, inode) WHERE gone IS NOT NULL;
    CREATE INDEX items_recent ON items (added, share) WHERE shown = 0;
    CREATE INDEX items_songs ON items (title_sort, share) WHERE shown = 1 AND title_sort IS NOT NULL;
    CREATE INDEX items_months ON items (month, moment, share) WHERE shown = 2 AND month IS NOT NULL;
    CREATE INDEX items_by_artist ON items (artist_key, album_key, title_sort, share)
        WHERE shown = 1 AND artist_key IS NOT NULL;
    CREATE INDEX items_by_album ON items (album_key, album_position, title_sort, share)
        WHERE shown = 1 AND album_key IS NOT NULL;
    CREATE INDEX items_ungrouped ON items (folder)
        WHERE shown = 1 AND artist_key IS NULL AND level IS NOT NULL;

    CREATE TABLE subtitles (
        item INTEGER NOT NULL,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        language TEXT,
        PRIMARY KEY (item, position)
    ) WITHOUT ROWID;

    -- What lies in a folder and all folders below it.
    CREATE TABLE folder_kinds (
        folder INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        count INTEGER NOT NULL,
        size INTEGER NOT NULL,
        cover INTEGER,
        PRIMARY KEY (folder, kind)
    ) WITHOUT ROWID;

    CREATE TABLE months (
        share INTEGER NOT NULL,
        month INTEGER NOT NULL,
        count INTEGER NOT NULL,
        cover INTEGER,
        PRIMARY KEY (share, month)
    ) WITHOUT ROWID;

    CREATE TABLE artists (
        key TEXT NOT NULL,
        share INTEGER NOT NULL,
        title TEXT,
        sort TEXT NOT NULL,
        count INTEGER NOT NULL,
        cover INTEGER,
        PRIMARY KEY (key, share)
    ) WITHOUT ROWID;

    CREATE TABLE albums (
        key TEXT NOT NULL,
        share INTEGER NOT NULL,
        title TEXT,
        artist TEXT,
        sort TEXT NOT NULL,
        count INTEGER NOT NULL,
        cover INTEGER,
        PRIMARY KEY (key, share)
    ) WITHOUT ROWID;

    -- Artists and albums that have to be counted again.
    CREATE TABLE stale_artists (key TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE stale_albums (key TEXT PRIMARY KEY) WITHOUT ROWID;

    CREATE TRIGGER items_regrouped AFTER UPDATE OF artist_key, album_key, shown, has_picture, picture ON items
    BEGIN
        INSERT OR IGNORE INTO stale_artists SELECT old.artist_key WHERE old.artist_key IS NOT NULL;
        INSERT OR IGNORE INTO stale_artists SELECT new.artist_key WHERE new.artist_key IS NOT NULL;
        INSERT OR IGNORE INTO stale_albums SELECT old.album_key WHERE old.album_key IS NOT NULL;
        INSERT OR IGNORE INTO stale_albums SELECT new.album_key WHERE new.album_key IS NOT NULL;
    END;
    CREATE TRIGGER items_ungrouped AFTER DELETE ON items WHEN old.artist_key IS NOT NULL
    BEGIN
        INSERT OR IGNORE INTO stale_artists VALUES (old.artist_key);
        INSERT OR IGNORE INTO stale_albums VALUES (old.album_key);
    END;

    -- Whatever changes items makes the signature of their folder void; who knows better sets it afterwards.
    CREATE TRIGGER items_changed AFTER UPDATE OF folder, name, size, mtime_ns, inode, gone ON items
    BEGIN
        UPDATE folders SET listing = NULL WHERE number IN (old.folder, new.folder) AND listing IS NOT NULL;
    END;
    CREATE TRIGGER items_removed AFTER DELETE ON items
    BEGIN
        UPDATE folders SET listing = NULL WHERE number = old.folder AND listing IS NOT NULL;
    END;

    -- `tags` holds the kind ("k0") and the share ("s1"), so that a search meets only what it may find.
    CREATE VIRTUAL TABLE words USING fts5 (
        title, people, album, place, tags, tokenize = 'unicode61 remove_diacritics 2', prefix = '1 2'
    );
    """,
    f"""
    -- What friends are told (see `catalogue/changelog`): every item of a share that they were told of, also if it is gone
    -- by now, in the order of the last changes.
    CREATE TABLE changes (
        share INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        row INTEGER NOT NULL,
        gone INTEGER NOT NULL, -- whether the item is no longer listed in this share
        PRIMARY KEY (share, sequence)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX changes_by_row ON changes (share, row);
    CREATE INDEX changes_gone ON changes (sequence) WHERE gone;

    -- The last sequences of some moments, each with a random id.
    CREATE TABLE checkpoints (sequence INTEGER PRIMARY KEY, id INTEGER NOT NULL);
    INSERT INTO checkpoints VALUES (0, random());

    -- Items that changed since they got their sequence. Those behind the row `numbered` have none yet.
    CREATE TABLE changed (share INTEGER NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (share, row)) WITHOUT ROWID;
    INSERT INTO state VALUES ('numbered', 0);

    CREATE TRIGGER items_updated AFTER UPDATE ON items
    WHEN new.row <= (SELECT value FROM state WHERE key = 'numbered')
        AND ({_TOLD.format(row="old")}) IS NOT ({_TOLD.format(row="new")})
    BEGIN
        INSERT OR IGNORE INTO changed VALUES (old.share, old.row), (new.share, new.row);
    END;
    CREATE TRIGGER items_deleted AFTER DELETE ON items
    WHEN old.row <= (SELECT value FROM state WHERE key = 'numbered')
    BEGIN
        INSERT OR IGNORE INTO changed VALUES (old.share, old.row);
    END;
    CREATE TRIGGER subtitles_inserted AFTER INSERT ON subtitles
    WHEN new.item <= (SELECT value FROM state WHERE key = 'numbered')
    BEGIN
        INSERT OR IGNORE INTO changed SELECT share, row FROM items WHERE row = new.item;
    END;
    CREATE TRIGGER subtitles_updated AFTER UPDATE ON subtitles
    WHEN new.item <= (SELECT value FROM state WHERE key = 'numbered')
    BEGIN
        INSERT OR IGNORE INTO changed SELECT share, row FROM items WHERE row = new.item;
    END;
    CREATE TRIGGER subtitles_deleted AFTER DELETE ON subtitles
    WHEN old.item <= (SELECT value FROM state WHERE key = 'numbered')
    BEGIN
        INSERT OR IGNORE INTO changed SELECT share, row FROM items WHERE row = old.item;
    END;
    CREATE TRIGGER shares_deleted AFTER DELETE ON shares
    BEGIN
        DELETE FROM changes WHERE share = old.number;
        DELETE FROM changed WHERE share = old.number;
    END;
    """,
)
