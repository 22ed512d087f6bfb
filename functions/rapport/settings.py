"""What a deployment sets: environment variables, read when a function first needs them."""

from __future__ import annotations

from typing import Self

from pydantic import HttpUrl, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

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
                f"{str(fault['loc'][0]).upper()}: {fault['msg']}" for fault in error.errors()
            )
        raise ConfigError(
            f"{faults}. Set it in the function's environment: serverless.yml says where each"
            " value comes from, and `rapport up` sets all of them."
        )


class StoreSettings(_Settings):
    """Where the database is, and the key that may call the functions' RPCs."""

    supabase_url: HttpUrl
    supabase_service_role_key: SecretStr


class WhatsAppSettings(_Settings):
    """The secrets shared with Meta's app; without one, what it protects is refused."""

    whatsapp_app_secret: SecretStr | None = None
    whatsapp_verify_token: SecretStr | None = None
