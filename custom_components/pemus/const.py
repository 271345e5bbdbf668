"""Constants that several modules use."""

from typing import Final

DOMAIN: Final = "pemus"

MEDIA_SOURCE: Final = f"media-source://{DOMAIN}/"
"""Prefix of every media content id. The id of a node follows."""

SUBENTRY_SHARE: Final = "share"
"""Subentry type of a shared folder."""

SUBENTRY_FRIEND: Final = "friend"
"""Subentry type of a friend."""

SUBENTRY_ROOM: Final = "room"
"""Subentry type of a room for guests."""

CONF_KINDS: Final = "kinds"
CONF_RESCAN_INTERVAL: Final = "rescan_interval"
DEFAULT_RESCAN_INTERVAL: Final = 60
"""In minutes."""

CONF_UPLOAD_LIMIT: Final = "upload_limit"
CONF_DOWNLOAD_LIMIT: Final = "download_limit"
CONF_LAN_EXEMPT: Final = "lan_exempt"
CONF_LAN_VISIBLE: Final = "lan_visible"
CONF_CONNECTIONS: Final = "connections"
CONF_ACTIVE_SEEDS: Final = "active_seeds"
CONF_PORT_MAPPING: Final = "port_mapping"
CONF_CACHE_QUOTA: Final = "cache_quota"
CONF_CACHE_RESERVE: Final = "cache_reserve"

CONF_NOTE: Final = "note"
CONF_SERVERS: Final = "servers"
"""URLs of signalling servers."""
CONF_SHARES: Final = "shares"
"""Subentry ids of the shares that a friend can access."""
CONF_TERMS: Final = "terms"
"""What each home is granted once it becomes a friend, by PeMuS ID."""

CONF_SIGNALING_APP: Final = "signaling_app"
"""URL of the signalling app on this Home Assistant, if it is installed."""
