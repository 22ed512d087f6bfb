"""One-time codes: six digits in a mail or message, and the same as the token of a link.

A code is valid once, for the time that the settings give it, and until the next of its kind. The
database holds a hash of the link's token, and the token comes from address and code by a secret of
the stack: who reads the table can neither follow a link nor find the six digits by trying.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection
from datetime import timedelta
from typing import Literal, NamedTuple
from uuid import UUID, uuid4

from rapport.local.supabase.auth.errors import AuthError
from rapport.local.supabase.auth.users import Connection

# the prefix by which a link says that it leads to a code for its client, not to tokens
PKCE_PREFIX = "pkce_"

Kind = Literal[
    "confirmation_token",
    "recovery_token",
    "reauthentication_token",
    "email_change_token_new",
    "email_change_token_current",
    "phone_change_token",
]
SentAt = Literal[
    "confirmation_sent_at",
    "recovery_sent_at",
    "reauthentication_sent_at",
    "email_change_sent_at",
    "phone_change_sent_at",
]


class Code(NamedTuple):
    """A new code: the digits for a person, and the token for a link."""

    digits: str
    token: str


class Found(NamedTuple):
    """A valid code that was presented: its user, its kind and its address."""

    user_id: UUID
    kind: str
    address: str


class CodeBook:
    """The codes of one stack. `expires_in` in seconds."""

    def __init__(self, secret: str, *, length: int, expires_in: int) -> None:
        self._secret = secret.encode()
        self._length = length
        self._expires_in = expires_in

    async def issue(
        self, conn: Connection, user_id: UUID, kind: Kind, address: str, *, pkce: bool = False
    ) -> Code:
        """Makes a code for an address, in place of the user's last one of this kind."""
        digits = "".join(secrets.choice("0123456789") for _ in range(self._length))
        token = (PKCE_PREFIX if pkce else "") + self._token(address, digits)
        await conn.execute(
            """
            insert into auth.one_time_tokens (id, user_id, token_type, token_hash, relates_to)
            values (%s, %s, %s, %s, %s)
            on conflict (user_id, token_type) do update
            set
                token_hash = excluded.token_hash,
                relates_to = excluded.relates_to,
                created_at = excluded.created_at,
                updated_at = excluded.updated_at
            """,
            [uuid4(), user_id, kind, _at_rest(token), address],
        )
        return Code(digits, token)

    async def use_token(
        self, conn: Connection, token: str, kinds: Collection[Kind]
    ) -> Found | None:
        """Uses up the code of a link, if it is valid."""
        return await self._use(conn, [_at_rest(token)], kinds)

    async def use_digits(
        self, conn: Connection, address: str, digits: str, kinds: Collection[Kind]
    ) -> Found | None:
        """Uses up a code that a person has typed, if it is valid for this address."""
        token = self._token(address, digits)
        return await self._use(conn, [_at_rest(token), _at_rest(PKCE_PREFIX + token)], kinds)

    async def _use(
        self, conn: Connection, hashes: list[str], kinds: Collection[Kind]
    ) -> Found | None:
        cursor = await conn.execute(
            """
            delete from auth.one_time_tokens
            where token_hash = any(%s)
                and token_type = any(%s::auth.one_time_token_type[])
                and created_at > now() at time zone 'UTC' - make_interval(secs => %s)
            returning user_id, token_type::text, relates_to, token_hash
            """,
            [hashes, list(kinds), self._expires_in],
        )
        row = await cursor.fetchone()
        if row is None or not any(hmac.compare_digest(row["token_hash"], h) for h in hashes):
            return None
        return Found(row["user_id"], row["token_type"], row["relates_to"])

    def _token(self, address: str, digits: str) -> str:
        return hmac.new(self._secret, f"{address}\n{digits}".encode(), "sha224").hexdigest()


async def note_sent(
    conn: Connection, user_id: UUID, column: SentAt, every: timedelta | None, refusal: str
) -> None:
    """Notes the time of a message in the user's row.

    Raises AuthError (429, with the code `refusal`) if the last one is not yet `every` ago.
    """
    # column: one of our own names, see SentAt
    cursor = await conn.execute(
        f"""
        update auth.users
        set {column} = now(), updated_at = now()
        where id = %(id)s
            and (%(every)s::interval is null
                or {column} is null
                or {column} <= now() - %(every)s::interval)
        """,  # noqa: S608 - see above
        {"id": user_id, "every": every},
    )
    if cursor.rowcount == 0:
        seconds = max(1, round((every or timedelta()).total_seconds()))
        raise AuthError(
            429,
            refusal,
            f"For security purposes, you can only request this after {seconds} seconds.",
        )


async def forget(conn: Connection, user_id: UUID, kinds: Collection[Kind]) -> None:
    """Makes a user's codes of these kinds invalid."""
    await conn.execute(
        """
        delete from auth.one_time_tokens
        where user_id = %s and token_type = any(%s::auth.one_time_token_type[])
        """,
        [user_id, list(kinds)],
    )


def _at_rest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
