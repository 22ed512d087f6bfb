"""The project's REST interface as one signed-in user, on the official client."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import TypeVar
from uuid import UUID

import httpx
from postgrest import APIResponse
from postgrest.exceptions import APIError
from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError
from supabase import AsyncClient, AsyncClientOptions

from rapport.client.events import Event, Record
from rapport.client.tokens import Tokens
from rapport.errors import (
    NotSignedIn,
    StoreError,
    StoreUnavailable,
    Unprocessable,
    from_users_postgrest,
)

PAGE = 1000
IDS_IN_A_URL = 100

# classes of Postgres' error codes: wrong data, broken constraints
_OF_VALUES = {"22", "23"}

# levels of nesting; our own JSON has about twelve
_DEEPEST = 100
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
# of the task's latest call
_response: ContextVar[httpx.Response | None] = ContextVar("response", default=None)

AnswerT = TypeVar("AnswerT")

logger = logging.getLogger(__name__)


class Topic(BaseModel):
    """A private topic that the user may join."""

    topic: str
    # account, customer, conversation, or a kind of presence or typing
    kind: str
    id: UUID


class ChangesPage(BaseModel):
    """One page of `changes_since`."""

    cursor: str
    changes: list[Event]
    more: bool
    resync: bool


class _RawPage(BaseModel):
    cursor: str
    changes: list[Record]
    more: bool
    resync: bool


_TOPICS = TypeAdapter(list[Topic])
_RECORDS = TypeAdapter(list[Record])
_RECORD = TypeAdapter(Record)


class Server:
    """Calls the API as the user of `tokens`.

    Every method raises NotSignedIn, NotAllowed, NotFound, Conflict or Unprocessable when the
    database refuses, and StoreUnavailable when it can't be reached.
    """

    def __init__(self, url: str, key: str, tokens: Tokens, timeout: float) -> None:
        self._tokens = tokens
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout, connect=min(timeout, 5)),
            event_hooks={"response": [_keep_response]},
        )
        self._client = AsyncClient(
            url,
            key,
            AsyncClientOptions(
                httpx_client=self._http, auto_refresh_token=False, postgrest_client_retry=False
            ),
        )

    @property
    def realtime_url(self) -> str:
        """The address of the websocket."""
        return str(self._client.realtime_url)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def my_topics(self, conversation_id: UUID | None = None) -> list[Topic]:
        """The topics that the user may join; with a conversation, also its topics."""
        argument = {"conversation_id": str(conversation_id) if conversation_id else None}
        return _understood(_TOPICS, await self._rpc("my_topics", argument))

    async def owners(self) -> list[dict[str, UUID]]:
        """The filters for the rows that the user sees: by account as staff, by customer as a
        customer.
        """
        columns = {"account": "account_id", "customer": "customer_id"}
        mine = await self.my_topics()
        return [{columns[topic.kind]: topic.id} for topic in mine if topic.kind in columns]

    async def changes_since(self, cursor: str | None) -> ChangesPage:
        """The changes since a cursor; without a cursor, the first cursor."""
        answer = await self._rpc("changes_since", {"cursor": cursor, "page_size": PAGE})
        try:
            # all at once: entry by entry takes twice as long
            return ChangesPage.model_validate(answer)
        except ValidationError:
            page = _understood(TypeAdapter(_RawPage), answer)
        changes = []
        for entry in page.changes:
            try:
                changes.append(Event.model_validate(entry))
            except ValidationError:
                # of a newer database: as rows it can be read
                logger.warning("an entry of the change log can't be read")
        resync = page.resync or len(changes) < len(page.changes)
        return ChangesPage(cursor=page.cursor, changes=changes, more=page.more, resync=resync)

    async def pages(
        self, table: str, equals: Mapping[str, object], key: str = "id", after: object = None
    ) -> AsyncIterator[list[Record]]:
        """All rows whose columns equal the given values, in pages ordered by a unique column."""
        last = after
        while True:
            page = await self._page(table, equals, key, last)
            yield page
            if len(page) < PAGE:
                return
            last = page[-1][key]

    async def rows(self, table: str, ids: list[UUID]) -> list[Record]:
        """The rows with these ids that the user may see."""
        found: list[Record] = []
        for start in range(0, len(ids), IDS_IN_A_URL):
            some = ids[start : start + IDS_IN_A_URL]
            rows = _understood(_RECORDS, await self._call(partial(self._rows, table, some)))
            found += rows
        return found

    async def latest(
        self,
        table: str,
        equals: Mapping[str, object],
        order: str,
        most: int,
    ) -> list[Record]:
        """The rows with the highest values of a column, which equal the given values."""

        def ask() -> Awaitable[APIResponse]:
            query = self._client.from_(table).select("*")
            for column, value in equals.items():
                query = query.eq(column, str(value))
            return query.order(order, desc=True).limit(most).execute()

        return _understood(_RECORDS, await self._call(ask))

    async def call(
        self, function: str, answer: TypeAdapter[AnswerT], **arguments: JsonValue
    ) -> AnswerT:
        """Calls a function of the database and reads its answer."""
        return _understood(answer, await self._rpc(function, arguments))

    async def post_message(self, **fields: JsonValue) -> Record:
        """Sends a message and returns its row. The same `client_ref` sends it once."""
        return _understood(_RECORD, await self._rpc("post_message", dict(fields)))

    async def mark_read(self, conversation_id: UUID, up_to_seq: int) -> int:
        """Moves the user's read marker forward and returns its position."""
        arguments: Record = {"conversation_id": str(conversation_id), "up_to_seq": up_to_seq}
        return _understood(TypeAdapter(int), await self._rpc("mark_read", arguments))

    async def mark_unread(self, conversation_id: UUID) -> int:
        """Moves the user's read marker back and returns its position."""
        arguments: Record = {"conversation_id": str(conversation_id)}
        return _understood(TypeAdapter(int), await self._rpc("mark_unread", arguments))

    async def stay_at_desk(self, account_id: UUID) -> None:
        """Says that the user is at the desk of an account."""
        await self._rpc("stay_at_desk", {"account_id": str(account_id)})

    async def stay_at_conversation(self, conversation_id: UUID) -> None:
        """Says that the user looks at a conversation."""
        await self._rpc("stay_at_conversation", {"conversation_id": str(conversation_id)})

    async def edit_profile(self, customer_id: UUID, fields: Record) -> Record:
        """Writes fields of the user's own profile and returns the new profile."""
        rows = await self._call(
            lambda: (
                self._client.from_("my_profile").update(fields).eq("id", str(customer_id)).execute()
            )
        )
        return _understood(_RECORDS, rows)[0]

    def _rows(self, table: str, ids: list[UUID]) -> Awaitable[APIResponse]:
        some = [str(row_id) for row_id in ids]
        return self._client.from_(table).select("*").in_("id", some).execute()

    async def _page(
        self, table: str, equals: Mapping[str, object], key: str, last: object
    ) -> list[Record]:
        def ask() -> Awaitable[APIResponse]:
            query = self._client.from_(table).select("*")
            for column, value in equals.items():
                query = query.eq(column, str(value))
            if last is not None:
                query = query.gt(key, str(last))
            return query.order(key).limit(PAGE).execute()

        return _understood(_RECORDS, await self._call(ask))

    async def _rpc(self, function: str, arguments: Mapping[str, JsonValue]) -> object:
        return await self._call(lambda: self._client.rpc(function, dict(arguments)).execute())

    async def _call(self, call: Callable[[], Awaitable[APIResponse]]) -> object:
        # before the request is made: one that exists already has the headers of before
        self._client.postgrest.auth(await self._tokens.current())
        try:
            answer: object = (await call()).data
            # the official client returns rows that it can't parse as text
            return _read_odd_json() if isinstance(answer, str) else answer
        except APIError as error:
            response = _response.get()
            # errors of a gateway have an HTTP status and no code
            code = str(response.status_code) if error.code is None and response else error.code
            refusal = from_users_postgrest(code, error.message, error.details, error.hint)
            if isinstance(refusal, NotSignedIn):
                self._tokens.discard()
            elif type(refusal) is StoreError and (error.code or "")[:2] in _OF_VALUES:
                # for example text with a NUL character: every repetition would be refused
                raise Unprocessable(str(refusal)) from None
            if refusal.retry_after is None and response is not None:
                # a gateway says it in the header alone
                after = response.headers.get("retry-after", "")
                refusal.retry_after = int(after) if after.isdecimal() else None
            raise refusal from None
        except httpx.TransportError as error:
            raise StoreUnavailable(
                f"The database can't be reached ({type(error).__name__})."
            ) from error
        except (ValueError, RecursionError):
            return _read_odd_json()
        finally:
            _response.set(None)


async def _keep_response(response: httpx.Response) -> None:
    _response.set(response)


def _read_odd_json() -> JsonValue:
    """Parses the answer that the official client has just got and could not parse.

    A strange value in one row, such as a customer's preferences, must not hide the other rows. A
    number such as 1e5000, which the database writes with all its digits, becomes infinity. A value
    nested deeper than `_DEEPEST` becomes null.
    """
    response = _response.get()
    try:
        answer: JsonValue = json.loads(
            _without_depths(response.text if response else ""),
            parse_int=lambda digits: int(digits) if len(digits) < 400 else float(digits),
        )
    except ValueError:
        raise StoreError("The database's answer is not JSON.") from None
    return answer


def _without_depths(text: str) -> str:
    kept: list[str] = []
    start = depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == _DEEPEST:
                kept += (text[start : token.start()], "null")
        elif token[0] in "]}":
            if depth == _DEEPEST:
                start = token.end()
            depth -= 1
    return "".join((*kept, text[start:]))


def _understood(adapter: TypeAdapter[AnswerT], answer: object) -> AnswerT:
    try:
        return adapter.validate_python(answer)
    except ValidationError as error:
        # the answer may hold a customer's data
        raise StoreError(
            f"The database's answer can't be read ({error.error_count()} field(s))."
        ) from None
