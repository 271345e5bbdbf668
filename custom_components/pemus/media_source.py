"""The library, and what other homes share, in the media browser: browse, search, and play.

The identifier of a place is the engine's id of the node, verbatim; what a node is called and looks like is decided here.
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
"""The integration whose media players are DLNA renderers."""
MAX_RESULTS: Final = 100
"""Items of one search. More do not help anybody who looks through a list."""


class Look(NamedTuple):
    """How a kind of node is shown."""

    media_class: MediaClass
    content_type: str
    children: MediaClass


LOOKS: Final[dict[NodeKind, Look]] = {
    NodeKind.ARTIST: Look(MediaClass.ARTIST, MediaType.ARTIST, MediaClass.ALBUM),
    NodeKind.ALBUM: Look(MediaClass.ALBUM, MediaType.ALBUM, MediaClass.TRACK),
    NodeKind.ARTISTS: Look(MediaClass.DIRECTORY, MediaType.ARTIST, MediaClass.ARTIST),
    NodeKind.ALBUMS: Look(MediaClass.DIRECTORY, MediaType.ALBUM, MediaClass.ALBUM),
}
"""What is not a plain folder of one kind of media."""

FOLDER_LOOKS: Final[dict[Kind | None, Look]] = {
    Kind.VIDEO: Look(MediaClass.DIRECTORY, MediaType.VIDEO, MediaClass.VIDEO),
    Kind.MUSIC: Look(MediaClass.DIRECTORY, MediaType.MUSIC, MediaClass.TRACK),
    Kind.PHOTO: Look(MediaClass.DIRECTORY, MediaType.IMAGE, MediaClass.IMAGE),
    None: Look(MediaClass.DIRECTORY, "", MediaClass.DIRECTORY),
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
"""The places below which the engine can search."""

SHOWN_AS: Final = {
    MediaClass.VIDEO: MediaClass.VIDEO,
    MediaClass.MOVIE: MediaClass.VIDEO,
    MediaClass.TRACK: MediaClass.TRACK,
    MediaClass.MUSIC: MediaClass.TRACK,
    MediaClass.ALBUM: MediaClass.ALBUM,
    MediaClass.ARTIST: MediaClass.ARTIST,
    MediaClass.IMAGE: MediaClass.IMAGE,
}
"""As what those results are shown that somebody means who searches for a media class."""

KINDS: Final = {
    MediaClass.VIDEO: Kind.VIDEO,
    MediaClass.TRACK: Kind.MUSIC,
    MediaClass.ALBUM: Kind.MUSIC,
    MediaClass.ARTIST: Kind.MUSIC,
    MediaClass.IMAGE: Kind.PHOTO,
}

UNKNOWN: Final = {NodeKind.ARTIST, NodeKind.ALBUM, NodeKind.YEAR}
"""Nodes that may collect what has no artist, album or year."""


async def async_get_media_source(hass: HomeAssistant) -> MediaSource:
    """Return the media source of this home."""
    return PemusMediaSource(hass)


class PemusMediaSource(MediaSource):
    """What this home shares."""

    name = "PeMuS"

    def __init__(self, hass: HomeAssistant) -> None:
        """Speak for the home that is set up at the time of each request."""
        super().__init__(DOMAIN)
        self.hass = hass

    @override
    async def async_browse_media(self, item: MediaSourceItem) -> BrowseMediaSource:
        """Show a place and what lies in it."""
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
        # Home Assistant finds out itself, from the children that are really there.
        place.children_media_class = None if listing.children else MediaClass.DIRECTORY
        return place

    @override
    async def async_search_media(
        self, item: MediaSourceItem, query: SearchMediaQuery
    ) -> SearchMedia:
        """Find artists, albums and items below a place."""
        home = self._home(BrowseError)
        text = query.search_query.strip()
        wanted = {
            SHOWN_AS[each]
            for each in query.media_filter_classes or SHOWN_AS
            if each in SHOWN_AS
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
        """Return where a player gets an item, and where it lies on this home's disks if it does."""
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
        # The address in the description must be the very one that is played. One that is signed is not signed again.
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
        """Tell whether a media player is one that passes on what a DLNA renderer shows."""
        if player is None:
            return False
        known = er.async_get(self.hass).async_get(player)
        return known is not None and known.platform == DLNA_RENDERER

    def _home(self, error: type[HomeAssistantError]) -> Home:
        """Return this home, or raise `error` while it is not set up."""
        if (home := async_get_home(self.hass)) is None:
            raise error(translation_domain=DOMAIN, translation_key="not_loaded")
        return home

    def _client(self, error: type[HomeAssistantError]) -> EngineClient:
        """Return the way to the engine, or raise `error` while the home is not set up."""
        return self._home(error).engine.client

    def _name(self, owner: str) -> str | None:
        """Return what a friend is called here."""
        home = async_get_home(self.hass)
        return None if home is None else friend_name(home.entry, owner)

    def _known(self, node: Node) -> Node:
        """Return a friend's home under the name that it has here, and any other node as it is."""
        if node.kind is not NodeKind.HOME or (owner := owner_of(node.id)) is None:
            return node
        name = self._name(owner)
        return node if name is None else replace(node, title=name)

    async def _titles(self) -> dict[str, str]:
        """Return what the places are called in the home's language."""
        translations = await async_get_translations(
            self.hass, self.hass.config.language, "common", {DOMAIN}
        )
        return {key.rpartition(".")[2]: title for key, title in translations.items()}


async def _resolve(client: EngineClient, ref: ItemRef) -> PlayMedia:
    """Return where a player gets an item, and where it lies on this home's disks.

    A friend's item has a path only if it is kept here whole. What is merely in the cache may be removed, or not be there
    yet: whoever reads such a file by its path gets zeros. Raises EngineError, EngineUnavailable.
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
    """Tell whether a friend's item is to be kept, and all of it is here."""
    return any(
        transfer.pinned and transfer.state is TransferState.COMPLETE
        for transfer in (await client.transfers()).items
        if (transfer.owner, transfer.item) == (ref.owner, ref.id)
    )


def _node_id(item: MediaSourceItem) -> str:
    """Return the id of the node that is asked for. For the root, Home Assistant has None, whatever its types say."""
    return item.identifier or ""


def _browse_node(
    node: Node, titles: dict[str, str], *, above: NodeKind | None
) -> BrowseMediaSource:
    """Return a node as the media browser wants it, without what lies in it."""
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
    look = LOOKS.get(node.kind) or FOLDER_LOOKS[node.media]
    searchable = node.kind in SEARCHABLE
    return BrowseMediaSource(
        domain=DOMAIN,
        identifier=node.id,
        media_class=look.media_class,
        media_content_type=look.content_type,
        title=title,
        can_play=False,
        can_expand=True,
        can_search=searchable,
        search_media_classes=_search_classes(node.media) if searchable else None,
        children_media_class=look.children,
        thumbnail=thumbnail,
    )


def _browse_item(item: Item) -> BrowseMediaSource:
    """Return an item that was found as the media browser wants it."""
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
    """Return what a node is called."""
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
    """Return what a search below a place may be narrowed to."""
    return [shown for shown, kind in KINDS.items() if media is None or kind is media]
