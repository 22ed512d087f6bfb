"""The logins of supabase/seed.sql, for the terminal, the demo and tests."""

from __future__ import annotations

from typing import NamedTuple


class Login(NamedTuple):
    """A person of the seed. The passwords are public and only for this machine."""

    email: str
    password: str
    role: str
    account: str
    # accounts.external_id, which commands take as --account
    external_id: str


PASSWORD = "rapport-demo"  # noqa: S105 - printed on the terminal; a hosted project has no seed

_ALPINE = "695a15a5c526dbe7c085ece2"
_BAY = "695a15a5c526dbe7c085ece3"

LOGINS: tuple[Login, ...] = (
    Login("olivia@alpine.example", PASSWORD, "owner", "Alpine Carpet Care", _ALPINE),
    Login("andrej@alpine.example", PASSWORD, "agent", "Alpine Carpet Care", _ALPINE),
    Login("cilka@customers.example", PASSWORD, "customer", "Alpine Carpet Care", _ALPINE),
    Login("otto@bay.example", PASSWORD, "owner", "Bay Boat Rental", _BAY),
    Login("ana@bay.example", PASSWORD, "agent", "Bay Boat Rental", _BAY),
    Login("carlos@customers.example", PASSWORD, "customer", "Bay Boat Rental", _BAY),
)


class Phone(NamedTuple):
    """A customer's phone, which the phone page plays, and the number that it writes to."""

    name: str
    # digits, as WhatsApp's wa_id
    number: str
    phone_number_id: str
    business: str


PHONES: tuple[Phone, ...] = (
    Phone("Cilka Cerar", "38640111222", "1003427786179738", "Alpine Carpet Care"),
    Phone("Carlos Costa", "5511987654321", "1003427786179739", "Bay Boat Rental"),
    # somebody whom nobody knows yet
    Phone("Nejc Novak", "38640999888", "1003427786179738", "Alpine Carpet Care"),
)
