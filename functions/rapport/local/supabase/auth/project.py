"""The common part of one stack's Auth endpoints: its database, settings, keys and answers."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Literal

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel
from starlette.requests import Request

from rapport.local.stack.running import Stack
from rapport.local.supabase import keys
from rapport.local.supabase.auth import sessions, users
from rapport.local.supabase.auth.codes import CodeBook
from rapport.local.supabase.auth.errors import AuthError
from rapport.local.supabase.auth.limits import Limits
from rapport.local.supabase.auth.settings import AuthSettings

POOL_SIZE = 4


class Session(BaseModel):
    """The answer to every sign-in; times in seconds."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a scheme
    expires_in: int
    expires_at: int
    refresh_token: str
    user: users.User


class Project:
    """One stack's Auth. It connects as supabase_auth_admin, who owns the tables."""

    def __init__(self, stack: Stack, settings: AuthSettings) -> None:
        self.settings = settings
        self.limits = Limits(settings.rate_limit)
        self.url = f"{stack.url}/auth/v1"
        self.codes = CodeBook(
            stack.jwt_secret,
            length=settings.email.otp_length,
            expires_in=settings.email.otp_expiry,
        )
        self._signing_key = stack.signing_key
        self._keys = keys.KeySet.of(stack)
        self.pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
            stack.db_url("supabase_auth_admin"),
            kwargs={"row_factory": dict_row},
            # notices connections that a restart of Postgres has closed
            check=AsyncConnectionPool.check_connection,
            min_size=1,
            max_size=POOL_SIZE,
            timeout=10,
            open=False,
            name="auth",
        )

    def url_beside(self, page: str) -> str:
        """Auth's URL by the name that a page of ours has in its address, or else the usual one."""
        own = self.settings.network_urls
        beside = next((url for url in own if page.startswith(f"{url}/")), None)
        return f"{beside}/auth/v1" if beside else self.url

    def claims(self, token: str) -> keys.Claims:
        """Checks an access token or a key of the legacy kind. Raises keys.TokenError."""
        return keys.verify(self._keys, token)

    async def sign_in(
        self, conn: users.Connection, request: Request, user: users.User, method: str
    ) -> Session:
        """Opens a session for a user who has proved who they are by this method.

        Raises AuthError for a user who is banned, or was deleted meanwhile.
        """
        require_not_banned(user)
        grant = await sessions.start(
            conn,
            user.id,
            method=method,
            user_agent=request.headers.get("user-agent"),
            address=request.client.host if request.client else None,
        )
        return self.session(grant, await users.get(conn, user.id))

    def session(self, grant: sessions.Grant, user: users.User) -> Session:
        """The answer for a grant, with a new access token."""
        lifetime = self.settings.jwt_expiry
        token = keys.mint_user_token(
            self._signing_key,
            user_id=user.id,
            session_id=grant.session_id,
            issuer=self.url,
            email=user.email,
            phone=user.phone,
            app_metadata=user.app_metadata,
            user_metadata=user.user_metadata,
            role=user.role or "",
            is_anonymous=user.is_anonymous,
            method=grant.method,
            signed_in_at=int(grant.signed_in_at.timestamp()),
            lifetime=self.settings.access_token_lifetime,
        )
        return Session(
            access_token=token,
            expires_in=lifetime,
            expires_at=int(time.time()) + lifetime,
            refresh_token=grant.refresh_token,
            user=user,
        )


def require_not_banned(user: users.User) -> None:
    """Raises AuthError for a user who is locked out."""
    if user.banned_until and user.banned_until > datetime.now(UTC):
        raise AuthError(400, "user_banned", "User is banned")
