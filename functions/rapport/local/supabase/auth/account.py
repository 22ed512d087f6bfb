"""The endpoints for users about themselves: their data, what they change, and the way out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rapport.local.supabase.auth import (
    callers,
    flows,
    messages,
    passwords,
    redirects,
    sessions,
    users,
)
from rapport.local.supabase.auth.codes import Kind
from rapport.local.supabase.auth.errors import AuthError
from rapport.local.supabase.auth.http import answer, query, read
from rapport.local.supabase.auth.models import LogoutScope, UserChanges
from rapport.local.supabase.auth.project import Project

# a sign-in that is older must be followed by `reauthenticate`, if settings say so
RECENT = timedelta(hours=24)
NONCES: tuple[Kind, ...] = ("reauthentication_token",)


class AccountEndpoints:
    """`/user` and `/logout`."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.routes = [
            Route("/user", self.get_user, methods=["GET"]),
            Route("/user", self.update_user, methods=["PUT"]),
            Route("/logout", self.log_out, methods=["POST"]),
        ]

    async def get_user(self, request: Request) -> Response:
        async with self._project.pool.connection() as conn:
            caller = await callers.signed_in(conn, request, self._project)
        return answer(caller.user)

    async def update_user(self, request: Request) -> Response:
        """Changes the caller's metadata and password, and begins a change of address or number.

        A new password ends the user's other sessions. A new address becomes the user's once it is
        confirmed, by the links or codes that are sent; a new number likewise.
        """
        project = self._project
        body = await read(request, UserChanges)
        body.check()
        messages.check_channel(body.channel)
        if body.app_metadata is not None:
            raise AuthError(403, "not_admin", "Updating app_metadata requires admin privileges")
        async with project.pool.connection() as conn:
            caller = await callers.signed_in(conn, request, project)
            user = caller.user
            if body.password and user.is_anonymous and not body.email and not body.phone:
                raise AuthError(
                    422,
                    "validation_failed",
                    "Updating password of an anonymous user without an email or phone is not "
                    "allowed",
                )
            if body.password and project.settings.email.secure_password_change:
                await self._require_recent(conn, caller, body.nonce)
        encrypted = await self._new_password(body, user)
        async with project.pool.connection() as conn:
            change = users.Update(encrypted_password=encrypted, user_metadata=body.data)
            user = await users.update(conn, user.id, change)
            if encrypted:
                await sessions.end(conn, user.id, caller.session_id, "others")
            if body.email and body.email != user.email:
                await self._change_email(conn, request, user, body, body.email)
            if body.phone and body.phone != user.phone:
                await self._change_phone(conn, user, body.phone)
            return answer(await users.get(conn, user.id))

    async def log_out(self, request: Request) -> Response:
        scope = query(request, LogoutScope).scope
        async with self._project.pool.connection() as conn:
            caller = await callers.signed_in(conn, request, self._project)
            await sessions.end(conn, caller.user.id, caller.session_id, scope)
        return Response(status_code=204)

    async def _new_password(self, body: UserChanges, user: users.User) -> SecretStr | None:
        if body.password is None:
            return None
        encrypted = await passwords.hash_password(body.password, self._project.settings)
        if await passwords.matches(body.password, user.encrypted_password):
            raise AuthError(
                422,
                "same_password",
                "New password should be different from the old password.",
            )
        return encrypted

    async def _require_recent(
        self, conn: users.Connection, caller: callers.SessionCaller, nonce: str | None
    ) -> None:
        began = caller.session_id and await sessions.began(conn, caller.session_id)
        if began and began > datetime.now(UTC) - RECENT:
            return
        if not nonce:
            raise AuthError(
                400, "reauthentication_needed", "Password update requires reauthentication"
            )
        address = caller.user.email or caller.user.phone
        found = await self._project.codes.use_digits(conn, address, nonce, NONCES)
        if found is None or found.user_id != caller.user.id:
            raise AuthError(422, "reauthentication_not_valid", "Nonce has expired or is invalid")

    async def _change_email(
        self,
        conn: users.Connection,
        request: Request,
        user: users.User,
        body: UserChanges,
        email: str,
    ) -> None:
        project = self._project
        if await users.find_by_email(conn, email):
            raise AuthError(
                422,
                "email_exists",
                "A user with this email address has already been registered",
            )
        await users.begin_email_change(conn, user.id, email)
        if user.is_anonymous and not project.settings.email.enable_confirmations:
            # as a sign-up, whose addresses count as confirmed
            await users.finish_email_change(conn, user.id)
            return
        await flows.begin(conn, user.id, body, "email_change")
        page = redirects.target(request, project.settings)
        changing = await users.get(conn, user.id)
        await messages.send_email_change(project, conn, changing, page, pkce=body.is_pkce)

    async def _change_phone(self, conn: users.Connection, user: users.User, phone: str) -> None:
        settings = self._project.settings.sms
        if not settings.enable_signup:
            raise AuthError(400, "phone_provider_disabled", "Phone logins are disabled")
        if await users.find_by_phone(conn, phone):
            raise AuthError(
                422, "phone_exists", "A user with this phone number has already been registered"
            )
        await users.begin_phone_change(conn, user.id, phone)
        if not settings.enable_confirmations:
            await users.finish_phone_change(conn, user.id)
            return
        await messages.send_sms(
            self._project,
            conn,
            user,
            "phone_change_token",
            "phone_change_sent_at",
            phone=phone,
        )
