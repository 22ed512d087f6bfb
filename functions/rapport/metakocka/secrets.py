"""The secret key of each account's company at Metakocka."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from pydantic import SecretStr

from rapport.errors import ConfigError
from rapport.parameters import read_parameter
from rapport.settings import MetakockaSettings


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
