"""The stack's tokens: makes API keys and users' access tokens, and verifies them."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Literal
from uuid import UUID, uuid4

import jwt
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

ALGORITHM = "HS256"
ACCESS_TOKEN_LIFETIME = timedelta(hours=1)
KEY_LIFETIME = timedelta(days=10 * 365)


class TokenError(Exception):
    """A token was refused."""


class MalformedTokenError(TokenError):
    """The token provided is not a valid JWT."""


class BadSignatureError(TokenError):
    """The token was not signed with this stack's secret by HS256."""


class MissingClaimsError(TokenError):
    """Fields `role` and `exp` are required in JWT."""


class ExpiredTokenError(TokenError):
    """The token has expired."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Token has expired {seconds} seconds ago")
        self.seconds = seconds


class Claims(BaseModel):
    """The claims of a verified token; `model_dump(exclude_unset=True)` gives exactly the signed
    ones.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    role: str
    # in seconds since 1970; may have a fraction
    exp: int | float
    sub: str | None = None
    session_id: str | None = None


def mint_key(jwt_secret: str, role: Literal["anon", "service_role"]) -> str:
    """Makes an API key of the legacy kind: a long-lived token for a role without a user."""
    now = int(time.time())
    claims = {
        "iss": "supabase",
        "role": role,
        "iat": now,
        "exp": now + int(KEY_LIFETIME.total_seconds()),
    }
    return jwt.encode(claims, jwt_secret, ALGORITHM)


def mint_user_token(
    jwt_secret: str,
    *,
    user_id: UUID,
    session_id: UUID | None = None,
    issuer: str = "supabase",
    email: str = "",
    phone: str = "",
    app_metadata: dict[str, JsonValue] | None = None,
    user_metadata: dict[str, JsonValue] | None = None,
    role: str = "authenticated",
    is_anonymous: bool = False,
    signed_in_at: int | None = None,
    lifetime: timedelta = ACCESS_TOKEN_LIFETIME,
) -> str:
    """Makes the access token of a user who signed in with a password.

    `signed_in_at` is the time of the password check, in seconds since 1970; by default now. Source
    of the claims: Supabase's "JWT Claims Reference".
    """
    now = int(time.time())
    claims = {
        "iss": issuer,
        "sub": str(user_id),
        "aud": "authenticated",
        "exp": now + int(lifetime.total_seconds()),
        "iat": now,
        "email": email,
        "phone": phone,
        "app_metadata": app_metadata or {},
        "user_metadata": user_metadata or {},
        "role": role,
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": now if signed_in_at is None else signed_in_at}],
        "session_id": str(session_id or uuid4()),
        "is_anonymous": is_anonymous,
    }
    return jwt.encode(claims, jwt_secret, ALGORITHM)


def verify(jwt_secret: str, token: str) -> Claims:
    """Checks a token's signature, form and expiry. It does not ask a database.

    Raises MalformedTokenError, BadSignatureError, MissingClaimsError or ExpiredTokenError.
    """
    try:
        payload = jwt.decode(
            token,
            jwt_secret,
            algorithms=[ALGORITHM],
            # PostgREST and Realtime don't check audience and issuer either; expiry is checked
            # below, so that the error can say since when
            options={"verify_aud": False, "verify_iss": False, "verify_exp": False},
        )
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError) as error:
        raise BadSignatureError("Failed to validate JWT signature") from error
    # a token from a frame may not be UTF-8, and its header may be nested too deep to parse
    except (jwt.InvalidTokenError, UnicodeError, RecursionError) as error:
        raise MalformedTokenError("The token provided is not a valid JWT") from error
    try:
        claims = Claims.model_validate(payload)
    except ValidationError as error:
        raise MissingClaimsError("Fields `role` and `exp` are required in JWT") from error
    expired_for = time.time() - claims.exp
    if expired_for >= 0:
        raise ExpiredTokenError(int(expired_for))
    return claims
