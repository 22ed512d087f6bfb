"""Sign-up: by email address, by phone number, or without either."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

from psycopg.errors import UniqueViolation
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rapport.local.supabase.auth import flows, messages, passwords, redirects, users
from rapport.local.supabase.auth.errors import (
    AuthError,
    already_registered,
    sign_ups_disabled,
    validation_failed,
)
from rapport.local.supabase.auth.http import answer, read
from rapport.local.supabase.auth.models import Challenge, Credentials, Metadata
from rapport.local.supabase.auth.project import Project, Session


class SignUpEndpoints:
    """`/signup`."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.routes = [Route("/signup", self.sign_up, methods=["POST"])]

    async def sign_up(self, request: Request) -> Response:
        """Creates a user, and signs in unless the address has to be confirmed first."""
        project = self._project
        body = await read(request, Credentials)
        if not body.email and not body.phone:
            return answer(await self._without_address(request, body))
        project.limits.sign_ins.take_for(request)
        if not project.settings.enable_signup:
            raise sign_ups_disabled()
        body.check()
        messages.check_channel(body.channel)
        if not body.password or not body.password.get_secret_value():
            raise validation_failed("Signup requires a valid password")
        if body.email and body.phone:
            raise validation_failed(
                "Only an email address or phone number should be provided on signup."
            )
        hashed = await passwords.hash_password(body.password, project.settings)
        if body.email:
            made = await register_email(project, request, body.email, hashed, body.data, body)
        else:
            made = await register_phone(project, request, str(body.phone), hashed, body.data)
        return answer(made)

    async def _without_address(self, request: Request, body: Credentials) -> Session:
        project = self._project
        if not project.settings.enable_anonymous_sign_ins:
            raise AuthError(422, "anonymous_provider_disabled", "Anonymous sign-ins are disabled")
        if not project.settings.enable_signup:
            raise sign_ups_disabled()
        if body.password:
            raise validation_failed("Sign up only available with email or phone provider")
        project.limits.anonymous.take_for(request)
        new = users.NewUser(is_anonymous=True, user_metadata=body.data or {})
        async with project.pool.connection() as conn:
            user = await users.create(conn, new)
            return await project.sign_in(conn, request, user, "anonymous")


async def register_email(
    project: Project,
    request: Request,
    email: str,
    encrypted_password: SecretStr,
    data: Metadata | None,
    challenge: Challenge,
) -> Session | users.User:
    """Creates a user by address, who is signed in or gets a mail, as the settings say.

    Raises AuthError where the address has a user. With confirmations on, that may not be told:
    the answer is one for a new user, and the user who is there gets no mail, or the first one once
    more.
    """
    settings = project.settings
    if not settings.email.enable_signup:
        raise AuthError(422, "email_provider_disabled", "Email signups are disabled")
    is_confirmed = not settings.email.enable_confirmations
    user_id = uuid4()
    new = users.NewUser(
        id=user_id,
        email=email,
        encrypted_password=encrypted_password,
        email_confirmed=is_confirmed,
        user_metadata={
            **(data or {}),
            "sub": str(user_id),
            "email": email,
            "email_verified": is_confirmed,
            "phone_verified": False,
        },
        app_metadata={"provider": "email", "providers": ["email"]},
    )
    try:
        async with project.pool.connection() as conn:
            user = await users.create(conn, new)
            if is_confirmed:
                return await project.sign_in(conn, request, user, "password")
            return await _ask_to_confirm(project, conn, request, user, challenge)
    except UniqueViolation as error:
        if is_confirmed:
            raise already_registered() from error
    async with project.pool.connection() as conn:
        present = await users.find_by_email(conn, email)
        if present is None:
            raise already_registered()
        if present.email_confirmed_at is None:
            await _ask_to_confirm(project, conn, request, present, challenge)
    return _as_new(present, new)


async def register_phone(
    project: Project,
    request: Request,
    phone: str,
    encrypted_password: SecretStr,
    data: Metadata | None,
) -> Session | users.User:
    """Creates a user by phone number, as `register_email` does by address."""
    settings = project.settings
    if not settings.sms.enable_signup:
        raise AuthError(400, "phone_provider_disabled", "Phone signups are disabled")
    is_confirmed = not settings.sms.enable_confirmations
    user_id = uuid4()
    new = users.NewUser(
        id=user_id,
        phone=phone,
        encrypted_password=encrypted_password,
        phone_confirmed=is_confirmed,
        user_metadata={
            **(data or {}),
            "sub": str(user_id),
            "email_verified": False,
            "phone_verified": is_confirmed,
        },
        app_metadata={"provider": "phone", "providers": ["phone"]},
    )
    try:
        async with project.pool.connection() as conn:
            user = await users.create(conn, new)
            if is_confirmed:
                return await project.sign_in(conn, request, user, "password")
            return await _send_first_sms(project, conn, user)
    except UniqueViolation as error:
        if is_confirmed:
            raise already_registered() from error
    async with project.pool.connection() as conn:
        present = await users.find_by_phone(conn, phone)
        if present is None:
            raise already_registered()
        if present.phone_confirmed_at is None:
            await _send_first_sms(project, conn, present)
    return _as_new(present, new)


async def _ask_to_confirm(
    project: Project,
    conn: users.Connection,
    request: Request,
    user: users.User,
    challenge: Challenge,
) -> users.User:
    page = redirects.target(request, project.settings)
    await flows.begin(conn, user.id, challenge, "email/signup")
    await messages.send_link(project, conn, user, messages.SIGN_UP, page, pkce=challenge.is_pkce)
    return await users.get(conn, user.id)


async def _send_first_sms(project: Project, conn: users.Connection, user: users.User) -> users.User:
    await messages.send_sms(
        project, conn, user, "confirmation_token", "confirmation_sent_at", phone=user.phone
    )
    return await users.get(conn, user.id)


def _as_new(present: users.User, new: users.NewUser) -> users.User:
    """The answer for a new user, so that nobody learns that there is one already."""
    now = datetime.now(UTC)
    return present.model_copy(
        update={
            **dict.fromkeys(
                (
                    "email_confirmed_at",
                    "phone_confirmed_at",
                    "confirmed_at",
                    "recovery_sent_at",
                    "reauthentication_sent_at",
                    "new_email",
                    "email_change_sent_at",
                    "new_phone",
                    "phone_change_sent_at",
                    "invited_at",
                    "last_sign_in_at",
                    "banned_until",
                )
            ),
            "id": new.id,
            "role": new.role,
            "email": new.email or "",
            "phone": new.phone or "",
            "app_metadata": new.app_metadata,
            "user_metadata": new.user_metadata,
            "identities": [],
            "created_at": now,
            "updated_at": now,
            "confirmation_sent_at": now,
        }
    )
