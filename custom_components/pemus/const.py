"""Names that several modules of the integration share."""

from typing import Final

DOMAIN: Final = "pemus"

SUBENTRY_SHARE: Final = "share"
"""Type of the config subentries: each is a shared folder."""

CONF_KINDS: Final = "kinds"
CONF_RESCAN_INTERVAL: Final = "rescan_interval"
DEFAULT_RESCAN_INTERVAL: Final = 60
"""Minutes."""
