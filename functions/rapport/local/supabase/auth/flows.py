"""PKCE: a link in a mail brings a code, which only the client that asked for the mail can use."""

from __future__ import annotations

import base64
import hashlib
import hmac
from uuid import UUID, uuid4

from pydantic import BaseModel

from rapport.local.supabase.auth.errors import AuthError
from rapport.local.supabase.auth.models import Challenge
from rapport.local.supabase.auth.users import Connection

# a code is used at once; the way from mail to link may take as long as the link is valid
CODE_SECONDS = 300


async def begin(conn: Connection, user_id: UUID, challenge: Challenge, method: str) -> None:
    """Remembers the challenge for a link of this method, such as `magiclink`."""
    if not challenge.is_pkce:
        return
    await conn.execute(
        "delete from auth.flow_state where user_id = %s and authentication_method = %s",
        [user_id, method],
    )
    await conn.execute(
        """
        insert into auth.flow_state (
            id, user_id, auth_code, code_challenge_method, code_challenge, provider_type,
            created_at, updated_at, authentication_method
        )
        values (
            %s, %s, '', lower(%s)::auth.code_challenge_method, %s, %s, now(), now(), %s
        )
        """,
        [
            uuid4(),
            user_id,
            challenge.code_challenge_method,
            challenge.code_challenge,
            method,
            method,
        ],
    )


async def issue_code(conn: Connection, user_id: UUID, method: str) -> str:
    """Makes the code for a link that was followed. Raises AuthError if no client asked."""
    code = str(uuid4())
    cursor = await conn.execute(
        """
        update auth.flow_state
        set auth_code = %s, auth_code_issued_at = now(), updated_at = now()
        where user_id = %s and authentication_method = %s
        """,
        [_digest(code), user_id, method],
    )
    if cursor.rowcount == 0:
        raise AuthError(422, "flow_state_not_found", "No valid flow state found for user.")
    return code


class Exchange(BaseModel):
    """A code that was exchanged: whose it was, and by what kind of link."""

    user_id: UUID
    authentication_method: str


async def exchange(conn: Connection, code: str, verifier: str) -> Exchange:
    """Uses up a code. Raises AuthError for one that is unknown, late, or another client's."""
    cursor = await conn.execute(
        """
        select
            *,
            auth_code_issued_at < now() - make_interval(secs => %s) as expired
        from auth.flow_state
        where auth_code = %s
        for update
        """,
        [CODE_SECONDS, _digest(code)],
    )
    flow = await cursor.fetchone()
    if flow is None:
        raise AuthError(
            404, "flow_state_not_found", "invalid flow state, no valid flow state found"
        )
    if flow["expired"]:
        raise AuthError(422, "flow_state_expired", "invalid flow state, flow state has expired")
    if not _meets(flow["code_challenge"], flow["code_challenge_method"], verifier):
        raise AuthError(
            400,
            "bad_code_verifier",
            "code challenge does not match previously saved code verifier",
        )
    await conn.execute("delete from auth.flow_state where id = %s", [flow["id"]])
    return Exchange.model_validate(flow)


def _meets(challenge: str, method: str, verifier: str) -> bool:
    made = verifier.encode()
    if method == "s256":
        made = base64.urlsafe_b64encode(hashlib.sha256(made).digest()).rstrip(b"=")
    return hmac.compare_digest(made, challenge.encode())


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
