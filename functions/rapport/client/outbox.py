"""Messages that wait to be sent, in a file that survives a crash.

Several processes may share the file. One of them claims the earliest message of each chat for some
seconds. If it dies, another process sends the message again, and the server recognizes it by
`client_ref`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Self
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, JsonValue, model_validator

_BUSY_SECONDS = 5.0
# the fields of a message that have no column of their own
_FIELDS = {"booking_id", "customer_id", "message", "type", "content", "reply_to"}
# longer than any request takes
CLAIM_SECONDS = 30.0

_SCHEMA = """
create table if not exists messages (
    number          integer primary key autoincrement,
    client_ref      text not null unique,
    user_id         text not null,
    -- the id that names the chat: of a conversation, a booking or a customer
    conversation_id text not null,
    fields          text not null,
    written_at      real not null,
    -- why the server does not take it; it is not sent again
    refusal         text,
    claimed_by      text,
    claimed_until   real not null default 0
);
create index if not exists messages_conversation_idx
    on messages (user_id, conversation_id, number);
"""


class PendingMessage(BaseModel):
    """A message that the server does not have yet, or has refused.

    `written_at` is in seconds since 1970, by this machine's clock.
    """

    model_config = ConfigDict(frozen=True)

    client_ref: str
    # one of three ways to name the chat; by a booking, or by a customer in the portal, the chat
    # need not exist yet
    conversation_id: UUID | None = None
    booking_id: UUID | None = None
    customer_id: UUID | None = None
    message: str
    type: str = "text"
    content: JsonValue = None
    reply_to: UUID | None = None
    written_at: float
    refusal: str | None = None

    @model_validator(mode="after")
    def _goes_to_one_chat(self) -> Self:
        if len(self._chats) != 1:
            raise ValueError("Give exactly one of conversation_id, booking_id and customer_id.")
        return self

    @property
    def _chats(self) -> list[UUID]:
        named = (self.conversation_id, self.booking_id, self.customer_id)
        return [chat for chat in named if chat is not None]

    @property
    def chat(self) -> UUID:
        """The id that names the chat. Messages with the same id are sent in order."""
        return self._chats[0]

    @property
    def state(self) -> Literal["pending", "refused"]:
        """Whether the message is waiting or was refused."""
        return "pending" if self.refusal is None else "refused"


class Outbox:
    """The messages of one user in the file. Messages of other users are neither shown nor sent."""

    def __init__(self, path: Path, user_id: UUID) -> None:
        self._user = str(user_id)
        self._me = uuid4().hex
        # worker threads call it, one at a time
        self._lock = threading.Lock()
        # nobody else may read the messages; sqlite's extra files get the same mode
        path.touch(0o600)
        for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            if file.exists():
                file.chmod(0o600)
        self._db = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._db.execute("pragma journal_mode = wal")
        # a message that was shown as kept must survive a power cut
        self._db.execute("pragma synchronous = full")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def put(self, message: PendingMessage) -> None:
        """Adds a message after all others of its chat."""
        fields = message.model_dump_json(include=_FIELDS)
        with self._transaction():
            self._db.execute(
                "insert into messages (client_ref, user_id, conversation_id, fields, written_at)"
                " values (?, ?, ?, ?, ?)",
                (
                    message.client_ref,
                    self._user,
                    str(message.chat),
                    fields,
                    message.written_at,
                ),
            )

    def all(self) -> list[PendingMessage]:
        """All messages, in the order in which they were written."""
        with self._lock:
            rows = self._db.execute(
                "select client_ref, conversation_id, fields, written_at, refusal"
                " from messages where user_id = ? order by number",
                (self._user,),
            ).fetchall()
        return [_pending(row) for row in rows]

    def claim(self, but: Sequence[UUID] = ()) -> list[PendingMessage]:
        """Claims the next message of each chat except `but`, so that only this process sends it."""
        now = time.time()
        with self._transaction():
            rows = self._db.execute(
                """
                update messages
                set claimed_by = ?, claimed_until = ?
                where number in (
                    select min(number)
                    from messages
                    where user_id = ? and refusal is null
                    group by conversation_id
                )
                and conversation_id not in (select value from json_each(?))
                and (
                    claimed_by is null
                    or claimed_until < ?
                    -- by a clock that has been put back since
                    or claimed_until > ?
                )
                returning client_ref, conversation_id, fields, written_at, refusal
                """,
                (
                    self._me,
                    now + CLAIM_SECONDS,
                    self._user,
                    json.dumps([str(chat) for chat in but]),
                    now,
                    now + CLAIM_SECONDS,
                ),
            ).fetchall()
        return [_pending(row) for row in rows]

    def release(self, client_ref: str) -> None:
        """Gives up the claim to a message that could not be sent."""
        self._write(
            "update messages set claimed_by = null, claimed_until = 0"
            " where client_ref = ? and claimed_by = ?",
            client_ref,
            self._me,
        )

    def release_all(self) -> None:
        """Gives up all claims of this process."""
        self._write(
            "update messages set claimed_by = null, claimed_until = 0 where claimed_by = ?",
            self._me,
        )

    def refuse(self, client_ref: str, reason: str) -> None:
        """Keeps a message together with the reason of its refusal."""
        self._write(
            "update messages set refusal = ?, claimed_by = null where client_ref = ?",
            reason,
            client_ref,
        )

    def remove(self, client_ref: str) -> None:
        """Deletes a message that the server has, or that the user gave up."""
        self._write(
            "delete from messages where client_ref = ? and user_id = ?", client_ref, self._user
        )

    def _write(self, statement: str, *values: str) -> None:
        with self._transaction():
            self._db.execute(statement, values)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._db.execute("rollback")
                raise
            self._db.execute("commit")


def _pending(row: tuple[str, str, str, float, str | None]) -> PendingMessage:
    client_ref, chat, fields_as_text, written_at, refusal = row
    fields = json.loads(fields_as_text)
    if not (fields.get("booking_id") or fields.get("customer_id")):
        fields["conversation_id"] = chat
    return PendingMessage.model_validate(
        {
            **fields,
            "client_ref": client_ref,
            "written_at": written_at,
            "refusal": refusal,
        }
    )
