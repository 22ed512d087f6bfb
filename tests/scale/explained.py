"""A big database, asked as an agent under row level security and without, and what it took."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import TupleRow

from rapport.commands.bench.population import agent_id
from rapport.local.stack.postgres import Database

Connection = psycopg.Connection[TupleRow]

# tables of a few rows, read in any way; and steps that fetch nothing themselves
_SMALL = {"status_words", "account_members"}
_BESIDE_THE_POINT = {"Memoize", "Materialize", "Subquery Scan", "Result", "Nested Loop", "Limit"}


@dataclass(frozen=True)
class Explained:
    """One run of a statement."""

    # planning and execution by the server's clock, and what its process has worked for it: on a
    # machine that is shared the first waits for others
    elapsed_ms: float
    worked_ms: float
    # shared buffers touched, whether they were in memory or not
    buffers: int
    rows: int
    # how rows are fetched and sorted, in the order of the plan
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Populated:
    """A database of the population's accounts and agents."""

    database: Database

    @contextmanager
    def asking(self, account: int, *, secured: bool) -> Iterator[Connection]:
        """A connection of the account's agent: as PostgREST has it, or past the policies."""
        claims = {"role": "authenticated", "sub": str(agent_id(account))}
        # not as the authenticator: its sessions refuse EXPLAIN
        with psycopg.connect(self.database.url(), autocommit=True) as connection:
            row = connection.execute(
                "select rolconfig from pg_roles where rolname = 'authenticated'"
            ).fetchone()
            assert row is not None
            for setting in row[0]:
                name, _, value = setting.partition("=")
                connection.execute("select set_config(%s, %s, false)", [name, value])
            connection.execute(
                "select set_config('request.jwt.claims', %s, false)", [json.dumps(claims)]
            )
            if secured:
                connection.execute("set role authenticated")
            yield connection

    def column(self, query: str, *parameters: Any) -> list[Any]:
        """The first column of a query, past the policies."""
        with psycopg.connect(self.database.url()) as owner:
            return [row[0] for row in owner.execute(query.encode(), parameters or None)]


def explain(connection: Connection, query: str, parameters: Sequence[Any]) -> Explained:
    """Runs a statement and tells what it took."""
    before = _worked_ns(connection)
    row = connection.execute(
        f"explain (analyze, buffers, timing off, format json) {query}".encode(), parameters
    ).fetchone()
    worked = _worked_ns(connection) - before
    assert row is not None
    (answer,) = row[0]
    plan = answer["Plan"]
    return Explained(
        elapsed_ms=answer["Planning Time"] + answer["Execution Time"],
        worked_ms=worked / 1e6,
        buffers=plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
        rows=plan["Actual Rows"],
        steps=tuple(_steps(plan)),
    )


def _worked_ns(connection: Connection) -> int:
    """Nanoseconds on a processor since the connection's process began."""
    return int(Path(f"/proc/{connection.info.backend_pid}/schedstat").read_text().split()[0])


def _steps(node: dict[str, Any]) -> Iterator[str]:
    # what policies ask once for a statement is their price, not another plan
    if node.get("Subplan Name") or node.get("Relation Name") in _SMALL:
        return
    if node["Node Type"] not in _BESIDE_THE_POINT:
        where = node.get("Index Name") or node.get("Relation Name") or ""
        # an index alone never does where a policy looks at the row
        yield f"{node['Node Type'].replace(' Only', '')} {where}".strip()
    for child in node.get("Plans", []):
        yield from _steps(child)
