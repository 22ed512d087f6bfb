"""The endpoint that codes and links lead to."""

from __future__ import annotations

from typing import Literal, NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from rapport.local.supabase.auth import codes, flows, redirects, users
from rapport.local.supabase.auth.codes import PKCE_PREFIX, Found, Kind
from rapport.local.supabase.auth.errors import (
    AuthError,
    code_invalid,
    link_invalid,
    validation_failed,
)
from rapport.local.supabase.auth.http import answer, read
from rapport.local.supabase.auth.models import Verification
from rapport.local.supabase.auth.project import Project, Session

HALF_CONFIRMED = (
    "Confirmation link accepted. Please proceed to confirm link sent to the other email"
)
# the codes that a link of each type may verify
_KINDS: dict[str, tuple[Kind, ...]] = {
    "signup": ("confirmation_token",),
    "invite": ("confirmation_token",),
    "magiclink": ("recovery_token",),
    "recovery": ("recovery_token",),
    "email": ("confirmation_token", "recovery_token"),
    "email_change": ("email_change_token_new", "email_change_token_current"),
}
_SMS_KINDS: dict[str, tuple[Kind, ...]] = {
    "sms": ("confirmation_token",),
    "phone_change": ("phone_change_token",),
}
# the way of signing in that a flow of PKCE was begun with
_FLOWS = {"signup": "email/signup", "invite": "invite"}


class _Verified(NamedTuple):
    user: users.User
    # the kind of link; `email` has become what it found
    type: str
    # of a change of the address: one of two has agreed
    is_half: bool = False


class VerifyEndpoints:
    """`/verify`: by POST for clients, by GET for the links in mails."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.routes = [
            Route("/verify", self.verify, methods=["POST"]),
            Route("/verify", self.follow, methods=["GET"]),
        ]

    async def verify(self, request: Request) -> Response:
        """Uses up a code with its address, or the token of a link, and signs in."""
        project = self._project
        body = await read(request, Verification)
        project.limits.verifications.take_for(request)
        _check(body)
        async with project.pool.connection() as conn:
            if body.token_hash:
                kinds = _KINDS.get(body.type)
                if kinds is None:
                    raise validation_failed("Invalid email verification type")
                found = await project.codes.use_token(conn, body.token_hash, kinds)
                if found is None:
                    raise link_invalid()
            else:
                found = await self._use_digits(conn, body)
            verified = await self._apply(conn, body.type, found)
            if verified.is_half:
                return JSONResponse({"msg": HALF_CONFIRMED, "code": "200"})
            return answer(await project.sign_in(conn, request, verified.user, "otp"))

    async def follow(self, request: Request) -> Response:
        """Uses up a link, and leads to the page that it was made for.

        The page gets the session in its fragment, or with PKCE a code in its query; a refusal in
        both, or in the fragment.
        """
        project = self._project
        token, kind = request.query_params.get("token", ""), request.query_params.get("type", "")
        page = redirects.target(request, project.settings)
        if not kind:
            raise validation_failed("Verify requires a verification type")
        if not token:
            raise validation_failed("Verify requires a token or a token hash")
        pkce = token.startswith(PKCE_PREFIX)
        try:
            project.limits.verifications.take_for(request)
            if kind not in _KINDS:
                raise validation_failed("Unsupported verification type")
            url = await self._follow(request, token, kind, page, pkce=pkce)
        except AuthError as error:
            url = _refused(page, error, pkce=pkce)
        return RedirectResponse(url, 303, {"Cache-Control": "no-store"})

    async def _follow(
        self, request: Request, token: str, kind: str, page: str, *, pkce: bool
    ) -> str:
        project = self._project
        async with project.pool.connection() as conn:
            found = await project.codes.use_token(conn, token, _KINDS[kind])
            if found is None:
                raise link_invalid()
            verified = await self._apply(conn, kind, found)
            if verified.is_half:
                if pkce:
                    page = redirects.with_query(page, message=HALF_CONFIRMED)
                return redirects.with_fragment(page, message=HALF_CONFIRMED, sb="")
            if pkce:
                method = _FLOWS.get(verified.type, verified.type)
                code = await flows.issue_code(conn, verified.user.id, method)
                return redirects.with_query(page, code=code)
            session = await project.sign_in(conn, request, verified.user, "otp")
        return _with_session(page, session, kind)

    async def _use_digits(self, conn: users.Connection, body: Verification) -> Found:
        project = self._project
        address = body.email or body.phone or ""
        kinds = (_KINDS if body.email else _SMS_KINDS).get(body.type)
        if kinds is None:
            raise validation_failed(
                "Only an email address or phone number should be provided on verify"
            )
        found = await project.codes.use_digits(conn, address, body.token, kinds)
        if found is None:
            raise code_invalid()
        return found

    async def _apply(self, conn: users.Connection, kind: str, found: Found) -> _Verified:
        user = await users.get(conn, found.user_id)
        if kind == "email":
            kind = "signup" if found.kind == "confirmation_token" else "magiclink"
        # an address that was changed meanwhile is not proved by a mail to the old one
        if found.address != _address(user, kind, found.kind):
            raise link_invalid()
        match kind:
            case "email_change":
                if await self._change_email(conn, user, found.kind):
                    return _Verified(user, kind, is_half=True)
            case "sms":
                await users.confirm_phone(conn, user.id)
            case "phone_change":
                await users.finish_phone_change(conn, user.id)
            case _:
                await users.confirm_email(conn, user.id)
        return _Verified(await users.get(conn, user.id), kind)

    async def _change_email(
        self, conn: users.Connection, user: users.User, confirmed_by: str
    ) -> bool:
        """Confirms the change of an address; returns whether the other has to confirm it too."""
        settings = self._project.settings.email
        needs_both = (
            settings.enable_confirmations and settings.double_confirm_changes and user.email
        )
        if needs_both and not await users.note_confirmation(conn, user.id, confirmed_by):
            return True
        await codes.forget(conn, user.id, _KINDS["email_change"])
        await users.finish_email_change(conn, user.id)
        return False


def _address(user: users.User, kind: str, code: str) -> str | None:
    """The address or number that a code of this kind has to have been sent to."""
    match kind:
        case "email_change" if code == "email_change_token_new":
            return user.new_email
        case "sms":
            return user.phone
        case "phone_change":
            return user.new_phone
        case _:
            return user.email


def _check(body: Verification) -> None:
    if not body.type:
        raise validation_failed("Verify requires a verification type")
    if bool(body.token) == bool(body.token_hash):
        raise validation_failed("Verify requires either a token or a token hash")
    if body.token_hash and (body.email or body.phone or body.redirect_to):
        raise validation_failed("Only the token_hash and type should be provided")
    if body.token and bool(body.email) == bool(body.phone):
        raise validation_failed(
            "Only an email address or phone number should be provided on verify"
        )


def _with_session(page: str, session: Session, kind: str) -> str:
    return redirects.with_fragment(
        page,
        access_token=session.access_token,
        expires_at=str(session.expires_at),
        expires_in=str(session.expires_in),
        refresh_token=session.refresh_token,
        token_type=session.token_type,
        type=kind,
        sb="",
    )


_OAUTH_ERRORS: dict[
    int, Literal["invalid_request", "unauthorized_client", "access_denied", "server_error"]
] = {
    400: "invalid_request",
    401: "unauthorized_client",
    403: "access_denied",
    500: "server_error",
}


def _refused(page: str, error: AuthError, *, pkce: bool) -> str:
    values = {"error_code": error.code, "error_description": error.message}
    if error.status in _OAUTH_ERRORS:
        values = {"error": _OAUTH_ERRORS[error.status], **values}
    if pkce:
        page = redirects.with_query(page, **values)
    return redirects.with_fragment(page, **values, sb="")
