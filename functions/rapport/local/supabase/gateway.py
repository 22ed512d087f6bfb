"""The one port for clients: /rest/v1, /auth/v1 and /realtime/v1, as on a hosted project."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from rapport.local.overload import Bounded
from rapport.local.stack.running import STACK_VARIABLE, Stack
from rapport.local.supabase.auth.service import AuthService
from rapport.local.supabase.keys import TokenError, verify
from rapport.local.supabase.realtime.service import RealtimeService
from rapport.local.supabase.rest import MAX_CONNECTIONS, RestProxy
from rapport.local.supabase.shares import Shares

MAX_HEADER_BYTES = 64 * 1024
MAX_FRAME_BYTES = 5_000_000  # Realtime's limit
LOGINS_AT_ONCE = 20
BACKLOG = 256
# requests of each service that wait; each waits 5 s at most
WAITING = 200

# answer headers that pages may read, beside the standard ones
EXPOSED_HEADERS = (
    "Content-Range",
    "Content-Location",
    "Content-Profile",
    "Location",
    "Preference-Applied",
    "Range-Unit",
    "Retry-After",
    "X-Supabase-Api-Version",
)


class RequireApiKey:
    """Passes on requests that carry one of the stack's keys, by header or query.

    Without an Authorization header the key also names the caller's role. Realtime is not behind
    this check: it reads keys itself and has its own refusals.
    """

    def __init__(self, app: ASGIApp, stack: Stack, open_paths: frozenset[str]) -> None:
        self._app = app
        self._keys = (stack.anon_key.encode(), stack.service_role_key.encode())
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        if scope["path"] in self._open_paths:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        key = headers.get(b"apikey") or _key_in(scope["query_string"])
        if not key:
            refusal = _unauthorized("No API key found in request")
        elif not any(secrets.compare_digest(key, known) for known in self._keys):
            refusal = _unauthorized("Invalid API key")
        else:
            if b"authorization" not in headers:
                bearer = (b"authorization", b"Bearer " + key)
                scope = {**scope, "headers": [*scope["headers"], bearer]}
            await self._app(scope, receive, send)
            return
        await refusal(scope, receive, send)


def create_app(stack: Stack) -> Starlette:
    """Creates the gateway of a stack; its services start and stop with the application."""
    rest = RestProxy(stack)
    auth = AuthService(stack)
    realtime = RealtimeService(stack)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as running:
            running.push_async_callback(rest.stop)
            running.push_async_callback(auth.stop)
            await auth.start()
            running.push_async_callback(realtime.stop)
            await realtime.start()
            yield

    bounded_rest = Bounded(rest, at_once=MAX_CONNECTIONS, waiting=WAITING)
    shared_rest = Shares(bounded_rest, whose=lambda token: _user_of(stack, token))
    # threads that check passwords do not end when their client leaves
    bounded_auth = Bounded(
        auth.app, at_once=LOGINS_AT_ONCE, waiting=WAITING, ends_with_client=False
    )
    jwks = frozenset({"/auth/v1/.well-known/jwks.json"})
    return Starlette(
        routes=[
            Route("/health", _health),
            Mount("/rest/v1", RequireApiKey(shared_rest, stack, open_paths=frozenset())),
            Mount("/auth/v1", RequireApiKey(bounded_auth, stack, open_paths=jwks)),
            *realtime.routes,
        ],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=EXPOSED_HEADERS,
                max_age=3600,
            )
        ],
        lifespan=lifespan,
    )


def main() -> None:
    """Serves the stack of the environment until it is stopped."""
    stack = Stack.load(Path(os.environ[STACK_VARIABLE]))
    uvicorn.run(
        create_app(stack),
        host=stack.host,
        port=stack.gateway_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        # seconds: sockets stay open as long as a client likes, so they are closed
        timeout_graceful_shutdown=2,
        # connections that wait to be accepted
        backlog=BACKLOG,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        ws="websockets-sansio",
        ws_max_size=MAX_FRAME_BYTES,
        ws_per_message_deflate=False,
    )


async def _health(_: Request) -> Response:
    """Answers once everything has started; before that, the port is closed."""
    return JSONResponse({"status": "ok"})


def _user_of(stack: Stack, token: str) -> str | None:
    try:
        return verify(stack.jwt_secret, token).sub
    except TokenError:
        # PostgREST refuses it, which costs it little
        return None


def _key_in(query: bytes) -> bytes | None:
    values = parse_qs(query.decode("latin-1")).get("apikey", [])
    return values[0].encode() if values else None


def _unauthorized(message: str) -> JSONResponse:
    return JSONResponse({"message": message}, status_code=401)


if __name__ == "__main__":
    main()
