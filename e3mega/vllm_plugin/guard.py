"""Middleware in front of every route of a vLLM server: nothing passes without the run's key."""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

_keys: list[bytes] = []


def install_key(key: str) -> None:
    """Set the run's key of this process; until then every request is refused."""
    _keys[:] = [key.encode()]


class Guard:
    """Pure ASGI: 401 without ``Authorization: Bearer KEY``, WebSocket handshakes included.

    vLLM's own API key covers only some prefixes; the weight-update and development routes would
    be open to whoever reaches the port.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass what carries the key, and the server's own start and stop."""
        if scope["type"] == "lifespan" or _carries_key(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            # ASGI's way to answer a handshake with a status; a bare close would be a 403.
            await _refuse(send, "websocket.http.response")
        else:
            await _refuse(send, "http.response")


async def _refuse(send: Callable[[Message], Awaitable[None]], kind: str) -> None:
    body = b'{"error": "the run\'s key is missing or wrong"}'
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"www-authenticate", b"Bearer"),
    ]
    await send({"type": f"{kind}.start", "status": 401, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})


def _carries_key(scope: Message) -> bool:
    given = [value for name, value in scope.get("headers", ()) if name.lower() == b"authorization"]
    return len(given) == 1 and any(hmac.compare_digest(given[0], b"Bearer " + key) for key in _keys)
