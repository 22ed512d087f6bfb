"""Secrets that are SSM parameters: Metakocka's keys and WhatsApp's tokens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from pydantic import SecretStr

from rapport.errors import ConfigError
from rapport.settings import REREAD_INTERVAL, GraphSettings, MetakockaSettings

Read = Callable[[str], SecretStr]
Clock = Callable[[], float]


class Parameters:
    """SecureStrings of SSM's Parameter Store by a template of their names, kept until refused.

    One that is refused again and again is read once a minute. Safe to share between threads.
    """

    def __init__(
        self, template: str, *, read: Read | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._template = template
        self._read = read or read_parameter
        self._clock = clock
        self._lock = threading.Lock()
        # each value with the time when it was read
        self._values: dict[str, tuple[SecretStr, float]] = {}

    def value(self, **names: str) -> SecretStr:
        """The parameter whose name the template gives for these names.

        Raises:
            ConfigError: There is none.
            UpstreamUnavailable: It can't be read at the moment.
        """
        name = self._name(names)
        with self._lock:
            if name not in self._values:
                self._values[name] = (self._read(name), self._clock())
            return self._values[name][0]

    def forget(self, **names: str) -> None:
        """Lets it be read anew next time, unless it was read within the last minute."""
        name = self._name(names)
        with self._lock:
            _, read_at = self._values.get(name, (None, self._clock()))
            if self._clock() - read_at >= REREAD_INTERVAL:
                self._values.pop(name, None)

    def _name(self, names: dict[str, str]) -> str:
        name = self._template
        for placeholder, value in names.items():
            name = name.replace(f"{{{placeholder}}}", value)
        return name


def read_parameter(name: str) -> SecretStr:
    """As `rapport.aws.parameters.read_parameter`."""
    # imported when needed: where one key is for all, AWS is not called
    from rapport.aws import parameters

    return parameters.read_parameter(name)


class SecretSource(Protocol):
    """Returns the secret key of an account."""

    def secret(self, account_id: str, company_id: str) -> SecretStr:
        """The account's key, for the company that the account names.

        Raises:
            ConfigError: There is none, or it is not for this company.
            UpstreamUnavailable: It can't be read at the moment.
        """
        ...

    def forget(self, account_id: str) -> None:
        """Reads the key anew next time, since Metakocka may not have accepted it: once a minute."""
        ...


def secret_source(settings: MetakockaSettings) -> SecretSource:
    """One key for all accounts, or an SSM parameter for each account if a template is set."""
    companies = Companies.read(settings.metakocka_companies)
    if settings.metakocka_secret_key_parameter is not None:
        return ParameterSecrets(settings.metakocka_secret_key_parameter, companies)
    return OneSecret(settings.metakocka_secret_key, companies)


@dataclass(frozen=True)
class Companies:
    """The company of each account, as the operator lists them; an admin could name any company.

    A key that several accounts share would open the companies of all of them. So such a key is used
    only for the listed companies. An account's own key needs no list.
    """

    pairs: frozenset[tuple[str, str]] = frozenset()
    # the stand-in's companies belong to nobody
    is_any: bool = False

    @classmethod
    def read(cls, words: Iterable[str]) -> Self:
        """Reads METAKOCKA_COMPANIES: pairs such as `account=company`, or `any`.

        Raises:
            ConfigError: An entry is no pair.
        """
        listed = [word for word in words if word]
        if listed == ["any"]:
            return cls(is_any=True)
        pairs = [tuple(part.strip() for part in word.split("=")) for word in listed]
        if any(len(pair) != 2 or not all(pair) for pair in pairs):
            raise ConfigError(
                "METAKOCKA_COMPANIES must be a list of pairs such as ACCOUNT=COMPANY, separated by"
                " commas: the account's id, and its company's id at Metakocka."
            )
        return cls(frozenset((pair[0].lower(), pair[1]) for pair in pairs))

    def require(self, account_id: str, company_id: str, *, is_shared: bool) -> None:
        """Refuses a company that is not the account's.

        Raises:
            ConfigError: It is not listed, and the key is shared or other companies are listed.
        """
        if self.is_any or (not is_shared and not self.pairs):
            return
        if (account_id.lower(), company_id) not in self.pairs:
            raise ConfigError(
                f"The key is not for company {company_id} of this account. The operator has to add"
                f" {account_id}={company_id} to METAKOCKA_COMPANIES."
            )


class OneSecret:
    """The same key for every account; `companies` limits it."""

    def __init__(
        self, secret: SecretStr | None, companies: Companies = Companies(is_any=True)
    ) -> None:
        self._secret = secret
        self._companies = companies

    def secret(self, account_id: str, company_id: str) -> SecretStr:
        if self._secret is None:
            raise ConfigError(
                "METAKOCKA_SECRET_KEY and METAKOCKA_SECRET_KEY_PARAMETER are not set."
            )
        self._companies.require(account_id, company_id, is_shared=True)
        return self._secret

    def forget(self, account_id: str) -> None:
        """Does nothing: the environment changes only with a deployment."""


class ParameterSecrets:
    """A parameter for each account; a template without the account in it is one key for all."""

    def __init__(
        self,
        template: str,
        companies: Companies = Companies(),
        parameters: Parameters | None = None,
    ) -> None:
        self._is_shared = "{account_id}" not in template
        self._companies = companies
        self._parameters = parameters or Parameters(template)

    def secret(self, account_id: str, company_id: str) -> SecretStr:
        self._companies.require(account_id, company_id, is_shared=self._is_shared)
        return self._parameters.value(account_id=account_id)

    def forget(self, account_id: str) -> None:
        self._parameters.forget(account_id=account_id)


class TokenSource(Protocol):
    """Returns the access token of a WhatsApp number."""

    def token(self, phone_number_id: str) -> SecretStr:
        """The number's token.

        Raises:
            ConfigError: There is none.
            UpstreamUnavailable: It can't be read at the moment.
        """
        ...

    def forget(self, phone_number_id: str) -> None:
        """Reads the token anew next time, since WhatsApp did not accept it: once a minute."""
        ...


def token_source(settings: GraphSettings) -> TokenSource:
    """One token for all numbers, or an SSM parameter for each number if a template is set."""
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
        """Does nothing: the environment changes only with a deployment."""


class ParameterTokens:
    """A parameter for each number."""

    def __init__(self, template: str, parameters: Parameters | None = None) -> None:
        self._parameters = parameters or Parameters(template)

    def token(self, phone_number_id: str) -> SecretStr:
        return self._parameters.value(phone_number_id=phone_number_id)

    def forget(self, phone_number_id: str) -> None:
        self._parameters.forget(phone_number_id=phone_number_id)
