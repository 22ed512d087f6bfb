"""The local inbox: Auth's mails and SMS, as a page for people and as JSON for programs."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from rapport.local.origins import OwnOrigin
from rapport.local.supabase.auth.http import EXCEPTION_HANDLERS, answer, query

SHOWN = 50
# where `site` has the page for people
PAGE = "/mail/"
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Message(BaseModel):
    """A mail or SMS; `code` and `link` are also in its `body`, which is plain text."""

    id: int
    sent_at: datetime
    channel: Literal["email", "sms"]
    recipient: str = Field(serialization_alias="to")
    subject: str
    body: str
    code: str | None
    link: str | None


class Messages(BaseModel):
    """The last messages, newest first."""

    messages: list[Message]


class Asked(BaseModel):
    """Which messages, from the query: those to an address or number, or of all."""

    to: str | None = Field(default=None, max_length=255)


class Inbox:
    """Serves the messages below /_mail of the gateway, to this machine alone.

    No key is needed, as nothing here is anybody's but the developer's; so pages of other origins
    are refused, which a browser would let ask in the developer's name.
    """

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection[DictRow]], own: OwnOrigin) -> None:
        self._pool = pool
        self._own = own
        self.app = Starlette(
            routes=[
                Route("/", self.page, methods=["GET"]),
                Route("/messages", self.messages, methods=["GET"]),
            ],
            exception_handlers=EXCEPTION_HANDLERS,
        )

    async def page(self, request: Request) -> Response:
        """Leads to the page for people, which is one of the other pages."""
        return self._refusal(request) or RedirectResponse(PAGE, 303, HEADERS)

    async def messages(self, request: Request) -> Response:
        """The last messages as JSON; `?to=` those to an address or number."""
        if refusal := self._refusal(request):
            return refusal
        return answer(await self._last(query(request, Asked).to), headers=HEADERS)

    def _refusal(self, request: Request) -> Response | None:
        if self._own.sent(request):
            return None
        return PlainTextResponse(
            "The local inbox answers only to this machine, and to no page of another origin.\n",
            403,
        )

    async def _last(self, to: str | None) -> Messages:
        async with self._pool.connection() as conn:
            cursor = await conn.execute(
                """
                select *
                from local_inbox.messages
                where %(to)s::text is null or recipient = %(to)s
                order by id desc
                limit %(shown)s
                """,
                {"to": to.lower().removeprefix("+") if to else None, "shown": SHOWN},
            )
            rows = await cursor.fetchall()
        return Messages(messages=[Message.model_validate(row) for row in rows])
