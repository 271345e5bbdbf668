"""Names that several modules of the integration share."""

from typing import Final

DOMAIN: Final = "pemus"

MEDIA_SOURCE: Final = f"media-source://{DOMAIN}/"
"""What comes before the id of a node in a media content id."""

SUBENTRY_SHARE: Final = "share"
"""Type of the config subentries that are shared folders."""

SUBENTRY_FRIEND: Final = "friend"
"""Type of the config subentries that are friends' homes."""

CONF_KINDS: Final = "kinds"
CONF_RESCAN_INTERVAL: Final = "rescan_interval"
DEFAULT_RESCAN_INTERVAL: Final = 60
"""Minutes."""

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
"""Subentry ids of the shares that a friend may see."""
CONF_TERMS: Final = "terms"
"""By PeMuS ID, what was granted to homes that are not friends yet: they have still to answer."""

CONF_SIGNALING_APP: Final = "signaling_app"
"""The URL of the signalling app beside this Home Assistant, if there is one."""
