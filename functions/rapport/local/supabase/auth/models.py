"""The bodies and queries that Auth accepts. Unknown fields are ignored, as in GoTrue."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    JsonValue,
    SecretStr,
    StringConstraints,
)

Metadata = dict[str, JsonValue]

_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]+@[^@\s\x00-\x1f\x7f]+")
_DURATION = re.compile(r"(?:[0-9]{1,6}[hms])+")
_DURATION_PART = re.compile(r"([0-9]+)([hms])")
_UNITS = {"h": "hours", "m": "minutes", "s": "seconds"}


def _normal_email(value: str) -> str:
    if not _EMAIL.fullmatch(value):
        raise ValueError("Unable to validate email address: invalid format")
    return value.lower()


def _duration(value: str) -> str:
    if value != "none" and not _DURATION.fullmatch(value):
        raise ValueError("expected a duration such as 24h or 1h30m, or none")
    return value


Email = Annotated[str, StringConstraints(max_length=255), AfterValidator(_normal_email)]
Role = Annotated[str, StringConstraints(max_length=255)]
Phone = Annotated[str, StringConstraints(pattern=r"^\+?[0-9]{4,15}$")]


class Credentials(BaseModel):
    """The body of a sign-up or a password grant."""

    email: Email | None = None
    phone: str | None = None
    password: SecretStr | None = None
    data: Metadata | None = None


class RefreshGrant(BaseModel):
    """The body of a refresh grant."""

    refresh_token: Annotated[str, StringConstraints(max_length=255)]


class UserChanges(BaseModel):
    """What users may change about themselves; a metadata key set to null is removed."""

    email: Email | None = None
    password: SecretStr | None = None
    data: Metadata | None = None


class AdminAttributes(BaseModel):
    """The fields of a user that a holder of the service key may set."""

    id: UUID | None = None
    email: Email | None = None
    phone: Phone | None = None
    password: SecretStr | None = None
    role: Role | None = None
    email_confirm: bool = False
    phone_confirm: bool = False
    user_metadata: Metadata | None = None
    app_metadata: Metadata | None = None
    ban_duration: Annotated[str, AfterValidator(_duration)] | None = None

    @property
    def ban(self) -> timedelta | None:
        """How long the user is locked out from now; None if no ban is set or a ban is lifted."""
        parts = _DURATION_PART.findall(self.ban_duration or "")
        return (
            sum(
                (timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts),
                start=timedelta(),
            )
            or None
        )


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

    grant_type: Literal["password", "refresh_token"]
