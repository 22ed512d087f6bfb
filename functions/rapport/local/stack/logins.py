"""The logins of supabase/seed.sql, for the terminal, the demo and tests."""

from __future__ import annotations

from typing import NamedTuple


class Login(NamedTuple):
    """A person of the seed. The passwords are public and only for this machine."""

    email: str
    password: str
    role: str
    account: str


PASSWORD = "rapport-demo"  # noqa: S105 - printed on the terminal; a hosted project has no seed

LOGINS: tuple[Login, ...] = (
    Login("olivia@alpine.example", PASSWORD, "owner", "Alpine Carpet Care"),
    Login("andrej@alpine.example", PASSWORD, "agent", "Alpine Carpet Care"),
    Login("cilka@customers.example", PASSWORD, "customer", "Alpine Carpet Care"),
    Login("otto@bay.example", PASSWORD, "owner", "Bay Boat Rental"),
    Login("ana@bay.example", PASSWORD, "agent", "Bay Boat Rental"),
    Login("carlos@customers.example", PASSWORD, "customer", "Bay Boat Rental"),
)
