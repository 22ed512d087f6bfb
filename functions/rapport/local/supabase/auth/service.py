"""Auth's endpoints for users: sign-up, sign-in, renewal, the user's own data, sign-out."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rapport.local.stack.running import Stack
from rapport.local.supabase import keys
from rapport.local.supabase.auth import callers, passwords, sessions, users
from rapport.local.supabase.auth.admin import AdminEndpoints
from rapport.local.supabase.auth.errors import AuthError, invalid_credentials, validation_failed
from rapport.local.supabase.auth.http import EXCEPTION_HANDLERS, answer, query, read
from rapport.local.supabase.auth.models import (
    Credentials,
    GrantType,
    LogoutScope,
    RefreshGrant,
    UserChanges,
)
from rapport.local.supabase.signing_key import published_keys

POOL_SIZE = 4
# how long others may keep the published keys, as on a hosted project
KEYS_SECONDS = 600


class Session(BaseModel):
    """The answer to every sign-in; times in seconds."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a scheme
    expires_in: int
    expires_at: int
    refresh_token: str
    user: users.User


class AuthService:
    """Auth on one stack's database; `app` serves it below /auth/v1.

    It connects as supabase_auth_admin, who owns the tables.
    """

    def __init__(self, stack: Stack) -> None:
        self._signing_key = stack.signing_key
        self._keys = keys.KeySet.of(stack)
        self._issuer = f"{stack.url}/auth/v1"
        self._pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
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
        self.app = Starlette(
            routes=[
                Route("/signup", self.sign_up, methods=["POST"]),
                Route("/token", self.token, methods=["POST"]),
                Route("/user", self.get_user, methods=["GET"]),
                Route("/user", self.update_user, methods=["PUT"]),
                Route("/logout", self.log_out, methods=["POST"]),
                Route("/settings", self.settings, methods=["GET"]),
                Route("/health", self.health, methods=["GET"]),
                Route("/.well-known/jwks.json", self.signing_keys, methods=["GET"]),
                *AdminEndpoints(self._pool, self._keys).routes,
            ],
            exception_handlers=EXCEPTION_HANDLERS,
        )

    async def start(self) -> None:
        """Connects to the database. Raises psycopg_pool.PoolTimeout after 10 s without."""
        await self._pool.open(wait=True, timeout=10)

    async def stop(self) -> None:
        await self._pool.close()

    async def sign_up(self, request: Request) -> Response:
        """Creates a user and signs in. Addresses count as confirmed; no mail is sent."""
        body = await read(request, Credentials)
        if body.phone:
            raise AuthError(400, "phone_provider_disabled", "Phone signups are disabled")
        if not body.email:
            raise AuthError(422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled")
        if not body.password or not body.password.get_secret_value():
            raise validation_failed("Signup requires a valid password")
        user_id = uuid4()
        new = users.NewUser(
            id=user_id,
            email=body.email,
            encrypted_password=await passwords.hash_password(body.password),
            email_confirmed=True,
            user_metadata={
                **(body.data or {}),
                "sub": str(user_id),
                "email": body.email,
                "email_verified": True,
                "phone_verified": False,
            },
            app_metadata={"provider": "email", "providers": ["email"]},
        )
        try:
            async with self._pool.connection() as conn:
                await users.create(conn, new)
                grant = await self._start_session(conn, request, user_id)
                return self._session(grant, await users.get(conn, user_id))
        except UniqueViolation as error:
            raise AuthError(422, "user_already_exists", "User already registered") from error

    async def token(self, request: Request) -> Response:
        """Grants an access token for a password or a refresh token."""
        match query(request, GrantType).grant_type:
            case "password":
                return await self._password_grant(request)
            case "refresh_token":
                return await self._refresh_grant(request)

    async def get_user(self, request: Request) -> Response:
        async with self._pool.connection() as conn:
            caller = await callers.signed_in(conn, request, self._keys)
        return answer(caller.user)

    async def update_user(self, request: Request) -> Response:
        """Changes the caller's address, password or metadata.

        A new password ends the user's other sessions. A new address is valid at once, as on a
        project without confirmation.
        """
        body = await read(request, UserChanges)
        async with self._pool.connection() as conn:
            caller = await callers.signed_in(conn, request, self._keys)
        encrypted = None
        if body.password is not None:
            encrypted = await passwords.hash_password(body.password)
            if await passwords.matches(body.password, caller.user.encrypted_password):
                raise AuthError(
                    422,
                    "same_password",
                    "New password should be different from the old password.",
                )
        change = users.Update(
            email=body.email, encrypted_password=encrypted, user_metadata=body.data
        )
        async with self._pool.connection() as conn:
            user = await users.update(conn, caller.user.id, change)
            if encrypted:
                await sessions.end(conn, user.id, caller.session_id, "others")
        return answer(user)

    async def log_out(self, request: Request) -> Response:
        scope = query(request, LogoutScope).scope
        async with self._pool.connection() as conn:
            caller = await callers.signed_in(conn, request, self._keys)
            await sessions.end(conn, caller.user.id, caller.session_id, scope)
        return Response(status_code=204)

    async def settings(self, _: Request) -> Response:
        return JSONResponse(
            {
                "external": {"email": True, "phone": False, "anonymous_users": False},
                "disable_signup": False,
                "mailer_autoconfirm": True,
                "phone_autoconfirm": False,
                "saml_enabled": False,
            }
        )

    async def health(self, _: Request) -> Response:
        return JSONResponse({"name": "GoTrue", "description": "Rapport's local stand-in"})

    async def signing_keys(self, _: Request) -> Response:
        """The keys by which everybody can verify access tokens, without asking us."""
        return JSONResponse(
            published_keys(self._signing_key),
            headers={"Cache-Control": f"public, max-age={KEYS_SECONDS}"},
        )

    async def _password_grant(self, request: Request) -> Response:
        body = await read(request, Credentials)
        if body.phone:
            raise AuthError(400, "phone_provider_disabled", "Phone logins are disabled")
        if not body.email or body.password is None:
            raise validation_failed("missing email or password")
        async with self._pool.connection() as conn:
            user = await users.find_by_email(conn, body.email)
        # without a connection meanwhile, since comparing passwords is slow by design
        stored = user.encrypted_password if user else None
        right = await passwords.matches(body.password, stored)
        if not user or not right:
            raise invalid_credentials()
        _require_not_banned(user)
        if not user.email_confirmed_at:
            raise AuthError(400, "email_not_confirmed", "Email not confirmed")
        async with self._pool.connection() as conn:
            grant = await self._start_session(conn, request, user.id)
            return self._session(grant, await users.get(conn, user.id))

    async def _refresh_grant(self, request: Request) -> Response:
        body = await read(request, RefreshGrant)
        async with self._pool.connection() as conn:
            grant = await sessions.renew(conn, body.refresh_token)
            user = grant and await users.get(conn, grant.user_id)
        if not grant or not user:
            raise AuthError(
                400, "refresh_token_already_used", "Invalid Refresh Token: Already Used"
            )
        _require_not_banned(user)
        return self._session(grant, user)

    async def _start_session(
        self, conn: users.Connection, request: Request, user_id: UUID
    ) -> sessions.Grant:
        return await sessions.start(
            conn,
            user_id,
            user_agent=request.headers.get("user-agent"),
            address=request.client.host if request.client else None,
        )

    def _session(self, grant: sessions.Grant, user: users.User) -> Response:
        lifetime = int(keys.ACCESS_TOKEN_LIFETIME.total_seconds())
        token = keys.mint_user_token(
            self._signing_key,
            user_id=user.id,
            session_id=grant.session_id,
            issuer=self._issuer,
            email=user.email or "",
            phone=user.phone or "",
            app_metadata=user.app_metadata,
            user_metadata=user.user_metadata,
            role=user.role or "",
            is_anonymous=user.is_anonymous,
            signed_in_at=int(grant.signed_in_at.timestamp()),
        )
        return answer(
            Session(
                access_token=token,
                expires_in=lifetime,
                expires_at=int(time.time()) + lifetime,
                refresh_token=grant.refresh_token,
                user=user,
            )
        )


def _require_not_banned(user: users.User) -> None:
    if user.banned_until and user.banned_until > datetime.now(UTC):
        raise AuthError(400, "user_banned", "User is banned")
