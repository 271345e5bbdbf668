"""For connections that must lead where this home wants to, and nowhere else."""

from __future__ import annotations

from aiohttp import ClientError, ClientHandlerType, ClientRequest, ClientResponse


class RedirectedError(ClientError):
    """The server wants its clients to go elsewhere."""


async def follow_nowhere(
    request: ClientRequest, handler: ClientHandlerType
) -> ClientResponse:
    """Refuse to be sent elsewhere: aiohttp follows redirects of WebSockets, whatever they lead to.

    A proof is for the origin that was given, and a home in the local network has no business at this one's other services.
    """
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise RedirectedError
    return response
