"""The stack's tokens: makes API keys and users' access tokens, and verifies them.

A project signs with a private key (ES256) and publishes its public half, so that everybody can
verify its tokens. Before, it signed with a secret that it shared with its services (HS256): such
tokens are verified as well.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cache, lru_cache
from typing import Literal
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from rapport.local.stack.running import Stack
from rapport.local.supabase.signing_key import SigningKey

SHARED_SECRET = "HS256"  # noqa: S105 - an algorithm
PRIVATE_KEY = "ES256"
Role = Literal["anon", "service_role"]
ACCESS_TOKEN_LIFETIME = timedelta(hours=1)
KEY_LIFETIME = timedelta(days=10 * 365)
RECENT_TOKENS = 500

_NOT_SIGNED_HERE = "Failed to validate JWT signature"


class TokenError(Exception):
    """A token was refused."""


class MalformedTokenError(TokenError):
    """The token provided is not a valid JWT."""


class BadSignatureError(TokenError):
    """The token was not signed with a key of this stack, or not by the key's algorithm."""


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


def mint_key(jwt_secret: str, role: Role) -> str:
    """Makes an API key of the legacy kind: a long-lived token for a role without a user."""
    return mint_role_token(jwt_secret, role, KEY_LIFETIME)


def mint_role_token(key: SigningKey | str, role: Role, lifetime: timedelta) -> str:
    """Makes a token for a role without a user, signed as `mint_user_token` does."""
    now = int(time.time())
    claims = {
        "iss": "supabase",
        "role": role,
        "iat": now,
        "exp": now + int(lifetime.total_seconds()),
    }
    return _sign(key, claims)


def mint_user_token(
    key: SigningKey | str,
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
    method: str = "password",
    signed_in_at: int | None = None,
    lifetime: timedelta = ACCESS_TOKEN_LIFETIME,
) -> str:
    """Makes the access token of a user who signed in by `method`.

    It is signed with a private key (ES256), or with a shared secret (HS256) where `key` is text.
    `signed_in_at` is the time of the sign-in, in seconds since 1970; by default now. Source
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
        "amr": [{"method": method, "timestamp": now if signed_in_at is None else signed_in_at}],
        "session_id": str(session_id or uuid4()),
        "is_anonymous": is_anonymous,
    }
    return _sign(key, claims)


class KeySet:
    """The keys by which a stack's tokens are verified."""

    def __init__(self, signing_key: SigningKey, jwt_secret: str) -> None:
        self._signing_key = signing_key
        self._jwt_secret = jwt_secret

    @classmethod
    def of(cls, stack: Stack) -> KeySet:
        """The keys of a stack."""
        return cls(stack.signing_key, stack.jwt_secret)

    def key_for(self, header: Mapping[str, object]) -> ec.EllipticCurvePublicKey | str:
        """The key for a token with this header: the algorithm is the key's, not the token's choice.

        Raises BadSignatureError.
        """
        match header:
            case {"alg": "HS256"}:
                return self._jwt_secret
            case {"alg": "ES256", "kid": str(kid)} if kid != self._signing_key.kid:
                raise BadSignatureError(_NOT_SIGNED_HERE)
            case {"alg": "ES256"}:
                return _private_key(self._signing_key).public_key()
            case _:
                raise BadSignatureError(_NOT_SIGNED_HERE)


def verify(keys: KeySet, token: str) -> Claims:
    """Checks a token's signature, form and expiry. It does not ask a database.

    Raises MalformedTokenError, BadSignatureError, MissingClaimsError or ExpiredTokenError.
    """
    claims = _signed_claims(keys, token)
    expired_for = time.time() - claims.exp
    if expired_for >= 0:
        raise ExpiredTokenError(int(expired_for))
    return claims


# a user sends the same token with each request, and to verify it takes 0.1 ms
@lru_cache(maxsize=RECENT_TOKENS)
def _signed_claims(keys: KeySet, token: str) -> Claims:
    try:
        key = keys.key_for(jwt.get_unverified_header(token))
        payload = jwt.decode(
            token,
            key,
            algorithms=[SHARED_SECRET if isinstance(key, str) else PRIVATE_KEY],
            # PostgREST and Realtime don't check audience and issuer either; `verify` checks the
            # expiry, each time, and says since when
            options={"verify_aud": False, "verify_iss": False, "verify_exp": False},
        )
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError) as error:
        raise BadSignatureError(_NOT_SIGNED_HERE) from error
    # a token from a frame may not be UTF-8, and its header may be nested too deep to parse
    except (jwt.InvalidTokenError, UnicodeError, RecursionError) as error:
        raise MalformedTokenError("The token provided is not a valid JWT") from error
    try:
        return Claims.model_validate(payload)
    except ValidationError as error:
        raise MissingClaimsError("Fields `role` and `exp` are required in JWT") from error


def _sign(key: SigningKey | str, claims: Mapping[str, object]) -> str:
    if isinstance(key, str):
        return jwt.encode({**claims}, key, SHARED_SECRET)
    return jwt.encode({**claims}, _private_key(key), PRIVATE_KEY, headers={"kid": key.kid})


@cache
def _private_key(key: SigningKey) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(key.private_number, ec.SECP256R1())
