"""The HTTP headers of DLNA renderers.

From the DLNA guidelines, part 1 (7.5.4.3.2 and 7.5.4.3.3): the response echoes the transfer mode, and contains the
content features on request. Unsupported requests (seeking by time, other speeds) get a 406, so that the renderer seeks
by bytes instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

TRANSFER_MODE: Final = "transferMode.dlna.org"
GET_CONTENT_FEATURES: Final = "getcontentFeatures.dlna.org"
CONTENT_FEATURES: Final = "contentFeatures.dlna.org"
TIME_SEEK: Final = "TimeSeekRange.dlna.org"
PLAY_SPEED: Final = "PlaySpeed.dlna.org"

_STREAMING: Final = "Streaming"
_INTERACTIVE: Final = "Interactive"
_BACKGROUND: Final = "Background"
_MODES: Final = {mode.lower(): mode for mode in (_STREAMING, _INTERACTIVE, _BACKGROUND)}

_FLAG_STREAMING: Final = 1 << 24
_FLAG_INTERACTIVE: Final = 1 << 23
_FLAG_BACKGROUND: Final = 1 << 22
_FLAG_MAY_STALL: Final = 1 << 21
_FLAG_V1_5: Final = 1 << 20
_RESERVED: Final = "0" * 24


class Refused(Exception):
    """The request is malformed (400) or not supported (406)."""

    def __init__(self, status: HTTPStatus) -> None:
        """Store the status of the response."""
        super().__init__(status.phrase)
        self.status = status


def answer(request: Mapping[str, str], content_type: str) -> dict[str, str]:
    """Return the DLNA headers of the response for a file of this type. Raises Refused."""
    if TIME_SEEK in request:
        raise Refused(HTTPStatus.NOT_ACCEPTABLE)
    if request.get(PLAY_SPEED, "speed=1").replace(" ", "") != "speed=1":
        raise Refused(HTTPStatus.NOT_ACCEPTABLE)

    is_image = content_type.startswith("image/")
    headers: dict[str, str] = {}
    if (wanted := request.get(TRANSFER_MODE)) is not None:
        if (mode := _MODES.get(wanted.strip().lower())) is None:
            raise Refused(HTTPStatus.BAD_REQUEST)
        if mode == (_STREAMING if is_image else _INTERACTIVE):
            raise Refused(HTTPStatus.NOT_ACCEPTABLE)
        headers[TRANSFER_MODE] = mode
    if (wanted := request.get(GET_CONTENT_FEATURES)) is not None:
        if wanted.strip() != "1":
            raise Refused(HTTPStatus.BAD_REQUEST)
        headers[CONTENT_FEATURES] = content_features(is_image=is_image)
    return headers


def content_features(*, is_image: bool) -> str:
    """Return the fourth field of a protocolInfo: operations, conversion, and transfer modes."""
    flags = _FLAG_BACKGROUND | _FLAG_MAY_STALL | _FLAG_V1_5
    flags |= _FLAG_INTERACTIVE if is_image else _FLAG_STREAMING
    return f"DLNA.ORG_OP=01;DLNA.ORG_CI=0;DLNA.ORG_FLAGS={flags:08X}{_RESERVED}"
