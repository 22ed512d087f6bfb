"""Secrets that are SSM parameters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from pydantic import SecretStr

from rapport.errors import ConfigError, UpstreamUnavailable
from rapport.settings import GraphSettings, MetakockaSettings


def read_parameter(name: str) -> SecretStr:
    """A SecureString of SSM's Parameter Store, read anew.

    Raises:
        ConfigError: There is none.
        UpstreamUnavailable: It can't be read at the moment.
    """
    # brings boto3 along, which only a deployment has, and which takes 0.3 s to import
    from aws_lambda_powertools.utilities.parameters import get_parameter
    from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

    try:
        value = str(get_parameter(name, decrypt=True, force_fetch=True))
    except GetParameterError as error:
        # the library wraps boto3's error without naming it as the cause
        cause = type(error.__context__).__name__
        # not chained: its text is boto3's
        if cause == "ParameterNotFound":
            raise ConfigError(f"There is no parameter {name}.") from None
        raise UpstreamUnavailable(f"{name} can't be read ({cause}).") from None
    return SecretStr(value.strip())


class SecretSource(Protocol):
    """Where secret keys come from."""

    def secret(self, account_id: str, company_id: str) -> SecretStr:
        """The account's key, for the company that the account has named.

        Raises:
            ConfigError: There is none, or it is not for this company.
            UpstreamUnavailable: It can't be read at the moment.
        """
        ...

    def forget(self, account_id: str) -> None:
        """Lets the key be read anew, since it may not have been accepted."""
        ...


def secret_source(settings: MetakockaSettings) -> SecretSource:
    """One key for all accounts, or an SSM parameter for each where a template names them."""
    companies = Companies.read(settings.metakocka_companies)
    if settings.metakocka_secret_parameter is not None:
        return ParameterSecrets(settings.metakocka_secret_parameter, companies)
    return OneSecret(settings.metakocka_secret_key, companies)


@dataclass(frozen=True)
class Companies:
    """Which company is whose, as the operator says: an account's admin names any.

    A key that several accounts share opens the companies of all of them, so it is used for
    those alone that are listed. One's own key opens what is one's own.
    """

    pairs: frozenset[tuple[str, str]] = frozenset()
    # of a stand-in, whose companies are nobody's
    is_any: bool = False

    @classmethod
    def read(cls, words: Iterable[str]) -> Self:
        """METAKOCKA_COMPANIES: pairs such as `account=company`, or `any`.

        Raises:
            ConfigError: One is no pair.
        """
        listed = [word for word in words if word]
        if listed == ["any"]:
            return cls(is_any=True)
        pairs = [tuple(part.strip() for part in word.split("=")) for word in listed]
        if any(len(pair) != 2 or not all(pair) for pair in pairs):
            raise ConfigError(
                "METAKOCKA_COMPANIES is a list of pairs such as ACCOUNT=COMPANY, with commas"
                " between them: the account's id, and its company's at Metakocka."
            )
        return cls(frozenset((pair[0].lower(), pair[1]) for pair in pairs))

    def require(self, account_id: str, company_id: str, *, is_shared: bool) -> None:
        """Refuses a company that is not the account's.

        Raises:
            ConfigError: It is not listed, and the key is shared or others are listed.
        """
        if self.is_any or (not is_shared and not self.pairs):
            return
        if (account_id.lower(), company_id) not in self.pairs:
            raise ConfigError(
                f"The key is not for company {company_id} of this account: whoever runs the"
                f" service adds {account_id}={company_id} to METAKOCKA_COMPANIES."
            )


class OneSecret:
    """The same key for every account; without `companies` for every company, too."""

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
        """Does nothing: the environment changes with a deployment."""


class ParameterSecrets:
    """A SecureString in SSM's Parameter Store for each account, kept until it is refused.

    A template that does not name the account is one key for all of them.
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
