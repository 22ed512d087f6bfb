"""The gateway's check of API keys, and the tokens that services get in their place.

PostgREST, Auth and Realtime know tokens alone. A key of the new kind (`sb_…`) is none: the gateway
takes it as `apikey` and hands on a token of its role. A key of the legacy kind is a token itself.
"""

from __future__ import annotations

import secrets
import time
from datetime import timedelta
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketClose

from rapport.api_keys import is_opaque
from rapport.local.stack.running import Stack
from rapport.local.supabase.keys import Role, mint_role_token
from rapport.local.supabase.signing_key import SigningKey

REQUEST_LIFETIME = timedelta(minutes=10)
# a hosted project's limit for a connection without a user
SOCKET_LIFETIME = timedelta(hours=24)
# a token is handed out during this part of its life; equal callers share what Realtime keeps
REUSED = 0.1


class Refusal(NamedTuple):
    """Why a request is not passed on, in the words of a hosted project."""

    message: str
    hint: str

    def response(self) -> JSONResponse:
        return JSONResponse({"message": self.message, "hint": self.hint}, status_code=401)


NO_KEY = Refusal(
    "No API key found in request", "No `apikey` request header or url param was found."
)
UNKNOWN_KEY = Refusal(
    "Invalid API key",
    "Take a key from the table that `rapport up` prints, and send it as `apikey`.",
)
KEY_AS_BEARER = Refusal(
    "Invalid API key",
    "A key that begins with `sb_` is no token: send it as `apikey`, without `Authorization`.",
)
SECRET_IN_A_BROWSER = Refusal(
    "Forbidden use of secret API key in browser",
    "Everybody can read what a page carries: give it the publishable key.",
)


class ApiKey(NamedTuple):
    """One of the stack's keys."""

    role: Role
    # its token, if it is one of the legacy kind
    token: str | None


class ProjectKeys:
    """The API keys of a stack, and the tokens of their roles."""

    def __init__(self, stack: Stack) -> None:
        self._known: list[tuple[bytes, ApiKey]] = [
            (stack.publishable_key.encode(), ApiKey("anon", None)),
            *((key.encode(), ApiKey("service_role", None)) for key in stack.secret_keys.values()),
            (stack.anon_key.encode(), ApiKey("anon", stack.anon_key)),
            (stack.service_role_key.encode(), ApiKey("service_role", stack.service_role_key)),
        ]
        self._tokens = RoleTokens(stack.signing_key)

    def find(self, given: bytes) -> ApiKey | None:
        """The key of this text. The time that it takes says nothing about the keys."""
        found = [key for text, key in self._known if secrets.compare_digest(text, given)]
        return found[0] if found else None

    def token(self, key: ApiKey, lifetime: timedelta) -> bytes:
        """The token that services get for a key."""
        return (key.token or self._tokens.of(key.role, lifetime)).encode()


class RoleTokens:
    """Short-lived tokens for roles, each handed out for a while."""

    def __init__(self, signing_key: SigningKey) -> None:
        self._signing_key = signing_key
        self._latest: dict[tuple[Role, timedelta], tuple[float, str]] = {}

    def of(self, role: Role, lifetime: timedelta) -> str:
        """A token that lives nearly as long as `lifetime`."""
        now = time.monotonic()
        until, token = self._latest.get((role, lifetime), (now, ""))
        if until <= now:
            token = mint_role_token(self._signing_key, role, lifetime)
            until = now + REUSED * lifetime.total_seconds()
            self._latest[role, lifetime] = (until, token)
        return token


class RequireApiKey:
    """Passes on requests that carry one of the stack's keys, by header or query.

    Without a user's token the key also names the caller's role.
    """

    def __init__(
        self, app: ASGIApp, keys: ProjectKeys, open_paths: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._keys = keys
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        if scope["path"] in self._open_paths:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"apikey") or _in_query(scope, "apikey")
        key = self._keys.find(given) if given else None
        if not given or key is None:
            refusal = UNKNOWN_KEY if given else NO_KEY
            await refusal.response()(scope, receive, send)
            return
        if _is_secret_in_a_browser(key, headers):
            await SECRET_IN_A_BROWSER.response()(scope, receive, send)
            return
        bearer = _bearer(headers.get(b"authorization", b""))
        # official clients repeat the key there while nobody is signed in
        if bearer is None or secrets.compare_digest(bearer, given):
            token = self._keys.token(key, REQUEST_LIFETIME)
            scope = _with_header(scope, b"authorization", b"Bearer " + token)
        elif is_opaque(bearer.decode("latin-1")):
            await KEY_AS_BEARER.response()(scope, receive, send)
            return
        await self._app(scope, receive, send)


class RealtimeKeys:
    """Hands Realtime's websockets a token in place of an `sb_` key.

    Tokens, also those that are no key of the stack, are left to Realtime, which has its own
    refusals.
    """

    def __init__(self, app: ASGIApp, keys: ProjectKeys, path: str) -> None:
        self._app = app
        self._keys = keys
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket" or not scope["path"].startswith(self._path):
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        by_header = headers.get(b"x-api-key")
        given = by_header or _in_query(scope, "apikey")
        if not given or not is_opaque(given.decode("latin-1")):
            await self._app(scope, receive, send)
            return
        key = self._keys.find(given)
        if key is None or _is_secret_in_a_browser(key, headers):
            refusal = UNKNOWN_KEY if key is None else SECRET_IN_A_BROWSER
            await WebSocket(scope, receive, send).send_denial_response(refusal.response())
            return
        token = self._keys.token(key, SOCKET_LIFETIME)
        swap = _with_header if by_header else _with_query
        name = b"x-api-key" if by_header else b"apikey"
        await self._app(swap(scope, name, token), receive, send)


def _in_query(scope: Scope, name: str) -> bytes | None:
    return HTTPConnection(scope).query_params.get(name, "").encode() or None


def _bearer(authorization: bytes) -> bytes | None:
    """What stands in an Authorization header; None without one."""
    scheme, _, credentials = authorization.partition(b" ")
    return credentials.strip() if scheme.lower() == b"bearer" else authorization or None


def _is_secret_in_a_browser(key: ApiKey, headers: dict[bytes, bytes]) -> bool:
    # as a hosted project tells them; the legacy key it lets pass
    is_secret = key.role == "service_role" and key.token is None
    return is_secret and headers.get(b"user-agent", b"").startswith(b"Mozilla/")


def _with_header(scope: Scope, name: bytes, value: bytes) -> Scope:
    others = [(other, kept) for other, kept in scope["headers"] if other != name]
    return {**scope, "headers": [*others, (name, value)]}


def _with_query(scope: Scope, name: bytes, value: bytes) -> Scope:
    pairs = parse_qsl(scope["query_string"], keep_blank_values=True)
    others = [(other, kept) for other, kept in pairs if other != name]
    return {**scope, "query_string": urlencode([*others, (name, value)]).encode()}
