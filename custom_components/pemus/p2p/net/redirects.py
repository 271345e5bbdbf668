"""Refuses HTTP redirects."""

from __future__ import annotations

from aiohttp import ClientError, ClientHandlerType, ClientRequest, ClientResponse


class RedirectedError(ClientError):
    """The server redirects to another address."""


async def follow_nowhere(
    request: ClientRequest, handler: ClientHandlerType
) -> ClientResponse:
    """Raise RedirectedError instead of following a redirect, as a middleware of aiohttp, which follows those of WebSockets too.

    A proof of identity is valid for the configured origin only, and a home in the local network must not direct this one to
    other services.
    """
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise RedirectedError
    return response
