"""The endpoint that grants access tokens."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rapport.local.supabase.auth import flows, passwords, sessions, users
from rapport.local.supabase.auth.errors import AuthError, invalid_credentials, validation_failed
from rapport.local.supabase.auth.http import answer, query, read
from rapport.local.supabase.auth.models import CodeGrant, Credentials, GrantType, RefreshGrant
from rapport.local.supabase.auth.project import Project, Session, require_not_banned
from rapport.local.supabase.auth.refusals import ID_TOKENS, WEB3


class TokenEndpoints:
    """`/token`, for a password, a refresh token, or the code that a link has brought."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.routes = [Route("/token", self.token, methods=["POST"])]

    async def token(self, request: Request) -> Response:
        """Grants an access token."""
        limits = self._project.limits
        match query(request, GrantType).grant_type:
            case "password":
                limits.sign_ins.take_for(request)
                return answer(await self._for_password(request))
            case "refresh_token":
                limits.refreshes.take_for(request)
                return answer(await self._for_refresh_token(request))
            case "pkce":
                limits.refreshes.take_for(request)
                return answer(await self._for_code(request))
            case "id_token":
                raise ID_TOKENS.error
            case "web3":
                raise WEB3.error

    async def _for_password(self, request: Request) -> Session:
        project = self._project
        body = await read(request, Credentials)
        if body.email and body.phone:
            raise validation_failed(
                "Only an email address or phone number should be provided on login."
            )
        if (not body.email and not body.phone) or body.password is None:
            raise validation_failed("missing email or phone, or password")
        if body.phone and not project.settings.sms.enable_signup:
            raise AuthError(422, "phone_provider_disabled", "Phone logins are disabled")
        if body.email and not project.settings.email.enable_signup:
            raise AuthError(422, "email_provider_disabled", "Email logins are disabled")
        async with project.pool.connection() as conn:
            if body.email:
                user = await users.find_by_email(conn, body.email)
            else:
                user = await users.find_by_phone(conn, str(body.phone))
        # without a connection meanwhile, since comparing passwords is slow by design
        stored = user.encrypted_password if user else None
        right = await passwords.matches(body.password, stored)
        if not user or not right:
            raise invalid_credentials()
        require_not_banned(user)
        if body.email and not user.email_confirmed_at:
            raise AuthError(400, "email_not_confirmed", "Email not confirmed")
        if body.phone and not user.phone_confirmed_at:
            raise AuthError(400, "phone_not_confirmed", "Phone not confirmed")
        async with project.pool.connection() as conn:
            return await project.sign_in(conn, request, user, "password")

    async def _for_refresh_token(self, request: Request) -> Session:
        settings = self._project.settings
        body = await read(request, RefreshGrant)
        async with self._project.pool.connection() as conn:
            grant = await sessions.renew(
                conn,
                body.refresh_token,
                reuse_interval=settings.refresh_token_reuse_interval,
                rotates=settings.enable_refresh_token_rotation,
            )
            user = grant and await users.get(conn, grant.user_id)
        if not grant or not user:
            raise AuthError(
                400, "refresh_token_already_used", "Invalid Refresh Token: Already Used"
            )
        require_not_banned(user)
        return self._project.session(grant, user)

    async def _for_code(self, request: Request) -> Session:
        body = await read(request, CodeGrant)
        if not body.auth_code or not body.code_verifier:
            raise validation_failed(
                "invalid request: both auth code and code verifier should be non-empty"
            )
        async with self._project.pool.connection() as conn:
            found = await flows.exchange(conn, body.auth_code, body.code_verifier)
            user = await users.get(conn, found.user_id)
            return await self._project.sign_in(conn, request, user, found.authentication_method)
