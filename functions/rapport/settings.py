"""Settings of a deployment: environment variables, read when a function first needs them."""

from __future__ import annotations

import os
import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    HttpUrl,
    NonNegativeInt,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from rapport.api_keys import kind_of
from rapport.errors import ConfigError

_IN_FUNCTIONS = (
    "Set it in the function's environment: serverless.yml says where each value comes from, and"
    " `rapport up` sets all of them."
)
# variables that are also read under an older name
_OLDER = {
    "supabase_publishable_key": "supabase_anon_key",
    "supabase_secret_key": "supabase_service_role_key",
}


def _names(name: str) -> AliasChoices:
    return AliasChoices(name, _OLDER[name])


def _variable(name: str) -> str:
    """The variable that a setting was read from; without a value the one to set."""
    names = (name.upper(), _OLDER.get(name, name).upper())
    return next((variable for variable in names if os.environ.get(variable)), names[0])


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        # an empty variable counts as missing
        env_ignore_empty=True,
        # a variable with an older name is read as well; in Python there is one name
        populate_by_name=True,
    )

    @classmethod
    def load(cls, remedy: str = _IN_FUNCTIONS) -> Self:
        """Reads the environment; `remedy` says where to set what is missing or wrong.

        Raises:
            ConfigError: A variable is missing or has no valid value; the message names it.
        """
        try:
            return cls()
        except ValidationError as error:
            faults = "; ".join(
                f"{_variable(str(fault['loc'][0]))}: {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors()
            )
        raise ConfigError(f"{faults}. {remedy}")


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

    supabase_url: HttpUrl
    supabase_secret_key: Annotated[Secret, AfterValidator(_not_public)] = Field(
        validation_alias=_names("supabase_secret_key")
    )


class UserStoreSettings(_Settings):
    """The database's address, and the key that accompanies a user's own token."""

    supabase_url: HttpUrl
    supabase_publishable_key: Annotated[Secret, AfterValidator(_not_secret)] = Field(
        validation_alias=_names("supabase_publishable_key")
    )


class GraphSettings(_Settings):
    """The address of WhatsApp's API, and its token."""

    # includes the version
    whatsapp_graph_url: HttpUrl = HttpUrl("https://graph.facebook.com/v26.0")
    # the token of all numbers …
    whatsapp_token: Secret | None = None
    # … or the SSM parameter of each number: /rapport/prod/whatsapp/{phone_number_id}/token
    whatsapp_token_parameter: str | None = None
    # the field for a person who is known only by a business-scoped user id
    whatsapp_user_id_field: Literal["recipient", "to"] = "recipient"


class MetakockaSettings(_Settings):
    """The address of Metakocka's API, and its key."""

    # for all companies without a server of their own
    metakocka_url: HttpUrl = HttpUrl("https://main.metakocka.si/rest/eshop/v1")
    # domains on which a company's own server may be; an account's admin names the server
    metakocka_domains: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = (
        "metakocka.si",
    )
    # the key of all accounts …
    metakocka_secret_key: Secret | None = None
    # … or the SSM parameter of each account: /rapport/prod/metakocka/{account_id}/secret-key
    metakocka_secret_parameter: str | None = None
    # the company of each account as ACCOUNT=COMPANY, where accounts share a key; `any` is for the
    # stand-in
    metakocka_companies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = ()
    # ISO 3166: the country of phone numbers without a country code
    metakocka_region: str = "SI"


class WakeSettings(_Settings):
    """The database's secret for waking workers, and where workers run."""

    wake_secret: Secret | None = None
    # the prefix of the Lambda functions' names; without it workers run in this process
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
    """The bucket for files. boto3 finds its address and credentials by its own rules."""

    media_bucket: str
    # for a service that speaks S3 and is not AWS; boto3 reads it too
    aws_endpoint_url_s3: HttpUrl | None = None


class WhatsAppSettings(_Settings):
    """The secrets shared with Meta's app. Without a secret, the requests that it protects are
    refused.
    """

    whatsapp_app_secret: Secret | None = None
    whatsapp_verify_token: Secret | None = None


class BacklogSettings(_Settings):
    """The queue for webhooks that the database could not take. Without it, Meta repeats them."""

    webhook_queue_url: HttpUrl | None = None
    # until the next try of a webhook: this long each time while the database is away, up to four
    # times as long after most of an hour; doubled with each try for a webhook that fails by itself
    webhook_retry_seconds: NonNegativeInt = 30
