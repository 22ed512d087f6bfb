"""One user's share of the REST service, so that many requests of one don't slow others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# requests of one user that are at work; the database lets one read and one write
AT_ONCE = 4
# and that wait for these
WAITING = 60
# seconds: a page asks for many things at once, and has them all by then
PATIENCE = 1.0
# after that, each of the user's places rests after a request: so many times as long as this took,
# between these bounds in seconds
REST = 3
SHORTEST_REST = 0.2
LONGEST_REST = 5.0
# seconds that a request waits
LONGEST_WAIT = 10
# seconds for which a refusal is held back: it slows down a client that asks again at once
REFUSAL_SECONDS = 1

_REFUSAL = JSONResponse(
    {
        "code": "PT429",
        "message": "Too many of your requests wait for others.",
        "details": "retry after: 1 s",
        "hint": "Wait for their answers before you send more.",
    },
    status_code=429,
    headers={"retry-after": "1"},
)


class _User:
    """The requests of one user."""

    def __init__(self, places: int) -> None:
        self.places = asyncio.Semaphore(places)
        # requests that wait, are at work, or whose place rests
        self.present = 0
        self.waiting = 0
        # since when somebody has always been waiting
        self.crowded_since: float | None = None


class Shares:
    """An ASGI application that lets a user have a few requests at work, and the others wait.

    `whose` names the user of a bearer token, and None if there is no user to hold back. As long as
    a user's requests come one after the other, or all at once and then no more, none is slowed.
    """

    def __init__(
        self,
        app: ASGIApp,
        whose: Callable[[str], str | None],
        *,
        at_once: int = AT_ONCE,
        waiting: int = WAITING,
        patience: float = PATIENCE,
        longest_wait: float = LONGEST_WAIT,
        refusal_seconds: float = REFUSAL_SECONDS,
    ) -> None:
        self._app = app
        self._whose = whose
        self._at_once = at_once
        self._waiting = waiting
        self._patience = patience
        self._longest_wait = longest_wait
        self._refusal_seconds = refusal_seconds
        self._users: dict[str, _User] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self._user_of(scope)
        if name is None:
            await self._app(scope, receive, send)
            return
        user = self._users.setdefault(name, _User(self._at_once))
        if user.places.locked() and user.waiting >= self._waiting:
            await asyncio.sleep(self._refusal_seconds)
            await _REFUSAL(scope, receive, send)
            return
        user.present += 1
        try:
            await self._enter(user)
        except TimeoutError:
            self._forget(name, user)
            await _REFUSAL(scope, receive, send)
            return
        except BaseException:
            self._forget(name, user)
            raise
        begin = time.monotonic()
        try:
            await self._app(scope, receive, send)
        finally:
            rest = self._rest(user, time.monotonic() - begin)
            asyncio.get_running_loop().call_later(rest, self._leave, name, user)

    def _user_of(self, scope: Scope) -> str | None:
        for header, value in scope.get("headers", ()):
            if header == b"authorization":
                kind, _, token = value.decode("latin-1").partition(" ")
                return self._whose(token.strip()) if kind.lower() == "bearer" else None
        return None

    async def _enter(self, user: _User) -> None:
        if not user.places.locked():
            user.crowded_since = None
            await user.places.acquire()
            return
        if user.waiting == 0:
            user.crowded_since = time.monotonic()
        user.waiting += 1
        try:
            async with asyncio.timeout(self._longest_wait):
                await user.places.acquire()
        finally:
            user.waiting -= 1

    def _rest(self, user: _User, seconds: float) -> float:
        since = user.crowded_since
        if user.waiting == 0 or since is None or time.monotonic() - since < self._patience:
            return 0
        return min(max(REST * seconds, SHORTEST_REST), LONGEST_REST)

    def _leave(self, name: str, user: _User) -> None:
        user.places.release()
        self._forget(name, user)

    def _forget(self, name: str, user: _User) -> None:
        user.present -= 1
        if user.present == 0:
            del self._users[name]
