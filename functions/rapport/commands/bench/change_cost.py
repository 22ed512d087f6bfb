"""What a change of a followed row costs the database, beside a bare update of the same row.

The change is told to topics and logged for catch-up. The bare update is of a copy of the table,
with its constraints and indexes and without its triggers. The two alternate on one connection;
the figures are processor time of its process.
"""

from __future__ import annotations

from typing import NamedTuple

import psycopg
from psycopg import sql

from rapport.commands.bench.business import Business
from rapport.commands.bench.latency import Latency
from rapport.commands.bench.subscribers import worked_ns
from rapport.local.stack.running import Stack

CHANGES = 300
# plans exist after these
WARM_UP = 20
_COPY = """
create table public.bench_jobs (like public.jobs including all);
insert into public.bench_jobs overriding system value select * from public.jobs where id = {};
"""
_UPDATE = sql.SQL("update public.{} set description = {} where id = {}")


class ChangeCosts(NamedTuple):
    """Processor time in the writing process."""

    change: Latency
    bare: Latency


def measure(stack: Stack, changes: int = CHANGES) -> ChangeCosts:
    """Changes an appointment, on a temporary stack."""
    taken: dict[str, list[float]] = {"jobs": [], "bench_jobs": []}
    with psycopg.connect(stack.db_url(), autocommit=True) as owner:
        business = Business.found(stack, owner)
        (customer,) = business.add_customers(owner, 1)
        owner.execute(sql.SQL(_COPY).format(sql.Literal(customer.job)))
        for number in range(WARM_UP + changes):
            for table, seconds in taken.items():
                statement = _UPDATE.format(
                    sql.Identifier(table),
                    sql.Literal(f"change {number}"),
                    sql.Literal(customer.job),
                )
                before = worked_ns(owner.info.backend_pid)
                owner.execute(statement)
                seconds.append((worked_ns(owner.info.backend_pid) - before) / 1e9)
    change, bare = (Latency.of(seconds[WARM_UP:]) for seconds in taken.values())
    return ChangeCosts(change, bare)
