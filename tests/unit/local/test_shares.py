"""Which requests of one user run, wait, rest and are refused, without a network."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from rapport.local.supabase.shares import Shares


class Application:
    """Answers 200 once it may; remembers whom it has begun to serve."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.may_answer = asyncio.Semaphore(0)

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self.begun.append(scope["path"])
        await self.may_answer.acquire()
        await send({"type": "http.response.start", "status": 200, "headers": []})


def ask(shares: Shares, user: str, path: str) -> asyncio.Task[int]:
    """A request's status."""

    async def status() -> int:
        answers: list[Message] = []

        async def send(message: Message) -> None:
            answers.append(message)

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        headers = [(b"authorization", f"Bearer {user}".encode())]
        await shares({"type": "http", "path": path, "headers": headers}, receive, send)
        found: int = answers[0]["status"]
        return found

    return asyncio.create_task(status())


async def settled() -> None:
    """Lets everything run that can run."""
    for _ in range(20):
        await asyncio.sleep(0)


def user_of(token: str) -> str | None:
    return None if token == "service" else token


async def test_one_users_requests_wait_and_others_do_not() -> None:
    app = Application()
    shares = Shares(app, user_of, at_once=2)

    asked = [ask(shares, "a", f"a{n}") for n in range(4)]
    await settled()
    asked += [ask(shares, "b", "b"), *(ask(shares, "service", f"s{n}") for n in range(3))]
    await settled()
    assert app.begun == ["a0", "a1", "b", "s0", "s1", "s2"]

    for _ in asked:
        app.may_answer.release()
    assert await asyncio.gather(*asked) == [200] * 8
    assert app.begun[-2:] == ["a2", "a3"]


async def test_a_page_that_asks_for_much_at_once_is_not_slowed() -> None:
    app = Application()
    shares = Shares(app, user_of, at_once=1)
    asked = [ask(shares, "a", f"a{n}") for n in range(3)]
    for n in range(3):
        await settled()
        assert len(app.begun) == n + 1
        app.may_answer.release()
    assert await asyncio.gather(*asked) == [200] * 3


async def test_a_place_rests_when_requests_crowd() -> None:
    app = Application()
    shares = Shares(app, user_of, at_once=1, patience=0)
    asked = [ask(shares, "a", f"a{n}") for n in range(3)]
    await settled()

    app.may_answer.release()
    await settled()
    assert asked[0].done()
    assert app.begun == ["a0"]

    app.may_answer.release()
    app.may_answer.release()
    assert await asyncio.gather(*asked) == [200] * 3


@pytest.mark.parametrize(("waiting", "longest_wait"), [(0, 10), (5, 0)])
async def test_what_waits_in_vain_is_refused(waiting: int, longest_wait: float) -> None:
    app = Application()
    shares = Shares(
        app,
        user_of,
        at_once=1,
        waiting=waiting,
        longest_wait=longest_wait,
        refusal_seconds=0,
    )
    first = ask(shares, "a", "a0")
    await settled()

    assert await ask(shares, "a", "a1") == 429
    app.may_answer.release()
    assert await first == 200
    # and nothing is left of it
    app.may_answer.release()
    assert await ask(shares, "a", "a2") == 200


async def test_a_client_that_leaves_while_it_waits_is_forgotten() -> None:
    app = Application()
    shares = Shares(app, user_of, at_once=1)
    first = ask(shares, "a", "a0")
    await settled()
    left = ask(shares, "a", "a1")
    await settled()
    left.cancel()
    app.may_answer.release()
    assert await first == 200
    app.may_answer.release()
    assert await ask(shares, "a", "a2") == 200
    assert app.begun == ["a0", "a2"]
