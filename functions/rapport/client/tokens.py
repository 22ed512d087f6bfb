"""Access tokens, renewed before they expire."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from collections.abc import Awaitable, Callable
from uuid import UUID

from pydantic import BaseModel, ValidationError
from supabase import AsyncClient

from rapport.errors import NotSignedIn, UpstreamUnavailable

# seconds: until a provider that failed is asked again, while the last token is still valid
_ASK_AGAIN_SECONDS = 5.0
_PATIENCE_SECONDS = 30.0

AccessToken = Callable[[], Awaitable[str]]


class TokenClaims(BaseModel):
    """The fields of its own token that a client reads. Only the server can verify them."""

    sub: UUID
    # in seconds since 1970, by the server's clock
    exp: float
    iat: float | None = None

    def seconds_left(self, now: float) -> float:
        """How long the token is good. Where the machine's clock can't be right, which says that the
        token is not issued yet or has ended, it counts as just issued: the server alone can tell.
        """
        is_plausible = self.iat is None or self.iat <= now < self.exp
        return self.exp - (now if self.iat is None or is_plausible else self.iat)


class Tokens:
    """The user's current token; `provider` is asked for a new one before it expires.

    `margin` is in seconds. A token with a shorter life than twice the margin is renewed after half
    of its life. If the provider fails then, the old token is used until it expires.
    """

    def __init__(self, provider: AccessToken, margin: float) -> None:
        self._provider = provider
        self._margin = margin
        self._token: str | None = None
        # the last one that the server has refused
        self._refused: str | None = None
        self._renew_at = 0.0
        self._expires_at = 0.0
        self._user: UUID | None = None
        self._asking = asyncio.Lock()

    @property
    def seconds_left(self) -> float:
        """Seconds until the token is renewed; at least 0."""
        return max(0.0, self._renew_at - time.time())

    async def user(self) -> UUID:
        """The user that the tokens belong to."""
        return _claims(await self.current()).sub

    async def current(self) -> str:
        """A token that is valid for some time.

        Raises NotSignedIn when the provider returns no such token, or again the one that the server
        has refused, and the errors of the provider.
        """
        async with self._asking:
            if self._token is not None and time.time() < self._renew_at:
                return self._token
            try:
                token = await self._ask()
            except NotSignedIn:
                raise
            except Exception:
                now = time.time()
                if self._token is None or now >= self._expires_at:
                    raise
                self._renew_at = min(self._expires_at, now + _ASK_AGAIN_SECONDS)
                return self._token
            claims = _claims(token)
            now = time.time()
            left = claims.seconds_left(now)
            if left <= 0 or token == self._refused:
                raise NotSignedIn("The access token has expired. Sign in again.")
            if self._user not in (None, claims.sub):
                # all rows so far belong to the first user
                raise NotSignedIn("The access token is another user's.")
            self._user = claims.sub
            self._expires_at = now + left
            self._renew_at = now + max(left - self._margin, left / 2)
            self._token = token
            return token

    async def _ask(self) -> str:
        try:
            # every request waits for the token
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self._provider()
        except TimeoutError:
            raise UpstreamUnavailable(
                f"No access token came within {_PATIENCE_SECONDS:.0f} seconds."
            ) from None

    def discard(self) -> None:
        """Forgets a token that the server refused, as it also does while clocks differ."""
        self._refused = self._token or self._refused
        self._token = None
        self._renew_at = 0.0


def of_session(client: AsyncClient) -> AccessToken:
    """The tokens of the official client's session; the official client renews them."""

    async def current() -> str:
        session = await client.auth.get_session()
        if session is None:
            raise NotSignedIn("Nobody is signed in. Sign in first.")
        return session.access_token

    return current


def _claims(token: str) -> TokenClaims:
    try:
        body = token.split(".")[1]
        return TokenClaims.model_validate_json(
            base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
        )
    except (IndexError, binascii.Error, ValueError, ValidationError) as error:
        raise NotSignedIn("This is not a user's access token.") from error
