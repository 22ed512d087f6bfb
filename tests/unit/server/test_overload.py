"""Which requests are served, wait, are refused and are dropped, without a network."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from rapport.server.overload import Bounded

SCOPE: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}


class Application:
    """Answers 200 when it is told to; remembers whom it has served, and who was cut off."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.served: list[str] = []
        self.cut_off: list[str] = []

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.served.append(scope["name"])
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.cut_off.append(scope["name"])
            raise
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})


class Client:
    """One request, as a server would put it to an application."""

    def __init__(self, name: str, app: Bounded) -> None:
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self.status: int | None = None
        self.headers: dict[bytes, bytes] = {}
        self.request = asyncio.ensure_future(
            app({**SCOPE, "name": name}, self._incoming.get, self._send)
        )

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = dict(message["headers"])
        else:
            self.leave()  # as servers say at the end of an answer

    def leave(self) -> None:
        self._incoming.put_nowait({"type": "http.disconnect"})


async def settled() -> None:
    """Lets everything run that can run."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_beyond_the_bounds_a_request_is_refused_and_told_when_to_try_again() -> None:
    application = Application()
    app = Bounded(application, at_once=1, waiting=1)
    served, waiting = Client("served", app), Client("waiting", app)
    await settled()
    refused = Client("refused", app)
    await refused.request
    assert (refused.status, refused.headers[b"retry-after"]) == (503, b"1")
    application.may_answer.set()
    await asyncio.gather(served.request, waiting.request)
    assert (served.status, waiting.status) == (200, 200)
    assert application.served == ["served", "waiting"]


async def test_who_waits_too_long_is_refused_and_makes_room() -> None:
    application = Application()
    app = Bounded(application, at_once=1, waiting=1, seconds=0)
    served, late = Client("served", app), Client("late", app)
    await late.request
    assert late.status == 503
    application.may_answer.set()
    await served.request
    again = Client("again", app)
    await again.request
    assert again.status == 200


@pytest.mark.parametrize("ends_with_client", [True, False])
async def test_who_leaves_while_waiting_is_never_served(ends_with_client: bool) -> None:
    application = Application()
    app = Bounded(application, at_once=1, waiting=1, ends_with_client=ends_with_client)
    served, left = Client("served", app), Client("left", app)
    await settled()
    left.leave()
    await left.request
    # in its place another may wait
    next_ = Client("next", app)
    await settled()
    application.may_answer.set()
    await asyncio.gather(served.request, next_.request)
    assert application.served == ["served", "next"]
    assert left.status is None


async def test_who_leaves_while_served_makes_room_at_once() -> None:
    application = Application()
    app = Bounded(application, at_once=1, waiting=0)
    left = Client("left", app)
    await settled()
    left.leave()
    await left.request
    assert application.cut_off == ["left"]
    application.may_answer.set()
    next_ = Client("next", app)
    await next_.request
    assert next_.status == 200


async def test_what_can_not_be_cut_off_keeps_its_place_until_it_ends() -> None:
    application = Application()
    app = Bounded(application, at_once=1, waiting=0, ends_with_client=False)
    left = Client("left", app)
    await settled()
    left.leave()
    await settled()
    refused = Client("refused", app)
    await refused.request
    assert refused.status == 503
    application.may_answer.set()
    await left.request
    assert application.cut_off == []


async def test_an_error_of_the_application_is_the_server_s_to_see() -> None:
    async def crash(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError

    app = Bounded(crash, at_once=1, waiting=0)
    for _ in range(2):  # and its place is free again
        with pytest.raises(ZeroDivisionError):
            await Client("crash", app).request
