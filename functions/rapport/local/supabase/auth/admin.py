"""Auth's endpoints for administrators: create, list, read, change and delete users."""

from __future__ import annotations

from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rapport.local.supabase.auth import callers, passwords, sessions, users
from rapport.local.supabase.auth.errors import AuthError, taken, validation_failed
from rapport.local.supabase.auth.http import answer, query, read
from rapport.local.supabase.auth.models import AdminAttributes, Deletion, UserPage
from rapport.local.supabase.keys import KeySet


class UserList(BaseModel):
    """One page of a project's users."""

    users: list[users.User]
    aud: str = "authenticated"


class AdminEndpoints:
    """What the service key may do; every endpoint raises AuthError for any other token."""

    def __init__(
        self, pool: AsyncConnectionPool[AsyncConnection[DictRow]], key_set: KeySet
    ) -> None:
        self._pool = pool
        self._keys = key_set
        self.routes = [
            Route("/admin/users", self.create_user, methods=["POST"]),
            Route("/admin/users", self.list_users, methods=["GET"]),
            Route("/admin/users/{id}", self.get_user, methods=["GET"]),
            Route("/admin/users/{id}", self.update_user, methods=["PUT"]),
            Route("/admin/users/{id}", self.delete_user, methods=["DELETE"]),
        ]

    async def create_user(self, request: Request) -> Response:
        """Creates a user, who can sign in once `email_confirm` was given."""
        callers.require_admin(request, self._keys)
        body = await read(request, AdminAttributes)
        if not body.email and not body.phone:
            raise validation_failed("Cannot create a user without either an email or phone")
        providers = [
            name for name, value in (("email", body.email), ("phone", body.phone)) if value
        ]
        verified = {"email_verified": True} if body.email_confirm else {}
        new = users.NewUser(
            id=body.id or uuid4(),
            email=body.email,
            phone=body.phone,
            encrypted_password=await _hashed(body.password),
            role=body.role or "authenticated",
            email_confirmed=body.email_confirm,
            phone_confirmed=body.phone_confirm,
            banned_for=body.ban,
            user_metadata={**(body.user_metadata or {}), **verified},
            app_metadata={
                **(body.app_metadata or {}),
                "provider": providers[0],
                "providers": [*providers],
            },
        )
        try:
            async with self._pool.connection() as conn:
                return answer(await users.create(conn, new))
        except UniqueViolation as error:
            raise taken(error) from error

    async def list_users(self, request: Request) -> Response:
        callers.require_admin(request, self._keys)
        page = query(request, UserPage)
        async with self._pool.connection() as conn:
            found = await users.page(conn, page.page, page.per_page)
        return answer(UserList(users=found))

    async def get_user(self, request: Request) -> Response:
        callers.require_admin(request, self._keys)
        user_id = _user_id(request)
        async with self._pool.connection() as conn:
            return answer(await users.get(conn, user_id))

    async def update_user(self, request: Request) -> Response:
        """Changes a user; a new password ends all of the user's sessions."""
        callers.require_admin(request, self._keys)
        user_id = _user_id(request)
        body = await read(request, AdminAttributes)
        change = users.Update(
            email=body.email,
            phone=body.phone,
            encrypted_password=await _hashed(body.password),
            role=body.role,
            email_confirmed=body.email_confirm,
            phone_confirmed=body.phone_confirm,
            unban=body.ban_duration == "none",
            banned_for=body.ban,
            user_metadata=body.user_metadata,
            app_metadata=body.app_metadata,
        )
        async with self._pool.connection() as conn:
            user = await users.update(conn, user_id, change)
            if body.password:
                await sessions.end(conn, user_id, None, "global")
        return answer(user)

    async def delete_user(self, request: Request) -> Response:
        """Deletes a user for good; rows that refer to the user follow their foreign keys."""
        callers.require_admin(request, self._keys)
        user_id = _user_id(request)
        if (await read(request, Deletion)).should_soft_delete:
            raise AuthError(501, "unexpected_failure", "Soft deletion is not served here")
        async with self._pool.connection() as conn:
            await users.delete(conn, user_id)
        return JSONResponse({})


async def _hashed(password: SecretStr | None) -> SecretStr | None:
    return await passwords.hash_password(password) if password else None


def _user_id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["id"])
    except ValueError as error:
        raise AuthError(404, "validation_failed", "user_id must be an UUID") from error
