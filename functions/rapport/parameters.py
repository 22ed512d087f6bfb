"""Secrets that are SSM parameters: Metakocka's keys and WhatsApp's tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from pydantic import SecretStr

from rapport.errors import ConfigError, UpstreamUnavailable
from rapport.settings import GraphSettings, MetakockaSettings


def read_parameter(name: str) -> SecretStr:
    """Reads a SecureString from SSM's Parameter Store, without a cache.

    Raises:
        ConfigError: It does not exist.
        UpstreamUnavailable: It can't be read at the moment.
    """
    # imports boto3, which only a deployment has, in 0.3 s
    from aws_lambda_powertools.utilities.parameters import get_parameter
    from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

    try:
        value = str(get_parameter(name, decrypt=True, force_fetch=True))
    except GetParameterError as error:
        # the library raises its own error and keeps boto3's as the context
        cause = type(error.__context__).__name__
        # not chained: its text is boto3's
        if cause == "ParameterNotFound":
            raise ConfigError(f"There is no parameter {name}.") from None
        raise UpstreamUnavailable(f"{name} can't be read ({cause}).") from None
    return SecretStr(value.strip())


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
        """Reads the key anew next time, since Metakocka may not have accepted it."""
        ...


def secret_source(settings: MetakockaSettings) -> SecretSource:
    """One key for all accounts, or an SSM parameter for each account if a template is set."""
    companies = Companies.read(settings.metakocka_companies)
    if settings.metakocka_secret_parameter is not None:
        return ParameterSecrets(settings.metakocka_secret_parameter, companies)
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
            raise ConfigError("METAKOCKA_SECRET_KEY and METAKOCKA_SECRET_PARAMETER are not set.")
        self._companies.require(account_id, company_id, is_shared=True)
        return self._secret

    def forget(self, account_id: str) -> None:
        """Does nothing: the environment changes only with a deployment."""


class ParameterSecrets:
    """A SecureString in SSM's Parameter Store for each account, cached until it is refused.

    A template without the account in it is one key for all accounts.
    """

    def __init__(self, template: str, companies: Companies = Companies()) -> None:
        self._template = template
        self._companies = companies
        self._secrets: dict[str, SecretStr] = {}

    def secret(self, account_id: str, company_id: str) -> SecretStr:
        is_shared = "{account_id}" not in self._template
        self._companies.require(account_id, company_id, is_shared=is_shared)
        if account_id not in self._secrets:
            name = self._template.replace("{account_id}", account_id)
            self._secrets[account_id] = read_parameter(name)
        return self._secrets[account_id]

    def forget(self, account_id: str) -> None:
        self._secrets.pop(account_id, None)


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
        """Reads the token anew next time, since WhatsApp did not accept it."""
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
    """A SecureString in SSM's Parameter Store for each number, cached until it is refused."""

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
