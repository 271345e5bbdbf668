"""The release of PeMuS that this code belongs to."""

VERSION = "0.1.0"
"""The same as in the integration's manifest, which lies outside this package and is never read from here."""
