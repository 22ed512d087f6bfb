"""Auth's settings: the section `[auth]` of the Supabase CLI's config.toml, with its names."""

from __future__ import annotations

import os
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from rapport.local.errors import StackError
from rapport.local.stack.state import PROJECT

CONFIG = PROJECT / "supabase" / "config.toml"

_DURATION = re.compile(r"(?:[0-9]{1,6}(?:ms|h|m|s))+")
_DURATION_PART = re.compile(r"([0-9]+)(ms|h|m|s)")
_UNITS = {"h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}
_ENVIRONMENT = re.compile(r"env\((\w+)\)")


def duration(value: str) -> timedelta:
    """Reads a duration such as 24h, 1h30m or 500ms. Raises ValueError."""
    if not _DURATION.fullmatch(value):
        raise ValueError("expected a duration such as 24h or 1h30m")
    parts = _DURATION_PART.findall(value)
    return sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())


def _duration(value: object) -> object:
    return duration(value) if isinstance(value, str) else value


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Count = Annotated[int, Field(ge=0)]


class _Section(BaseModel):
    # the CLI's file also has settings of parts that are not served here
    model_config = ConfigDict(frozen=True, extra="ignore")


class RateLimits(_Section):
    """How often something may be asked; generous, since it is one developer who asks.

    `email_sent`, `sms_sent` are those of the project in an hour, `anonymous_users` those of an IP
    address in an hour, and the others those of an IP address in five minutes.
    """

    email_sent: Count = 3_600
    sms_sent: Count = 3_600
    anonymous_users: Count = 3_600
    sign_in_sign_ups: Count = 10_000
    token_refresh: Count = 10_000
    token_verifications: Count = 3_000


class EmailSettings(_Section):
    """Sign-up and sign-in by email address. `otp_expiry` in seconds."""

    enable_signup: bool = True
    # a new address is confirmed by the old one as well
    double_confirm_changes: bool = True
    # off: addresses count as confirmed
    enable_confirmations: bool = False
    # a new password needs a recent sign-in, or the code of `reauthenticate`
    secure_password_change: bool = False
    max_frequency: Duration = timedelta(seconds=1)
    otp_length: Annotated[int, Field(ge=6, le=10)] = 6
    otp_expiry: Annotated[int, Field(ge=1, le=86_400)] = 3_600


class SmsSettings(_Section):
    """Sign-up and sign-in by phone number; messages land in the local inbox."""

    enable_signup: bool = True
    enable_confirmations: bool = True
    max_frequency: Duration = timedelta(seconds=1)


class AuthSettings(_Section):
    """Everything that can be set. `jwt_expiry` and `refresh_token_reuse_interval` in seconds."""

    site_url: str = "http://127.0.0.1:3000"
    # patterns: * stands for anything without dot and slash, ** for anything
    additional_redirect_urls: tuple[str, ...] = ()
    # the stack's own, where the network may ask: pages there are ours, and links begin so, too
    network_urls: tuple[str, ...] = ()
    jwt_expiry: Annotated[int, Field(ge=1, le=604_800)] = 3_600
    enable_refresh_token_rotation: bool = True
    refresh_token_reuse_interval: Count = 10
    enable_signup: bool = True
    enable_anonymous_sign_ins: bool = False
    minimum_password_length: Annotated[int, Field(ge=6, le=72)] = 6
    password_requirements: Literal[
        "",
        "letters_digits",
        "lower_upper_letters_digits",
        "lower_upper_letters_digits_symbols",
    ] = ""
    rate_limit: RateLimits = RateLimits()
    email: EmailSettings = EmailSettings()
    sms: SmsSettings = SmsSettings()

    @property
    def access_token_lifetime(self) -> timedelta:
        return timedelta(seconds=self.jwt_expiry)

    @classmethod
    def read(cls, file: Path = CONFIG) -> AuthSettings:
        """Reads a config.toml; a missing setting, or all of a missing file, has its default.

        Raises StackError with the name of a setting that is wrong.
        """
        try:
            section = tomllib.loads(file.read_text()).get("auth", {})
        except FileNotFoundError:
            return cls()
        except tomllib.TOMLDecodeError as error:
            raise StackError(f"{file} can't be read: {error}") from error
        try:
            return cls.model_validate(_from_environment(section))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = ".".join(("auth", *(str(part) for part in first["loc"])))
            raise StackError(f"{file}: {name}: {first['msg']}") from None


def _from_environment(value: object) -> object:
    """Puts variables in for `env(NAME)`, as the CLI does; one that is not set stays as it is."""
    if isinstance(value, dict):
        return {key: _from_environment(inner) for key, inner in value.items()}
    if isinstance(value, str) and (found := _ENVIRONMENT.fullmatch(value)):
        return os.environ.get(found[1], value)
    return value
