"""The challenge by which a client asks that a link lead to a code for it alone (PKCE)."""

from __future__ import annotations

import re

from pydantic import BaseModel

from rapport.local.supabase.auth.errors import validation_failed

_CHALLENGE = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class Challenge(BaseModel):
    """The fields by which a body asks for a code instead of tokens."""

    code_challenge: str | None = None
    code_challenge_method: str | None = None

    @property
    def is_pkce(self) -> bool:
        return bool(self.code_challenge)

    def check(self) -> None:
        """Raises AuthError for a challenge that can't be met."""
        if bool(self.code_challenge) != bool(self.code_challenge_method):
            raise validation_failed("PKCE flow requires code_challenge_method and code_challenge")
        if self.code_challenge and not _CHALLENGE.fullmatch(self.code_challenge):
            raise validation_failed(
                "code challenge has to be between 43 and 128 characters: "
                "letters, digits, hyphens, periods, underscores and tildes"
            )
        if (self.code_challenge_method or "s256").lower() not in ("s256", "plain"):
            raise validation_failed("code_challenge_method has to be s256 or plain")
