"""Auth's endpoints on a test's database, with settings of the test's choice, and its inbox."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import psycopg

from rapport.local.stack.running import Stack
from rapport.local.supabase.auth.service import AuthService
from rapport.local.supabase.auth.settings import AuthSettings

EMAIL = "olivia@alpine.example"
PASSWORD = "correct horse"


class Auth:
    """Auth's endpoints on the test's database, called as one would over HTTP."""

    def __init__(self, stack: Stack, http: httpx.AsyncClient, inbox: httpx.AsyncClient) -> None:
        self.stack = stack
        self.http = http
        self._inbox = inbox

    async def call(
        self, method: str, path: str, body: object = None, *, token: str | None = None
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return await self.http.request(method, path, json=body, headers=headers)

    async def admin(self, method: str, path: str, body: object = None) -> httpx.Response:
        return await self.call(method, path, body, token=self.stack.service_role_key)

    async def sign_up(self, email: str = EMAIL, password: str = PASSWORD) -> dict[str, Any]:
        answer = await self.call("POST", "/signup", {"email": email, "password": password})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def sign_in(self, email: str = EMAIL, password: str = PASSWORD) -> httpx.Response:
        return await self.call(
            "POST", "/token?grant_type=password", {"email": email, "password": password}
        )

    async def refresh(self, token: str) -> httpx.Response:
        return await self.call("POST", "/token?grant_type=refresh_token", {"refresh_token": token})

    async def mail(self, to: str = EMAIL) -> dict[str, Any]:
        """The last message to an address or number."""
        answer = await self._inbox.get("/messages", params={"to": to})
        return dict(answer.json()["messages"][0])

    async def mails(self, to: str = EMAIL) -> int:
        """How many messages went to an address or number."""
        answer = await self._inbox.get("/messages", params={"to": to})
        return len(answer.json()["messages"])

    async def follow(self, link: str) -> httpx.URL:
        """Follows a link as a browser does; returns the page that it leads to."""
        answer = await self.http.get(link.removeprefix(f"{self.stack.url}/auth/v1"))
        assert answer.status_code == 303, answer.text
        return httpx.URL(answer.headers["location"])

    def sql(self, statement: str, *parameters: object) -> None:
        """Runs a statement as `postgres`, the role of migrations and seeds."""
        with psycopg.connect(self.stack.db_url("postgres")) as connection:
            connection.execute(statement, parameters)


@asynccontextmanager
async def serving(stack: Stack, settings: AuthSettings | None = None) -> AsyncIterator[Auth]:
    """Auth on a stack's database, without the gateway before it."""
    service = AuthService(stack, settings)
    await service.start()
    transport = httpx.ASGITransport(app=service.app)
    inbox = httpx.ASGITransport(app=service.inbox)
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://auth") as http,
        httpx.AsyncClient(transport=inbox, base_url=stack.url) as messages,
    ):
        yield Auth(stack, http, messages)
    await service.stop()


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of a refusal."""
    return answer.status_code, answer.json()["error_code"]


def fragment(page: httpx.URL) -> dict[str, str]:
    """What a page is told in its fragment."""
    return dict(httpx.QueryParams(page.fragment))
