"""The access token of each WhatsApp number."""

from __future__ import annotations

from typing import Protocol

from pydantic import SecretStr

from rapport.errors import ConfigError
from rapport.parameters import read_parameter
from rapport.settings import GraphSettings


class TokenSource(Protocol):
    """Where tokens come from."""

    def token(self, phone_number_id: str) -> SecretStr:
        """The number's token.

        Raises:
            ConfigError: There is none.
            UpstreamUnavailable: It can't be read at the moment.
        """
        ...

    def forget(self, phone_number_id: str) -> None:
        """Lets the token be read anew, since it was not accepted."""
        ...


def token_source(settings: GraphSettings) -> TokenSource:
    """One token for all numbers, or an SSM parameter for each where a template names them."""
    if settings.whatsapp_token_parameter is not None:
        return ParameterTokens(settings.whatsapp_token_parameter)
    return OneToken(settings.whatsapp_token)


class OneToken:
    """The same token for every number."""

    def __init__(self, token: SecretStr | None) -> None:
        self._token = token

    def token(self, phone_number_id: str) -> SecretStr:  # noqa: ARG002 - the same for all
        if self._token is None:
            raise ConfigError("WHATSAPP_TOKEN and WHATSAPP_TOKEN_PARAMETER are not set.")
        return self._token

    def forget(self, phone_number_id: str) -> None:
        """Does nothing: the environment changes with a deployment."""


class ParameterTokens:
    """A SecureString in SSM's Parameter Store for each number, kept until it is not accepted."""

    def __init__(self, template: str) -> None:
        self._template = template
        self._tokens: dict[str, SecretStr] = {}

    def token(self, phone_number_id: str) -> SecretStr:
        if phone_number_id not in self._tokens:
            self._tokens[phone_number_id] = self._read(phone_number_id)
        return self._tokens[phone_number_id]

    def forget(self, phone_number_id: str) -> None:
        self._tokens.pop(phone_number_id, None)

    def _read(self, phone_number_id: str) -> SecretStr:
        return read_parameter(self._template.replace("{phone_number_id}", phone_number_id))
