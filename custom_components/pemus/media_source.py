"""The media source: browse, search, and play the media of this home and its friends.

The identifier of a node is the engine's id, verbatim. This module translates its title and selects its media class.
"""

from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple, override

from homeassistant.components.media_player import (
    BrowseError,
    MediaClass,
    MediaType,
    SearchMedia,
    SearchMediaQuery,
)
from homeassistant.components.media_source import (
    BrowseMediaSource,
    MediaSource,
    MediaSourceItem,
    PlayMedia,
    Unresolvable,
)
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.translation import async_get_translations

from .addresses import Addresses, async_base
from .const import DOMAIN
from .didl import DidlItem, DidlPlayMedia
from .engine.client import EngineClient
from .errors import engine_errors
from .friends.terms import friend_name
from .home import Home, async_get_home
from .p2p.models import Item, Kind, Node, NodeKind, SearchQuery
from .p2p.models.items import ItemRef, Wanted, owner_of
from .p2p.models.transfers import TransferState
from .search import async_search
from .stream import stream_path, thumbnail_path

DLNA_RENDERER: Final = "dlna_dmr"
"""The integration of DLNA renderers."""
MAX_RESULTS: Final = 100
"""Maximum number of items in a search result."""


class Presentation(NamedTuple):
    """How the media browser shows a kind of node."""

    media_class: MediaClass
    content_type: str
    children: MediaClass


PRESENTATIONS: Final[dict[NodeKind, Presentation]] = {
    NodeKind.ARTIST: Presentation(
        MediaClass.ARTIST, MediaType.ARTIST, MediaClass.ALBUM
    ),
    NodeKind.ALBUM: Presentation(MediaClass.ALBUM, MediaType.ALBUM, MediaClass.TRACK),
    NodeKind.ARTISTS: Presentation(
        MediaClass.DIRECTORY, MediaType.ARTIST, MediaClass.ARTIST
    ),
    NodeKind.ALBUMS: Presentation(
        MediaClass.DIRECTORY, MediaType.ALBUM, MediaClass.ALBUM
    ),
}
"""Nodes that are not plain folders."""

FOLDER_PRESENTATIONS: Final[dict[Kind | None, Presentation]] = {
    Kind.VIDEO: Presentation(MediaClass.DIRECTORY, MediaType.VIDEO, MediaClass.VIDEO),
    Kind.MUSIC: Presentation(MediaClass.DIRECTORY, MediaType.MUSIC, MediaClass.TRACK),
    Kind.PHOTO: Presentation(MediaClass.DIRECTORY, MediaType.IMAGE, MediaClass.IMAGE),
    None: Presentation(MediaClass.DIRECTORY, "", MediaClass.DIRECTORY),
}

ITEM_CLASSES: Final = {
    Kind.VIDEO: MediaClass.VIDEO,
    Kind.MUSIC: MediaClass.TRACK,
    Kind.PHOTO: MediaClass.IMAGE,
}

SEARCHABLE: Final = {
    NodeKind.ROOT,
    NodeKind.HOME,
    NodeKind.SHARE,
    NodeKind.VIDEOS,
    NodeKind.MUSIC,
    NodeKind.PHOTOS,
}
"""Nodes below which the engine can search."""

RESULT_CLASSES: Final = {
    MediaClass.VIDEO: MediaClass.VIDEO,
    MediaClass.MOVIE: MediaClass.VIDEO,
    MediaClass.TRACK: MediaClass.TRACK,
    MediaClass.MUSIC: MediaClass.TRACK,
    MediaClass.ALBUM: MediaClass.ALBUM,
    MediaClass.ARTIST: MediaClass.ARTIST,
    MediaClass.IMAGE: MediaClass.IMAGE,
}
"""The classes of results for each media class that a search can be filtered by."""

KINDS: Final = {
    MediaClass.VIDEO: Kind.VIDEO,
    MediaClass.TRACK: Kind.MUSIC,
    MediaClass.ALBUM: Kind.MUSIC,
    MediaClass.ARTIST: Kind.MUSIC,
    MediaClass.IMAGE: Kind.PHOTO,
}

UNKNOWN: Final = {NodeKind.ARTIST, NodeKind.ALBUM, NodeKind.YEAR}
"""Nodes that can contain items without an artist, album or year."""


async def async_get_media_source(hass: HomeAssistant) -> MediaSource:
    """Return the media source of this home."""
    return PemusMediaSource(hass)


class PemusMediaSource(MediaSource):
    """The media source of this home."""

    name = "PeMuS"

    def __init__(self, hass: HomeAssistant) -> None:
        """Create the media source. It looks up the home for each request."""
        super().__init__(DOMAIN)
        self.hass = hass

    @override
    async def async_browse_media(self, item: MediaSourceItem) -> BrowseMediaSource:
        """Return a node and its children."""
        client = self._client(BrowseError)
        node_id = _node_id(item)
        with engine_errors(BrowseError, remote=owner_of(node_id) is not None):
            listing = await client.browse(node_id)
        titles = await self._titles()
        place = _browse_node(self._known(listing.node), titles, above=None)
        place.children = [
            _browse_node(self._known(child), titles, above=listing.node.kind)
            for child in listing.children
        ]
        # Home Assistant determines it from the children.
        place.children_media_class = None if listing.children else MediaClass.DIRECTORY
        return place

    @override
    async def async_search_media(
        self, item: MediaSourceItem, query: SearchMediaQuery
    ) -> SearchMedia:
        """Search artists, albums and items below a node."""
        home = self._home(BrowseError)
        text = query.search_query.strip()
        wanted = {
            RESULT_CLASSES[each]
            for each in query.media_filter_classes or RESULT_CLASSES
            if each in RESULT_CLASSES
        }
        if not text or not wanted:
            return SearchMedia(result=[])
        kinds = {KINDS[shown] for shown in wanted}
        place = _node_id(item)
        asked = SearchQuery(
            text=text,
            kinds=tuple(kind for kind in Kind if kind in kinds),
            below=place,
            limit=MAX_RESULTS,
        )
        with engine_errors(BrowseError, remote=owner_of(place) is not None):
            found = await async_search(home, asked, with_friends=place == "")
        titles = await self._titles()
        results = [
            *(_browse_node(node, titles, above=None) for node in found.nodes),
            *map(_browse_item, found.items),
        ]
        for result in results:
            assert result.identifier is not None
            owner = owner_of(result.identifier)
            if owner is not None and place == "" and (name := self._name(owner)):
                result.title = f"{result.title} ({name})"
        return SearchMedia(
            result=[result for result in results if result.media_class in wanted]
        )

    @override
    async def async_resolve_media(self, item: MediaSourceItem) -> PlayMedia:
        """Return the URL of an item, and its path if it is on this home's disks."""
        client = self._client(Unresolvable)
        node_id = _node_id(item)
        if (ref := ItemRef.of_node(node_id)) is None:
            raise Unresolvable(
                translation_domain=DOMAIN, translation_key="not_playable"
            )
        with engine_errors(Unresolvable, remote=ref.owner is not None):
            media = await _resolve(client, ref)
            if not self._is_renderer(item.target_media_player):
                return media
            known = await client.item(ref)
        base = async_base(self.hass)
        addresses = Addresses.of(self.hass, known)
        # The URL in the metadata must be identical to the one that is played. Home Assistant does not sign it again.
        return DidlPlayMedia(
            addresses.media,
            media.mime_type,
            path=media.path,
            didl_metadata=DidlItem(
                known,
                f"{base}{addresses.media}",
                addresses.thumbnail and f"{base}{addresses.thumbnail}",
            ),
        )

    def _is_renderer(self, player: str | None) -> bool:
        """Return whether a media player is a DLNA renderer."""
        if player is None:
            return False
        known = er.async_get(self.hass).async_get(player)
        return known is not None and known.platform == DLNA_RENDERER

    def _home(self, error: type[HomeAssistantError]) -> Home:
        """Return this home. Raises `error` if it is not set up."""
        if (home := async_get_home(self.hass)) is None:
            raise error(translation_domain=DOMAIN, translation_key="not_loaded")
        return home

    def _client(self, error: type[HomeAssistantError]) -> EngineClient:
        """Return the engine's client. Raises `error` if the home is not set up."""
        return self._home(error).engine.client

    def _name(self, owner: str) -> str | None:
        """Return the name of a friend, or None."""
        home = async_get_home(self.hass)
        return None if home is None else friend_name(home.entry, owner)

    def _known(self, node: Node) -> Node:
        """Return a node. A friend's home gets the name that the user chose."""
        if node.kind is not NodeKind.HOME or (owner := owner_of(node.id)) is None:
            return node
        name = self._name(owner)
        return node if name is None else replace(node, title=name)

    async def _titles(self) -> dict[str, str]:
        """Return the titles of nodes in the language of this Home Assistant."""
        translations = await async_get_translations(
            self.hass, self.hass.config.language, "common", {DOMAIN}
        )
        return {key.rpartition(".")[2]: title for key, title in translations.items()}


async def _resolve(client: EngineClient, ref: ItemRef) -> PlayMedia:
    """Return the URL and path of an item.

    A friend's item has a path only if it is pinned and complete. A file in the cache can be removed, and reads as zeros
    where it has not arrived. Raises EngineError, EngineUnavailable.
    """
    file = await client.locate(Wanted(ref))
    return PlayMedia(
        stream_path(ref, file.name, file.content_type),
        file.content_type,
        path=None
        if file.arriving and not await _is_kept(client, ref)
        else Path(file.path),
    )


async def _is_kept(client: EngineClient, ref: ItemRef) -> bool:
    """Return whether a friend's item is pinned and complete."""
    return any(
        transfer.pinned and transfer.state is TransferState.COMPLETE
        for transfer in (await client.transfers()).items
        if (transfer.owner, transfer.item) == (ref.owner, ref.id)
    )


def _node_id(item: MediaSourceItem) -> str:
    """Return the id of the requested node. For the root, Home Assistant passes None, contrary to its type."""
    return item.identifier or ""


def _browse_node(
    node: Node, titles: dict[str, str], *, above: NodeKind | None
) -> BrowseMediaSource:
    """Return a node for the media browser, without children."""
    thumbnail = None
    if node.thumbnail is not None:
        thumbnail = thumbnail_path(ItemRef(owner_of(node.id), node.thumbnail))
    title = _title(node, titles, above)
    if node.kind is NodeKind.ITEM:
        return BrowseMediaSource(
            domain=DOMAIN,
            identifier=node.id,
            media_class=ITEM_CLASSES[node.media] if node.media else MediaClass.URL,
            media_content_type=node.content_type or "",
            title=title,
            can_play=node.available,
            can_expand=False,
            thumbnail=thumbnail,
        )
    presentation = PRESENTATIONS.get(node.kind) or FOLDER_PRESENTATIONS[node.media]
    searchable = node.kind in SEARCHABLE
    return BrowseMediaSource(
        domain=DOMAIN,
        identifier=node.id,
        media_class=presentation.media_class,
        media_content_type=presentation.content_type,
        title=title,
        can_play=False,
        can_expand=True,
        can_search=searchable,
        search_media_classes=_search_classes(node.media) if searchable else None,
        children_media_class=presentation.children,
        thumbnail=thumbnail,
    )


def _browse_item(item: Item) -> BrowseMediaSource:
    """Return a found item for the media browser."""
    title = f"{item.title} – {item.artist}" if item.artist else item.title
    return BrowseMediaSource(
        domain=DOMAIN,
        identifier=item.ref.node,
        media_class=ITEM_CLASSES[item.kind],
        media_content_type=item.content_type,
        title=title,
        can_play=item.available,
        can_expand=False,
        thumbnail=thumbnail_path(item.ref) if item.has_thumbnail else None,
    )


def _title(node: Node, titles: dict[str, str], above: NodeKind | None) -> str:
    """Return the title of a node."""
    if node.kind is NodeKind.ROOT:
        return "PeMuS"
    if node.kind is NodeKind.HOME and not node.available:
        return titles["offline_home"].format(home=node.title)
    if node.kind is NodeKind.MONTH and node.title is not None:
        return titles[f"month_{node.title}"]
    if node.title is None:
        if node.kind in UNKNOWN:
            return titles[f"unknown_{node.kind}"]
        return node.detail or titles[node.kind]
    if node.kind is NodeKind.ALBUM and node.detail and above is not NodeKind.ARTIST:
        return f"{node.title} – {node.detail}"
    if node.kind is NodeKind.PAGE and node.detail:
        return f"{node.title} ({node.detail})"
    return node.title


def _search_classes(media: Kind | None) -> list[MediaClass]:
    """Return the media classes by which a search can be filtered."""
    return [shown for shown, kind in KINDS.items() if media is None or kind is media]
