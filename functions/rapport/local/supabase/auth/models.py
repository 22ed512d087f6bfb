"""The bodies and queries that Auth accepts. Unknown fields are ignored, as in GoTrue."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    JsonValue,
    SecretStr,
    StringConstraints,
)

from rapport.local.supabase.auth.errors import validation_failed
from rapport.local.supabase.auth.settings import duration

Metadata = dict[str, JsonValue]

# the valid addresses of HTML's input fields, as GoTrue takes them
_EMAIL = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+"
    r"@[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_PHONE = re.compile(r"[1-9][0-9]{1,14}")
_CHALLENGE = re.compile(r"[A-Za-z0-9._~-]{43,128}")


def _normal_email(value: str) -> str | None:
    if not value:
        return None
    if not _EMAIL.fullmatch(value):
        raise ValueError("Unable to validate email address: invalid format")
    return value.lower()


def _normal_phone(value: str) -> str | None:
    if not value:
        return None
    digits = value.removeprefix("+").replace(" ", "")
    if not _PHONE.fullmatch(digits):
        raise ValueError("Invalid phone number format (E.164 required)")
    return digits


def _ban(value: object) -> object:
    if not isinstance(value, str) or value == "none":
        return value
    try:
        return duration(value)
    except ValueError as error:
        raise ValueError(f"ban_duration: {error}, or none") from error


# an empty one counts as none
Email = Annotated[str, StringConstraints(max_length=255), AfterValidator(_normal_email)]
Phone = Annotated[str, StringConstraints(max_length=32), AfterValidator(_normal_phone)]
Role = Annotated[str, StringConstraints(max_length=255)]
Text = Annotated[str, StringConstraints(max_length=255)]


class Challenge(BaseModel):
    """The fields by which a body asks that a link lead to a code for its client alone (PKCE)."""

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


class Credentials(Challenge):
    """The body of a sign-up or a password grant."""

    email: Email | None = None
    phone: Phone | None = None
    password: SecretStr | None = None
    data: Metadata | None = None
    channel: Text | None = None


class RefreshGrant(BaseModel):
    """The body of a refresh grant."""

    refresh_token: Text


class CodeGrant(BaseModel):
    """The body of a grant for a code that a link has brought (PKCE)."""

    auth_code: Text = ""
    code_verifier: Text = ""


class UserChanges(Challenge):
    """The fields that users may change about themselves; a metadata key set to null is removed."""

    email: Email | None = None
    phone: Phone | None = None
    password: SecretStr | None = None
    # the code of `reauthenticate`
    nonce: Text | None = None
    data: Metadata | None = None
    app_metadata: Metadata | None = None
    channel: Text | None = None


class CodeRequest(Challenge):
    """The body of a request for a code or magic link."""

    email: Email | None = None
    phone: Phone | None = None
    create_user: bool = True
    data: Metadata | None = None
    channel: Text | None = None


class Recovery(Challenge):
    """The body of a request to recover a password."""

    email: Email | None = None


class Resend(Challenge):
    """The body of a request to send a message again."""

    type: Text = ""
    email: Email | None = None
    phone: Phone | None = None


class Verification(BaseModel):
    """A code with its address, or the token of a link."""

    type: Text = ""
    token: Text = ""
    token_hash: Text = ""
    email: Email | None = None
    phone: Phone | None = None
    redirect_to: str | None = None


class Invitation(BaseModel):
    """The body of an invitation by mail."""

    email: Email | None = None
    data: Metadata | None = None


class LinkRequest(BaseModel):
    """The body of a request for a link that the caller sends itself."""

    type: Text
    email: Email | None = None
    new_email: Email | None = None
    password: SecretStr | None = None
    data: Metadata | None = None
    redirect_to: str | None = None


class AdminAttributes(BaseModel):
    """The fields of a user that a holder of the service key may set."""

    id: UUID | None = None
    email: Email | None = None
    phone: Phone | None = None
    password: SecretStr | None = None
    password_hash: SecretStr | None = None
    role: Role | None = None
    email_confirm: bool = False
    phone_confirm: bool = False
    user_metadata: Metadata | None = None
    app_metadata: Metadata | None = None
    # how long the user is locked out from now
    ban_duration: Annotated[timedelta | Literal["none"], BeforeValidator(_ban)] | None = None

    @property
    def ban(self) -> timedelta | None:
        """How long the user is locked out; None if no ban is set or a ban is lifted."""
        return (self.ban_duration or None) if self.ban_duration != "none" else None


class Deletion(BaseModel):
    """The body of a user's deletion; it may be missing."""

    should_soft_delete: bool = False


class UserPage(BaseModel):
    """The page of users to list, from the query."""

    page: int = Field(default=1, ge=1, le=1_000_000)
    per_page: int = Field(default=50, ge=1, le=1000)


class LogoutScope(BaseModel):
    """The sessions that a logout ends, from the query."""

    scope: Literal["global", "local", "others"] = "global"


class GrantType(BaseModel):
    """The kind of grant for an access token, from the query."""

    grant_type: Literal["password", "refresh_token", "pkce", "id_token", "web3"]
