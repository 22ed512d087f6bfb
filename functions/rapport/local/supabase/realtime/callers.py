"""The caller of a channel, as its token says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rapport.local.supabase.keys import (
    BadSignatureError,
    Claims,
    ExpiredTokenError,
    KeySet,
    MalformedTokenError,
    TokenError,
    verify,
)
from rapport.local.supabase.realtime.frames import encode


@dataclass(frozen=True)
class TokenCaller:
    """A verified token in the form for the database; `claims` is JSON text.

    `expires_at` is in seconds since 1970. Two callers with the same token are equal.
    """

    role: str
    claims: str
    subject: str
    expires_at: float

    @classmethod
    def of(cls, keys: KeySet, token: str) -> TokenCaller:
        """Raises TokenError."""
        claims: Claims = verify(keys, token)
        return cls(
            role=claims.role,
            claims=encode(claims.model_dump(exclude_unset=True)),
            subject=claims.sub or "",
            expires_at=claims.exp,
        )


def code_of(error: TokenError) -> str:
    """The code by which Realtime refuses a join for a token."""
    match error:
        case MalformedTokenError():
            return "MalformedJWT"
        case BadSignatureError():
            return "JwtSignatureError"
        case _:
            return "InvalidJWTToken"


def handshake_text(error: TokenError) -> str:
    """The sentence by which Realtime refuses a connection for a token."""
    return "Token has expired" if isinstance(error, ExpiredTokenError) else str(error)


def headers_for_policies(headers: Mapping[str, str]) -> str:
    """The headers of a request that policies may read, as a JSON object."""
    return encode({name: value for name, value in headers.items() if name.startswith("x-")})
