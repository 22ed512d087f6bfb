"""The one port for clients: /rest/v1, /auth/v1 and /realtime/v1, as on a hosted project; and the
pages for people.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from rapport.local.pages import Pages
from rapport.local.stack.running import STACK_VARIABLE, Stack
from rapport.local.supabase.auth.http import MAX_BODY_BYTES as MAX_LOGIN_BYTES
from rapport.local.supabase.auth.service import AuthService
from rapport.local.supabase.connections import (
    PING_SECONDS,
    PONG_SECONDS,
    WebsocketConnection,
    allow_sockets,
)
from rapport.local.supabase.gatekeeper import ProjectKeys, RealtimeKeys, RequireApiKey
from rapport.local.supabase.keys import KeySet, TokenError, verify
from rapport.local.supabase.realtime.posting import MAX_BODY_BYTES as MAX_POST_BYTES
from rapport.local.supabase.realtime.service import RealtimeService
from rapport.local.supabase.rest import MAX_CONNECTIONS, RestProxy
from rapport.local.supabase.shares import Shares
from rapport.server.bodies import Bodies, BodyFirst
from rapport.server.connections import HttpConnection
from rapport.server.memory import release_memory
from rapport.server.overload import Bounded

MAX_HEADER_BYTES = 64 * 1024
MAX_FRAME_BYTES = 5_000_000  # Realtime's limit
LOGINS_AT_ONCE = 20
# each asks the database, for which Realtime has four connections
POSTS_AT_ONCE = 20
BACKLOG = 256
# requests of each service that wait; each waits 5 s at most
WAITING = 200

# bytes of one body. A webhook of 10 MB reaches the database as text and as items.
REST_BODY = 32 * 1024 * 1024
# the services themselves refuse less, in their own words
LOGIN_BODY = 2 * MAX_LOGIN_BYTES
POST_BODY = 2 * MAX_POST_BYTES
# bodies of one service that are held at the same time, as many as are largest
LARGEST_AT_ONCE = 4

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

# parts of a hosted project that are not served here, and what to do instead
NOT_SERVED = {
    "/storage/v1": "Storage is not served on this machine: files of messages go through "
    "POST /api/media of the functions. Try it on a hosted project.",
    "/functions/v1": "Edge Functions are not served on this machine: the deployed functions are at "
    "the address of the functions, below /api.",
    "/graphql/v1": "GraphQL is not served on this machine: ask /rest/v1, or a hosted project.",
}


class NotServed:
    """Answers 501 with a sentence that says what to do instead."""

    def __init__(self, sentence: str) -> None:
        self._body = {"statusCode": "501", "error": "not_served", "message": sentence}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        await JSONResponse(self._body, 501)(scope, receive, send)


def create_app(stack: Stack) -> Starlette:
    """Creates the gateway of a stack; its services start and stop with the application."""
    rest = RestProxy(stack)
    auth = AuthService(stack)
    realtime = RealtimeService(stack)
    keys = ProjectKeys(stack)
    pages = Pages(stack)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as running:
            running.push_async_callback(rest.stop)
            running.push_async_callback(pages.stop)
            running.push_async_callback(auth.stop)
            await auth.start()
            running.push_async_callback(realtime.stop)
            await realtime.start()
            yield

    bounded_rest = Bounded(rest, at_once=MAX_CONNECTIONS, waiting=WAITING)
    token_keys = KeySet.of(stack)
    shared_rest = Shares(bounded_rest, whose=lambda token: _user_of(token_keys, token))
    # threads that check passwords do not end when their client leaves
    bounded_auth = Bounded(
        auth.app, at_once=LOGINS_AT_ONCE, waiting=WAITING, ends_with_client=False
    )
    bounded_posting = Bounded(realtime.posting, at_once=POSTS_AT_ONCE, waiting=WAITING)
    read_rest = _body_first(shared_rest, bounded_rest, REST_BODY)
    read_auth = _body_first(bounded_auth, bounded_auth, LOGIN_BODY)
    read_posting = _body_first(bounded_posting, bounded_posting, POST_BODY)
    # keys that everybody may see, and what the links in mails lead to
    open_paths = frozenset({"/auth/v1/.well-known/jwks.json", "/auth/v1/verify"})
    gateway = Starlette(
        routes=[
            Route("/health", _health),
            Mount("/rest/v1", RequireApiKey(read_rest, keys)),
            Mount("/auth/v1", RequireApiKey(read_auth, keys, open_paths=open_paths)),
            Mount("/_mail", auth.inbox),
            Mount("/realtime/v1/api", RequireApiKey(read_posting, keys)),
            *realtime.routes,
            *(
                route(path, NotServed(sentence))
                for path, sentence in NOT_SERVED.items()
                for route in (Route, Mount)
            ),
            *pages.routes,
        ],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=EXPOSED_HEADERS,
                max_age=3600,
            ),
            Middleware(RealtimeKeys, keys=keys, path="/realtime/v1/"),
        ],
        lifespan=lifespan,
    )
    gateway.router.default = pages.missing
    return gateway


def main() -> None:
    """Serves the stack of the environment until it is stopped."""
    stack = Stack.load(Path(os.environ[STACK_VARIABLE]))
    allow_sockets()
    app = create_app(stack)
    release_memory()
    uvicorn.run(
        app,
        host=stack.listen,
        port=stack.gateway_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        # seconds: sockets stay open as long as a client likes, so they are closed
        timeout_graceful_shutdown=2,
        # connections that wait to be accepted
        backlog=BACKLOG,
        http=HttpConnection,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        ws=WebsocketConnection,
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=PONG_SECONDS,
        ws_max_size=MAX_FRAME_BYTES,
        ws_per_message_deflate=False,
    )


def _body_first(app: ASGIApp, bounded: Bounded, limit: int) -> BodyFirst:
    bodies = Bodies(limit=limit, room=LARGEST_AT_ONCE * limit)
    return BodyFirst(app, bodies, is_full=lambda: bounded.is_full)


async def _health(_: Request) -> Response:
    """Answers once everything has started; before that, the port is closed."""
    return JSONResponse({"status": "ok"})


def _user_of(token_keys: KeySet, token: str) -> str | None:
    try:
        return verify(token_keys, token).sub
    except TokenError:
        # PostgREST refuses it, which costs it little
        return None


if __name__ == "__main__":
    main()
