"""The first steps of a deployment: accounts, members, numbers, companies; each may be repeated."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from rapport.store.postgrest import Store, understood

# whether something was made, was changed, or was as it should be
State = Literal["added", "changed", "there"]


class _Row(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore")


class NewAccount(_Row):
    """An account, and whether this call has made it."""

    is_new: bool
    account_id: UUID
    external_id: str
    name: str
    country: str | None
    time_zone: str
    language: str


class ListedAccount(_Row):
    """An account: its members' email addresses by role, and its numbers with Meta's ids."""

    id: UUID
    external_id: str | None
    name: str
    members: dict[str, list[str]]
    numbers: list[str]


class Member(_Row):
    """A member, or `no_login` alone where nobody has the address."""

    state: State | Literal["no_login"]
    role: str = ""
    role_before: str | None = None
    display_name: str = ""
    login_created_at: datetime | None = None
    last_sign_in_at: datetime | None = None
    is_confirmed: bool = False


class Number(_Row):
    """A WhatsApp number of an account."""

    state: State
    account_id: UUID
    phone_number_id: str
    waba_id: str | None
    display_phone_number: str
    name: str


class Company(_Row):
    """The company at Metakocka that an account is connected to."""

    state: State
    account_id: UUID
    company_id: str
    company_before: str | None


class SetupStore(Store):
    """Each call may be repeated, and raises as `Store` says; `account` is an external id or id."""

    def create_account(
        self,
        name: str,
        *,
        external_id: str | None = None,
        country: str | None = None,
        time_zone: str | None = None,
        language: str | None = None,
    ) -> NewAccount:
        """The account of this external id, or else of this name; made where there is none."""
        given = {
            "name": name,
            "external_id": external_id,
            "country": country,
            "time_zone": time_zone,
            "language": language,
        }
        return understood(NewAccount, self._call("create_account", dict(given)))

    def accounts(self) -> list[ListedAccount]:
        """All accounts, by name."""
        return understood(list[ListedAccount], self._call("list_accounts", {}))

    def account_id(self, account: str) -> UUID:
        """The account's id."""
        return understood(UUID, self._call("account_id", {"account": account}))

    def add_member(
        self, account: str, email: str, role: str, display_name: str | None = None
    ) -> Member:
        """Makes the login of an address a member, or changes role and name."""
        given = {"account": account, "email": email, "role": role, "display_name": display_name}
        return understood(Member, self._call("add_member", dict(given)))

    def add_number(
        self,
        account: str,
        phone_number_id: str,
        display_phone_number: str,
        waba_id: str | None = None,
        name: str | None = None,
    ) -> Number:
        """Makes a WhatsApp number one of the account."""
        given = {
            "account": account,
            "phone_number_id": phone_number_id,
            "display_phone_number": display_phone_number,
            "waba_id": waba_id,
            "name": name,
        }
        return understood(Number, self._call("add_number", dict(given)))

    def connect_metakocka(self, account: str, company_id: str) -> Company:
        """Connects an account to a company."""
        given = {"account": account, "company_id": company_id}
        return understood(Company, self._call("connect_metakocka", dict(given)))

    def set_doorbell(self, url: str, secret: str) -> None:
        """Tells the database where it wakes workers: the address of POST /internal/wake."""
        self._call("set_doorbell", {"url": url, "secret": secret})
