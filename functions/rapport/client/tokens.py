"""Access tokens that are renewed before they expire."""

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

# of a provider that is away, while a token is still good
_ASK_AGAIN_SECONDS = 5.0
_PATIENCE_SECONDS = 30.0

AccessToken = Callable[[], Awaitable[str]]


class TokenClaims(BaseModel):
    """What a client reads of its own token; the server alone can verify it."""

    sub: UUID
    # seconds since 1970
    exp: float


class Tokens:
    """The user's token of the moment, asked of `provider` anew when it is about to expire.

    `margin` is in seconds; a token that lives shorter is renewed after half of its life. Should
    the provider be away then, the token serves for as long as it lives.
    """

    def __init__(self, provider: AccessToken, margin: float) -> None:
        self._provider = provider
        self._margin = margin
        self._token: str | None = None
        self._renew_at = 0.0
        self._expires_at = 0.0
        self._user: UUID | None = None
        self._asking = asyncio.Lock()

    @property
    def seconds_left(self) -> float:
        """How long until the token is renewed; at least 0."""
        return max(0.0, self._renew_at - time.time())

    async def user(self) -> UUID:
        """The user whom the tokens are of."""
        return _claims(await self.current()).sub

    async def current(self) -> str:
        """A token that is good for some time yet.

        Raises NotSignedIn when the provider gives no such token, and what the provider raises.
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
            if claims.exp <= now:
                raise NotSignedIn("The access token has expired.")
            if self._user not in (None, claims.sub):
                # what was told so far is another's
                raise NotSignedIn("The access token is another user's.")
            self._user = claims.sub
            self._expires_at = claims.exp
            self._renew_at = max(claims.exp - self._margin, now + (claims.exp - now) / 2)
            self._token = token
            return token

    async def _ask(self) -> str:
        try:
            # everything waits for it
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return await self._provider()
        except TimeoutError:
            raise UpstreamUnavailable("No access token has come in time.") from None

    def discard(self) -> None:
        """Forgets a token that was refused."""
        self._token = None
        self._renew_at = 0.0


def of_session(client: AsyncClient) -> AccessToken:
    """The tokens of whoever is signed in with the official client, which renews them."""

    async def current() -> str:
        session = await client.auth.get_session()
        if session is None:
            raise NotSignedIn("Nobody is signed in.")
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
