"""A large database, always the same, to measure lists and search in."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

import psycopg

SCRIPT = Path(__file__).with_suffix(".sql")


@dataclass(frozen=True)
class Population:
    """The numbers of rows; `largest` of the contacts belong to account 1.

    Accounts are numbered from 1 in order of size; the last has about half of the mean.
    """

    accounts: int = 1_000
    contacts: int = 200_000
    largest: int = 50_000
    messages: int = 1_000_000


def account_id(number: int) -> UUID:
    """The account of this number."""
    return _named(f"account {number}")


def agent_id(number: int) -> UUID:
    """The login of the agent of the account with this number."""
    return _named(f"agent {number}")


def populate(connection: psycopg.Connection, population: Population) -> None:
    """Fills a database that has the schema and no rows.

    `connection` is a superuser's, in autocommit. Beyond accounts, triggers and foreign keys are
    switched off, and the rows that triggers would write are written here.
    """
    with connection.transaction():
        for name, value in asdict(population).items():
            connection.execute(
                "select set_config(%s, %s, true)", [f"population.{name}", str(value)]
            )
        connection.execute(SCRIPT.read_bytes())
    connection.execute("vacuum (analyze)")


def _named(name: str) -> UUID:
    return UUID(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest())
