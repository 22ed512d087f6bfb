"""The secret key of each account's company at Metakocka."""

from __future__ import annotations

from typing import Protocol

from pydantic import SecretStr

from rapport.errors import ConfigError
from rapport.parameters import read_parameter
from rapport.settings import MetakockaSettings


class SecretSource(Protocol):
    """Where secret keys come from."""

    def secret(self, account_id: str) -> SecretStr:
        """The account's key.

        Raises:
            ConfigError: There is none.
            UpstreamUnavailable: It can't be read at the moment.
        """
        ...

    def forget(self, account_id: str) -> None:
        """Lets the key be read anew, since it may not have been accepted."""
        ...


def secret_source(settings: MetakockaSettings) -> SecretSource:
    """One key for all accounts, or an SSM parameter for each where a template names them."""
    if settings.metakocka_secret_parameter is not None:
        return ParameterSecrets(settings.metakocka_secret_parameter)
    return OneSecret(settings.metakocka_secret_key)


class OneSecret:
    """The same key for every account."""

    def __init__(self, secret: SecretStr | None) -> None:
        self._secret = secret

    def secret(self, account_id: str) -> SecretStr:  # noqa: ARG002 - the same for all
        if self._secret is None:
            raise ConfigError("METAKOCKA_SECRET_KEY and METAKOCKA_SECRET_PARAMETER are not set.")
        return self._secret

    def forget(self, account_id: str) -> None:
        """Does nothing: the environment changes with a deployment."""


class ParameterSecrets:
    """A SecureString in SSM's Parameter Store for each account, kept until it is refused."""

    def __init__(self, template: str) -> None:
        self._template = template
        self._secrets: dict[str, SecretStr] = {}

    def secret(self, account_id: str) -> SecretStr:
        if account_id not in self._secrets:
            name = self._template.replace("{account_id}", account_id)
            self._secrets[account_id] = read_parameter(name)
        return self._secrets[account_id]

    def forget(self, account_id: str) -> None:
        self._secrets.pop(account_id, None)
