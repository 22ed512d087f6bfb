"""/rest/v1: passes requests to PostgREST and its answers back, unchanged."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from rapport.local.stack.running import Stack
from rapport.local.supabase import rest_rules
from rapport.server.overload import RETRY_AFTER

Header = tuple[bytes, bytes]
Headers = Iterable[Header]

PREFIX = b"/rest/v1"
MAX_CONNECTIONS = 100
# httpcore asks the operating system about every idle connection at each request: 20 of them would
# halve the requests per second
MAX_IDLE_CONNECTIONS = 8
# PostgREST itself answers after 10 s to a request that waits for its connection pool
TIMEOUT = httpx.Timeout(60, connect=5, pool=5)
# how long an answer of 429 is held back
REFUSAL_SECONDS = 1

# RFC 9110, section 7.6.1: headers about a single connection
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# the gateway has already checked the API key; httpx writes the host
NOT_FORWARDED = HOP_BY_HOP | {b"apikey", b"host"}


class RestProxy:
    """An ASGI application in front of one stack's PostgREST; 503 while that does not answer.

    It uses a transport and not a client: a client would keep cookies between callers, follow
    redirects and use the environment's proxies.
    """

    def __init__(self, stack: Stack) -> None:
        upstream = httpx.URL(stack.postgrest_url)
        self._upstream = upstream
        self._host = (b"host", upstream.netloc)
        self._transport = httpx.AsyncHTTPTransport(
            # no TLS on loopback, so certificate authorities need not be loaded
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            limits=httpx.Limits(
                max_connections=MAX_CONNECTIONS,
                max_keepalive_connections=MAX_IDLE_CONNECTIONS,
                # PostgREST closes idle connections after 30 s
                keepalive_expiry=20,
            ),
        )

    async def stop(self) -> None:
        await self._transport.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["raw_path"].removeprefix(PREFIX)
        query = _without_key(scope["query_string"])
        refused = rest_rules.unreadable(path + b"?" + query, scope["headers"])
        refused = refused or rest_rules.refusal(
            scope["method"],
            path,
            query,
            b",".join(value for name, value in scope["headers"] if name == b"prefer"),
        )
        if refused:
            await refused(scope, receive, send)
            return
        try:
            response = await self._transport.handle_async_request(self._request(scope, receive))
        except ClientDisconnect:
            return
        except httpx.TransportError:
            away = JSONResponse(
                {"message": "PostgREST is not available"}, status_code=503, headers=RETRY_AFTER
            )
            await away(scope, receive, send)
            return
        try:
            if response.status_code == 429:
                # slows down a client that asks again at once
                await asyncio.sleep(REFUSAL_SECONDS)
            await send(
                {
                    "type": "http.response.start",
                    "status": response.status_code,
                    "headers": _returned(response.headers.raw),
                }
            )
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()

    def _request(self, scope: Scope, receive: Receive) -> httpx.Request:
        path = scope["raw_path"].removeprefix(PREFIX) or b"/"
        query = _without_key(scope["query_string"])
        target = path + b"?" + query if query else path
        given = dict(scope["headers"])
        has_body = b"content-length" in given or b"transfer-encoding" in given
        own = [self._host]
        if scope["method"] == "HEAD":
            # PostgREST ends the connection after its answer and does not say so: the next request
            # would be lost on it
            own.append((b"connection", b"close"))
        return httpx.Request(
            scope["method"],
            self._upstream,
            headers=[*own, *_end_to_end(scope["headers"], dropped=NOT_FORWARDED)],
            content=Request(scope, receive).stream() if has_body else None,
            # as a target, since httpx would re-encode a URL
            extensions={"timeout": TIMEOUT.as_dict(), "target": target},
        )


def _returned(headers: Headers) -> list[Header]:
    """Keeps PostgREST's headers, except CORS, which the gateway sets, and the date, which uvicorn
    sets.
    """
    return [
        (name, value)
        for name, value in _end_to_end(headers, dropped=HOP_BY_HOP | {b"date"})
        if not name.startswith(b"access-control-")
    ]


def _end_to_end(headers: Headers, *, dropped: frozenset[bytes]) -> list[Header]:
    """Removes headers of a single connection, also those that `Connection` names."""
    lower = [(name.lower(), value) for name, value in headers]
    named = {
        token.strip().lower()
        for name, value in lower
        if name == b"connection"
        for token in value.split(b",")
    }
    return [(name, value) for name, value in lower if name not in dropped and name not in named]


def _without_key(query: bytes) -> bytes:
    """Removes the API key, which PostgREST would take for a filter."""
    if b"apikey=" not in query:
        return query
    return b"&".join(part for part in query.split(b"&") if not part.startswith(b"apikey="))
