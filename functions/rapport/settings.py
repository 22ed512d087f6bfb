"""Settings of a deployment: environment variables, read when a function first needs them.

A variable whose name ends in `_PARAMETER` names the SSM parameter that has the value of the
variable without that ending: no secret stands in a template or in a function's environment.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Container
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Generic, Literal, NamedTuple, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    PrivateAttr,
    SecretStr,
    ValidationError,
)
from pydantic_core import CoreSchema, Url, core_schema

from rapport.api_keys import kind_of
from rapport.errors import ConfigError, UpstreamUnavailable
from rapport.graph_version import GRAPH_URL

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_IN_FUNCTIONS = (
    "Set it in the function's environment, or the SSM parameter that the variable with the ending"
    " _PARAMETER names: serverless.yml says where each value comes from, and `rapport up` sets all"
    " of them."
)
# variables that are also read under an older name
_OLDER = {
    "SUPABASE_PUBLISHABLE_KEY": "SUPABASE_ANON_KEY",
    "SUPABASE_SECRET_KEY": "SUPABASE_SERVICE_ROLE_KEY",
}
_ENDING = "_PARAMETER"
# seconds between two readings of what was refused: a stranger who is refused causes no more
REREAD_INTERVAL = 60.0
# seconds: a secret that was taken back is good no longer than this where nobody refuses it for us
MAX_AGE = 300.0


class _Parameters:
    """The parameters that the environment names, read together when the first one is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, str] = {}
        self._read_at = 0.0
        # counts the readings
        self.reading = 0

    def value(self, variable: str) -> str | None:
        """The value of a variable that the environment names a parameter for; else None.

        Raises:
            ConfigError: The function may not read it.
            UpstreamUnavailable: It can't be read at the moment.
        """
        name = os.environ.get(variable + _ENDING)
        if not name:
            return None
        with self._lock:
            # another environment names others; and one that is missing may have been made by now
            if name not in self._values or not (self._values[name] or self._is_fresh()):
                self._read()
            return self._values.get(name) or None

    def reread(self) -> None:
        """Reads all of them anew, once a minute at most; the old ones stay if that fails."""
        with self._lock:
            if self._values and not self._is_fresh():
                # a failure counts as well, or each refusal would lead to a call
                self._read_at = time.monotonic()
                with suppress(ConfigError, UpstreamUnavailable):
                    self._read()

    def are_old(self) -> bool:
        """Whether they were read so long ago that they may have been taken back."""
        return time.monotonic() - self._read_at >= MAX_AGE

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._read_at < REREAD_INTERVAL

    def _read(self) -> None:
        # imported when needed: a host without AWS does not call it
        from rapport.aws.parameters import read_parameters

        names = {
            value
            for variable, value in os.environ.items()
            # with a place for an account or a number in it, it is read for that one
            if variable.endswith(_ENDING) and value and "{" not in value
        }
        found = read_parameters(names)
        self._values = dict.fromkeys(names, "") | {
            name: secret.get_secret_value() for name, secret in found.items()
        }
        self._read_at = time.monotonic()
        self.reading += 1


_parameters = _Parameters()


class _Settings(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")

    # the reading of the parameters that a value is of; they may change
    _reading: int | None = PrivateAttr(default=None)

    @classmethod
    def load(cls, remedy: str = _IN_FUNCTIONS) -> Self:
        """Reads the environment; `remedy` says where to set what is missing or wrong.

        Raises:
            ConfigError: A variable is missing or has no valid value; the message names it.
            UpstreamUnavailable: A parameter can't be read at the moment.
        """
        found = {name: _Variable.find(name.upper(), cls.model_fields) for name in cls.model_fields}
        try:
            settings = cls.model_validate(
                {name: one.value for name, one in found.items() if one.value is not None}
            )
        except ValidationError as error:
            faults = "; ".join(
                found[str(fault["loc"][0])].told(fault)
                for fault in error.errors(include_url=False, include_input=False)
            )
            raise ConfigError(f"{faults}. {remedy}") from None
        if any(one.parameter for one in found.values()):
            settings._reading = _parameters.reading
        return settings

    def is_old(self) -> bool:
        """Whether a parameter of these may be another by now."""
        return self._reading is not None and (
            self._reading != _parameters.reading or _parameters.are_old()
        )

    def reread(self) -> Self | None:
        """Called where a value of these was refused: the settings with what the parameters say now.

        The parameters are read once a minute at most; None where nothing is other than it was.
        """
        if self._reading is None:
            return None
        _parameters.reread()
        try:
            fresh = type(self).load()
        except (ConfigError, UpstreamUnavailable):
            return None
        return None if fresh.__dict__ == self.__dict__ else fresh


class _Variable(NamedTuple):
    """The value of a setting, and where it is or is to be set."""

    name: str
    value: str | None
    # the SSM parameter that is to have the value
    parameter: str | None = None

    @classmethod
    def find(cls, name: str, fields: Container[str]) -> Self:
        """Looks for a variable, and for the parameter that one names. Empty counts as missing."""
        for spelling in (name, _OLDER.get(name, name)):
            if value := os.environ.get(spelling):
                return cls(spelling, value)
        parameter = os.environ.get(name + _ENDING)
        # a setting of its own: the template of many parameters
        if not parameter or (name + _ENDING).lower() in fields:
            return cls(name, None)
        return cls(name, _parameters.value(name), parameter)

    def told(self, fault: ErrorDetails) -> str:
        """What is wrong with it, without the value."""
        if fault["type"] == "missing":
            why = f": there is no parameter {self.parameter}" if self.parameter else ""
            return f"{self.name} is not set{why}"
        place = f"{self.name}, the parameter {self.parameter}" if self.parameter else self.name
        return f"{place}: {fault['msg'].removeprefix('Value error, ')}"


SettingsT = TypeVar("SettingsT", bound=_Settings)


class Current(Generic[SettingsT]):
    """Settings that are read when first needed, and anew after a refusal and when they are old; for
    all threads.
    """

    def __init__(self, load: Callable[[], SettingsT]) -> None:
        self._load = load
        self._settings: SettingsT | None = None

    def __call__(self) -> SettingsT:
        """The settings, as `load` raises."""
        if self._settings is None:
            self._settings = self._load()
        elif self._settings.is_old():
            self._refresh(self._settings)
        return self._settings

    def reread(self) -> bool:
        """Called after a refusal: whether there are other settings now."""
        fresh = (self._settings or self()).reread()
        if fresh is not None:
            self._settings = fresh
        return fresh is not None

    def _refresh(self, old: SettingsT) -> None:
        _parameters.reread()
        # where that fails the old ones stay
        with suppress(ConfigError, UpstreamUnavailable):
            self._settings = type(old).load()


def _stripped(value: object) -> object:
    """Removes surrounding white space: copying often adds a line break."""
    return value.strip() if isinstance(value, str) else value


def _printable(secret: SecretStr) -> SecretStr:
    """Refuses a secret with spaces or line breaks, which can't be sent in a header."""
    if not re.fullmatch(r"[!-~]+", secret.get_secret_value()):
        raise ValueError(
            "The secret contains a space, a line break or a letter that no key has: copy it again"
        )
    return secret


# keys, tokens and secrets; one of only white space counts as missing
Secret = Annotated[SecretStr, BeforeValidator(_stripped), AfterValidator(_printable)]


def _parts(value: object) -> object:
    """Removes white space around the parts of a list, and empty parts."""
    if not isinstance(value, str):
        return value
    return ",".join(part for part in map(str.strip, value.split(",")) if part)


# several, with commas between them
Secrets = Annotated[SecretStr, BeforeValidator(_parts), AfterValidator(_printable)]


class _OverHttp:
    """The rules of pydantic's HttpUrl, whose module takes longer to import than this one."""

    def __get_pydantic_core_schema__(self, _source: object, _handler: object) -> CoreSchema:
        return core_schema.url_schema(max_length=2083, allowed_schemes=["http", "https"])


def _as_text(value: object) -> object:
    """What was an address already is read once more."""
    return value if isinstance(value, str) else str(value)


def _named(url: Url) -> Url:
    """Refuses a host that no server can have, and that no call would be made to."""
    parts = (url.host or "").removesuffix(".").split(".")
    # a part of a name, in DNS; an IPv6 address has no parts
    if not all(0 < len(part) < 64 for part in parts):
        raise ValueError("The host's name has an empty part, or one of more than 63 letters")
    return url


Address = Annotated[Url, _OverHttp(), BeforeValidator(_as_text), AfterValidator(_named)]


def _words(value: object) -> object:
    """A list in a variable, separated by commas."""
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


def _not_public(key: SecretStr) -> SecretStr:
    if kind_of(key.get_secret_value()).is_public:
        raise ValueError(
            "This is the project's publishable key, with which the functions may do nothing: take a"
            " secret key (sb_secret_…)"
        )
    return key


def _not_secret(key: SecretStr) -> SecretStr:
    if kind_of(key.get_secret_value()).is_secret:
        raise ValueError(
            "This is a secret key of the project, which no user's call may carry: take the"
            " publishable key (sb_publishable_…)"
        )
    return key


class StoreSettings(_Settings):
    """The database's address, and the key for the functions' RPCs."""

    supabase_url: Address
    supabase_secret_key: Annotated[Secret, AfterValidator(_not_public)]


class UserStoreSettings(_Settings):
    """The database's address, and the key that accompanies a user's own token."""

    supabase_url: Address
    supabase_publishable_key: Annotated[Secret, AfterValidator(_not_secret)]


class GraphSettings(_Settings):
    """The address of WhatsApp's API, and its token."""

    # includes the version
    whatsapp_graph_url: Address = Field(GRAPH_URL, validate_default=True)
    # the token of all numbers …
    whatsapp_token: Secret | None = None
    # … or the SSM parameter of each number: /rapport/prod/whatsapp/{phone_number_id}/token
    whatsapp_token_parameter: str | None = None
    # the field for a person who is known only by a business-scoped user id
    whatsapp_user_id_field: Literal["recipient", "to"] = "recipient"


class MetakockaSettings(_Settings):
    """The address of Metakocka's API, and its key."""

    # for all companies without a server of their own
    metakocka_url: Address = Field("https://main.metakocka.si/rest/eshop/v1", validate_default=True)
    # domains on which a company's own server may be; an account's admin names the server
    metakocka_domains: Annotated[tuple[str, ...], BeforeValidator(_words)] = ("metakocka.si",)
    # the key of all accounts …
    metakocka_secret_key: Secret | None = None
    # … or the SSM parameter of each account: /rapport/prod/metakocka/{account_id}/secret-key
    metakocka_secret_key_parameter: str | None = None
    # the company of each account as ACCOUNT=COMPANY, where accounts share a key; `any` is for the
    # stand-in
    metakocka_companies: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    # ISO 3166: the country of phone numbers without a country code
    metakocka_region: str = "SI"


class WakeSettings(_Settings):
    """The database's secret for waking workers, and where workers run."""

    wake_secret: Secret | None = None
    # the prefix of the Lambda functions' names; without it workers run in the server's process
    worker_function_prefix: str | None = None


class PushSettings(_Settings):
    """Who we are to push services. Without a key nobody is told on a device."""

    # a number of 32 bytes in base64url; a new one ends all subscriptions
    vapid_private_key: Secret | None = None
    # where a push service reaches the people who run this: mailto:… or https://…
    vapid_contact: Annotated[str, Field(pattern=r"^(mailto:|https://)[!-~]+$")] | None = None
    # for the push service of this machine's stack
    push_allows_loopback: bool = False


class MediaSettings(_Settings):
    """The bucket for files. Its credentials are AWS's in the environment."""

    media_bucket: str
    # for a service that speaks S3 and is not AWS
    aws_endpoint_url_s3: Address | None = None


class WhatsAppSettings(_Settings):
    """The secrets shared with Meta's app. Without a secret, the requests that it protects are
    refused.
    """

    # one, or while it is changed two, with a comma between them: both are good
    whatsapp_app_secret: Secrets | None = None
    whatsapp_verify_token: Secret | None = None

    @property
    def app_secrets(self) -> tuple[str, ...]:
        """The app secrets that are good at the moment."""
        told = self.whatsapp_app_secret.get_secret_value() if self.whatsapp_app_secret else ""
        return tuple(one for one in told.split(",") if one)


class ServeSettings(_Settings):
    """Where `rapport serve` listens, and how it ends."""

    # 0.0.0.0 is all addresses of this machine, or of the container
    serve_host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    # at which the database finds it; it is told when the server starts
    serve_url: Address | None = None
    # seconds for running calls to end, after SIGTERM
    serve_drain_seconds: Annotated[float, Field(ge=0, le=900)] = 25
    # of a stack on one machine: what has to answer before the first scheduled run, and the address
    # of files, which callers have another name for
    serve_waits_for: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    serve_files_url: str | None = None


class MetricsSettings(_Settings):
    """Where figures for alarms go; without a namespace there are none."""

    metrics_namespace: str | None = None


class BacklogSettings(_Settings):
    """The queue for webhooks that the database could not take. Without it, Meta repeats them."""

    webhook_queue_url: Address | None = None
    # of webhooks that could not be stored, for `rapport redrive`
    webhook_dead_letters_url: Address | None = None
    # until the next try of a webhook: this long each time while the database is away, up to four
    # times as long after most of an hour; doubled with each try for a webhook that fails by itself
    webhook_retry_seconds: NonNegativeInt = 30
