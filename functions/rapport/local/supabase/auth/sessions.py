"""Sessions: one row for each sign-in, and its chain of refresh tokens.

Access tokens are checked by their signature alone. So the end of a session ends its refresh tokens,
not its access tokens.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import DictRow

from rapport.local.supabase.auth.errors import AuthError, user_not_found

Connection = AsyncConnection[DictRow]


class Grant(NamedTuple):
    """The right to an access token: its user, its session, and the refresh token."""

    user_id: UUID
    session_id: UUID
    signed_in_at: datetime
    method: str
    refresh_token: str


async def start(
    conn: Connection,
    user_id: UUID,
    *,
    method: str,
    user_agent: str | None,
    address: str | None,
) -> Grant:
    """Opens a session for a user who signed in by `method`. `address` is the client's IP.

    Raises AuthError (user_not_found) if the user was deleted meanwhile.
    """
    cursor = await conn.execute(
        """
        with signed_in as (
            update auth.users
            set last_sign_in_at = now(), updated_at = now()
            where id = %(user_id)s
            returning id
        )
        insert into auth.sessions (id, user_id, created_at, updated_at, aal, user_agent, ip)
        select gen_random_uuid(), id, now(), now(), 'aal1', %(user_agent)s, %(address)s::inet
        from signed_in
        returning id, created_at
        """,
        {"user_id": user_id, "user_agent": user_agent, "address": address},
    )
    row = await cursor.fetchone()
    if row is None:
        raise user_not_found()
    await conn.execute(
        """
        insert into auth.mfa_amr_claims (
            id, session_id, created_at, updated_at, authentication_method
        )
        values (gen_random_uuid(), %s, now(), now(), %s)
        """,
        [row["id"], method],
    )
    token = await _issue(conn, user_id, row["id"], parent=None)
    return Grant(user_id, row["id"], row["created_at"], method, token)


async def renew(
    conn: Connection, token: str, *, reuse_interval: int, rotates: bool = True
) -> Grant | None:
    """Exchanges a refresh token for the session's next one, or keeps it if tokens don't rotate.

    A token that was already exchanged returns the session's current token if that one is its direct
    successor, or if the exchange is not older than the reuse interval (in seconds). Otherwise it
    counts as stolen: all tokens of the session are revoked and None is returned, so that the caller
    commits before refusing. Raises AuthError for an unknown token and for an ended session.

    Source of the rule: Supabase's "User sessions", on reuse detection.
    """
    # locks the session: one exchange at a time; tokens are read after that
    cursor = await conn.execute(
        """
        select
            s.id,
            s.user_id,
            s.created_at,
            s.not_after < now() as ended,
            coalesce(
                (
                    select a.authentication_method
                    from auth.mfa_amr_claims a
                    where a.session_id = s.id
                    order by a.created_at
                    limit 1
                ),
                'password'
            ) as method
        from auth.sessions s
        where s.id = (select session_id from auth.refresh_tokens where token = %s)
        for update of s
        """,
        [token],
    )
    session = await cursor.fetchone()
    if session is None:
        raise _token_not_found()
    if session["ended"]:
        raise AuthError(400, "session_expired", "Invalid Refresh Token: Session Expired")
    cursor = await conn.execute(
        """
        select
            given.revoked,
            current.token as current,
            current.parent = given.token
                or given.updated_at > now() - make_interval(secs => %(interval)s) as repeatable
        from auth.refresh_tokens given
        left join auth.refresh_tokens current
            on current.session_id = given.session_id
            and not current.revoked
        where given.token = %(token)s
        order by current.id desc
        limit 1
        """,
        {"token": token, "interval": reuse_interval},
    )
    found = await cursor.fetchone()
    if found is None:
        raise _token_not_found()
    if not found["revoked"] and not rotates:
        successor = token
    elif not found["revoked"]:
        successor = await _exchange(conn, session["user_id"], session["id"], token)
    elif found["current"] and found["repeatable"]:
        successor = found["current"]
    else:
        await conn.execute(
            """
            update auth.refresh_tokens
            set revoked = true, updated_at = now()
            where session_id = %s
                and not revoked
            """,
            [session["id"]],
        )
        return None
    return Grant(
        session["user_id"], session["id"], session["created_at"], session["method"], successor
    )


async def exists(conn: Connection, session_id: UUID) -> bool:
    """Whether the session exists and was not ended by a logout."""
    cursor = await conn.execute("select from auth.sessions where id = %s", [session_id])
    return cursor.rowcount == 1


async def began(conn: Connection, session_id: UUID) -> datetime | None:
    """When the session was opened; None for one that was ended."""
    cursor = await conn.execute("select created_at from auth.sessions where id = %s", [session_id])
    row = await cursor.fetchone()
    return row["created_at"] if row else None


async def end(
    conn: Connection,
    user_id: UUID,
    session_id: UUID | None,
    scope: Literal["global", "local", "others"],
) -> None:
    """Ends a user's sessions and their refresh tokens: all, only the named one, or all others."""
    await conn.execute(
        """
        delete from auth.sessions
        where user_id = %(user_id)s
            and case %(scope)s
                when 'local' then id = %(session_id)s
                when 'others' then id is distinct from %(session_id)s
                else true
            end
        """,
        {"user_id": user_id, "session_id": session_id, "scope": scope},
    )


async def _exchange(conn: Connection, user_id: UUID, session_id: UUID, token: str) -> str:
    await conn.execute(
        "update auth.refresh_tokens set revoked = true, updated_at = now() where token = %s",
        [token],
    )
    await conn.execute(
        """
        update auth.sessions
        set refreshed_at = now() at time zone 'UTC', updated_at = now()
        where id = %s
        """,
        [session_id],
    )
    return await _issue(conn, user_id, session_id, parent=token)


async def _issue(conn: Connection, user_id: UUID, session_id: UUID, parent: str | None) -> str:
    token = secrets.token_urlsafe(16)
    await conn.execute(
        """
        insert into auth.refresh_tokens (
            instance_id, token, user_id, revoked, created_at, updated_at, parent, session_id
        )
        values (
            '00000000-0000-0000-0000-000000000000', %s, %s, false, now(), now(), %s, %s
        )
        """,
        [token, str(user_id), parent, session_id],
    )
    return token


def _token_not_found() -> AuthError:
    return AuthError(
        400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found"
    )
