"""What a deployment sets: environment variables, read when a function first needs them."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    HttpUrl,
    NonNegativeInt,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from rapport.errors import ConfigError


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        # a secret that is empty is a secret that is missing
        env_ignore_empty=True,
    )

    @classmethod
    def load(cls) -> Self:
        """Reads the environment.

        Raises:
            ConfigError: A variable is missing or has no valid value; the message names it.
        """
        try:
            return cls()
        except ValidationError as error:
            faults = "; ".join(
                f"{str(fault['loc'][0]).upper()}: {fault['msg'].removeprefix('Value error, ')}"
                for fault in error.errors()
            )
        raise ConfigError(
            f"{faults}. Set it in the function's environment: serverless.yml says where each"
            " value comes from, and `rapport up` sets all of them."
        )


def _stripped(value: object) -> object:
    """A secret as it was meant: a line break at its end came with the copying."""
    return value.strip() if isinstance(value, str) else value


def _printable(secret: SecretStr) -> SecretStr:
    """A secret that can be sent in a header, and that nobody has cut or wrapped."""
    if not re.fullmatch(r"[!-~]+", secret.get_secret_value()):
        raise ValueError(
            "The secret has a space, a line break or a letter in it that no key has: copy it anew"
        )
    return secret


# keys, tokens and secrets; one that is nothing but white space is missing
Secret = Annotated[SecretStr, BeforeValidator(_stripped), AfterValidator(_printable)]


def _words(value: object) -> object:
    """A list in a variable: words with commas between them."""
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


class StoreSettings(_Settings):
    """Where the database is, and the key that may call the functions' RPCs."""

    supabase_url: HttpUrl
    supabase_service_role_key: Secret


class UserStoreSettings(_Settings):
    """Where the database is, and the key that goes with a user's own token."""

    supabase_url: HttpUrl
    supabase_anon_key: Secret


class GraphSettings(_Settings):
    """Where WhatsApp's API is, and the token for it."""

    # the version is part of it
    whatsapp_graph_url: HttpUrl = HttpUrl("https://graph.facebook.com/v26.0")
    # of all numbers …
    whatsapp_token: Secret | None = None
    # … or the SSM parameter of each: /rapport/prod/whatsapp/{phone_number_id}/token
    whatsapp_token_parameter: str | None = None
    # where a person goes who is known by a business-scoped user id alone
    whatsapp_user_id_field: Literal["recipient", "to"] = "recipient"


class MetakockaSettings(_Settings):
    """Where Metakocka's API is, and the key for it."""

    # of all companies but those with a server of their own
    metakocka_url: HttpUrl = HttpUrl("https://main.metakocka.si/rest/eshop/v1")
    # the domains on which a company's own server may be: an account's admin names it
    metakocka_domains: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = (
        "metakocka.si",
    )
    # of all accounts …
    metakocka_secret_key: Secret | None = None
    # … or the SSM parameter of each: /rapport/prod/metakocka/{account_id}/secret-key
    metakocka_secret_parameter: str | None = None
    # which company is whose, as ACCOUNT=COMPANY, for a key that several accounts share; `any`
    # for the stand-in, whose companies are nobody's
    metakocka_companies: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)] = ()
    # ISO 3166: whose phone numbers are written without a country code
    metakocka_region: str = "SI"


class WakeSettings(_Settings):
    """The database's secret for waking workers, and where these run."""

    wake_secret: Secret | None = None
    # of the Lambda functions' names; without it workers run in the process that is asked
    worker_function_prefix: str | None = None


class MediaSettings(_Settings):
    """The bucket for files. Where it is and who opens it, boto3 finds out by its own rules."""

    media_bucket: str
    # set for whatever speaks S3 and is not AWS; boto3 reads it as well
    aws_endpoint_url_s3: HttpUrl | None = None


class WhatsAppSettings(_Settings):
    """The secrets shared with Meta's app; without one, what it protects is refused."""

    whatsapp_app_secret: Secret | None = None
    whatsapp_verify_token: Secret | None = None


class BacklogSettings(_Settings):
    """The queue for webhooks that the database could not take; without it, Meta repeats them."""

    webhook_queue_url: HttpUrl | None = None
    # before the next try of a webhook: so long each time while the database is away, and up to
    # four times as long after most of an hour; twice as long each time for one that is at fault
    webhook_retry_seconds: NonNegativeInt = 30
