"""Health check for containers: `python -m pemus_signaling.health`, with the settings of the server.

The exit status is 0 if the server on this machine answers.
"""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException, HTTPSConnection
import os
import ssl
import sys
from typing import Final

from .settings import Settings, SettingsError, read_settings

TIMEOUT: Final = 5.0
"""Time limit for the answer, in seconds."""

_EVERYWHERE: Final = ("::", "0.0.0.0")  # noqa: S104


def is_well(settings: Settings) -> bool:
    """Return whether the server with these settings answers."""
    host = "localhost" if settings.host in _EVERYWHERE else settings.host
    if settings.certificate is None:
        connection = HTTPConnection(host, settings.port, timeout=TIMEOUT)
    else:
        # The certificate is not for localhost.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = HTTPSConnection(
            host, settings.port, timeout=TIMEOUT, context=context
        )
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    """Return the exit status."""
    try:
        return 0 if is_well(read_settings(sys.argv[1:], os.environ)) else 1
    except SettingsError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
