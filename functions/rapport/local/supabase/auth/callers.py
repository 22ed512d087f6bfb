"""The caller of Auth: a user with an access token, or an administrator with the service key."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from starlette.requests import Request

from rapport.local.supabase import keys
from rapport.local.supabase.auth import sessions, users
from rapport.local.supabase.auth.errors import AuthError
from rapport.local.supabase.auth.project import Project

ADMIN_ROLES = ("service_role", "supabase_admin")


class SessionCaller(NamedTuple):
    """A signed-in user and the session of the access token, if it names one."""

    user: users.User
    session_id: UUID | None


async def signed_in(conn: users.Connection, request: Request, project: Project) -> SessionCaller:
    """Finds the user whose access token a request carries.

    Raises AuthError: 401 without a token; 403 if the token is invalid or its user or session is
    gone.
    """
    claims = _claims(request, project)
    if not claims.sub:
        raise AuthError(403, "bad_jwt", "invalid claim: missing sub claim")
    user_id = _uuid(claims.sub, "sub")
    session_id = _uuid(claims.session_id, "session_id") if claims.session_id else None
    try:
        user = await users.get(conn, user_id)
    except AuthError as error:
        if error.code != "user_not_found":
            raise
        raise AuthError(403, error.code, "User from sub claim in JWT does not exist") from error
    if session_id and not await sessions.exists(conn, session_id):
        raise AuthError(
            403, "session_not_found", "Session from session_id claim in JWT does not exist"
        )
    return SessionCaller(user, session_id)


def require_admin(request: Request, project: Project) -> None:
    """Raises AuthError unless a request carries an administrator's token."""
    if _claims(request, project).role not in ADMIN_ROLES:
        raise AuthError(403, "not_admin", "User not allowed")


def _claims(request: Request, project: Project) -> keys.Claims:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise AuthError(401, "no_authorization", "This endpoint requires a valid Bearer token")
    try:
        return project.claims(token)
    except keys.TokenError as error:
        raise AuthError(
            403, "bad_jwt", f"invalid JWT: unable to parse or verify signature, {error}"
        ) from error


def _uuid(value: str, claim: str) -> UUID:
    try:
        return UUID(value)
    except ValueError as error:
        raise AuthError(403, "bad_jwt", f"invalid claim: {claim} must be a UUID") from error
