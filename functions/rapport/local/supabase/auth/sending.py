"""The endpoints that send something: codes and magic links, recovery, and the same once more."""

from __future__ import annotations

import secrets

from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rapport.local.supabase.auth import callers, flows, messages, passwords, redirects, users
from rapport.local.supabase.auth.errors import AuthError, validation_failed
from rapport.local.supabase.auth.http import read
from rapport.local.supabase.auth.models import CodeRequest, Recovery, Resend
from rapport.local.supabase.auth.project import Project
from rapport.local.supabase.auth.signup import register_email, register_phone


class SendingEndpoints:
    """`/otp`, `/magiclink`, `/recover`, `/resend` and `/reauthenticate`.

    None of them tells whether an address or number has a user.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self.routes = [
            Route("/otp", self.send_code, methods=["POST"]),
            Route("/magiclink", self.send_code, methods=["POST"]),
            Route("/recover", self.recover, methods=["POST"]),
            Route("/resend", self.resend, methods=["POST"]),
            Route("/reauthenticate", self.reauthenticate, methods=["GET"]),
        ]

    async def send_code(self, request: Request) -> Response:
        """Sends a code to an address or number; `create_user: false` only if it has a user."""
        project = self._project
        body = await read(request, CodeRequest)
        body.check()
        project.limits.sign_ins.take_for(request)
        if body.email and body.phone:
            raise validation_failed("Only an email address or phone number should be provided")
        if body.email:
            if body.channel:
                raise validation_failed("Channel should only be specified with Phone OTP")
            await self._send_mail(request, body, body.email)
        elif body.phone:
            messages.check_channel(body.channel)
            await self._send_sms(request, body, body.phone)
        else:
            raise validation_failed("One of email or phone must be set")
        return JSONResponse({})

    async def recover(self, request: Request) -> Response:
        """Sends a link by which a user who has forgotten the password can set a new one."""
        project = self._project
        body = await read(request, Recovery)
        body.check()
        if not body.email:
            raise validation_failed("Password recovery requires an email")
        page = redirects.target(request, project.settings)
        async with project.pool.connection() as conn:
            user = await users.find_by_email(conn, body.email)
            if user:
                await flows.begin(conn, user.id, body, "recovery")
                await messages.send_link(
                    project, conn, user, messages.RECOVERY, page, pkce=body.is_pkce
                )
        return JSONResponse({})

    async def resend(self, request: Request) -> Response:
        """Sends once more what an address or number still has to confirm."""
        body = await read(request, Resend)
        body.check()
        if body.type not in ("signup", "email_change", "sms", "phone_change"):
            raise validation_failed(
                "Missing one of these types: signup, email_change, sms, phone_change"
            )
        if body.type == "signup" and not body.email:
            raise validation_failed("Type provided requires an email address")
        if body.type == "sms" and not body.phone:
            raise validation_failed("Type provided requires a phone number")
        if body.email and body.phone:
            raise validation_failed("Only an email address or phone number should be provided.")
        if not body.email and not body.phone:
            raise validation_failed("Missing email address or phone number")
        if body.phone:
            self._require_sms("Phone logins are disabled")
        async with self._project.pool.connection() as conn:
            if body.email:
                user = await users.find_by_email(conn, body.email)
            else:
                user = await users.find_by_phone(conn, str(body.phone))
            if user:
                await self._send_again(conn, request, user, body)
        return JSONResponse({})

    async def reauthenticate(self, request: Request) -> Response:
        """Sends the caller the code that a change of the password may need."""
        project = self._project
        async with project.pool.connection() as conn:
            user = (await callers.signed_in(conn, request, project)).user
            if not user.email and not user.phone:
                raise validation_failed(
                    "Reauthentication requires the user to have an email or a phone number"
                )
            if user.email and not user.email_confirmed_at:
                raise AuthError(422, "email_not_confirmed", "Please verify your email first.")
            if not user.email and not user.phone_confirmed_at:
                raise AuthError(422, "phone_not_confirmed", "Please verify your phone first.")
            await messages.send_reauthentication(project, conn, user)
        return JSONResponse({})

    async def _send_mail(self, request: Request, body: CodeRequest, email: str) -> None:
        project = self._project
        if not project.settings.email.enable_signup:
            raise AuthError(422, "email_provider_disabled", "Email logins are disabled")
        async with project.pool.connection() as conn:
            user = await users.find_by_email(conn, email)
        if user is None:
            self._require_creation(body)
            password = await self._password()
            await register_email(project, request, email, password, body.data, body)
            if project.settings.email.enable_confirmations:
                # the mail that confirms the address signs in as well
                return
        elif not user.email_confirmed_at and project.settings.email.enable_confirmations:
            await register_email(project, request, email, SecretStr(""), body.data, body)
            return
        page = redirects.target(request, project.settings)
        async with project.pool.connection() as conn:
            user = await users.find_by_email(conn, email)
            if user:
                await flows.begin(conn, user.id, body, "magiclink")
                await messages.send_link(
                    project, conn, user, messages.MAGIC_LINK, page, pkce=body.is_pkce
                )

    async def _send_sms(self, request: Request, body: CodeRequest, phone: str) -> None:
        project = self._project
        self._require_sms("Unsupported phone provider")
        async with project.pool.connection() as conn:
            user = await users.find_by_phone(conn, phone)
        if user is None:
            self._require_creation(body)
            await register_phone(project, request, phone, await self._password(), body.data)
            if project.settings.sms.enable_confirmations:
                return
        async with project.pool.connection() as conn:
            user = await users.find_by_phone(conn, phone)
            if user:
                await messages.send_sms(
                    project, conn, user, "confirmation_token", "confirmation_sent_at", phone=phone
                )

    async def _send_again(
        self, conn: users.Connection, request: Request, user: users.User, body: Resend
    ) -> None:
        project = self._project
        page = redirects.target(request, project.settings)
        match body.type:
            case "signup" if not user.email_confirmed_at:
                await flows.begin(conn, user.id, body, "email/signup")
                await messages.send_link(
                    project, conn, user, messages.SIGN_UP, page, pkce=body.is_pkce
                )
            case "email_change" if user.new_email:
                await flows.begin(conn, user.id, body, "email_change")
                await messages.send_email_change(project, conn, user, page, pkce=body.is_pkce)
            case "sms" if not user.phone_confirmed_at:
                await messages.send_sms(
                    project,
                    conn,
                    user,
                    "confirmation_token",
                    "confirmation_sent_at",
                    phone=user.phone,
                )
            case "phone_change" if user.new_phone:
                await messages.send_sms(
                    project,
                    conn,
                    user,
                    "phone_change_token",
                    "phone_change_sent_at",
                    phone=user.new_phone,
                )
            case _:
                # nothing to confirm, and nobody learns that
                pass

    def _require_creation(self, body: CodeRequest) -> None:
        if not body.create_user or not self._project.settings.enable_signup:
            raise AuthError(422, "otp_disabled", "Signups not allowed for otp")

    def _require_sms(self, message: str) -> None:
        if not self._project.settings.sms.enable_signup:
            raise AuthError(400, "phone_provider_disabled", message)

    async def _password(self) -> SecretStr:
        """The hash of a password that nobody knows."""
        # one character of each set that settings may require
        random = SecretStr(f"{secrets.token_urlsafe(32)}aA1!")
        return await passwords.hash_password(random, self._project.settings)
