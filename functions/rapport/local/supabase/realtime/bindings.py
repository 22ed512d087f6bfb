"""Checks a binding: the table exists, is published, and may be filtered by these columns."""

from __future__ import annotations

import psycopg
from psycopg import sql
from pydantic import JsonValue

from rapport.local.supabase.realtime.callers import TokenCaller
from rapport.local.supabase.realtime.filters import OPERATORS, PATTERN_OPERATORS, Condition
from rapport.local.supabase.realtime.frames import encode
from rapport.local.supabase.realtime.subscriptions import Binding, SubscriptionError

PUBLICATION = "supabase_realtime"

_TABLES = """
    select format('%%I.%%I', schemaname, tablename)::regclass::oid
    from pg_catalog.pg_publication_tables
    where pubname = %(publication)s
      and schemaname = coalesce(%(schema)s, schemaname)
      and tablename = coalesce(%(table)s, tablename)
"""
_COLUMN_TYPES = """
    select attname::text, pg_catalog.format_type(atttypid, null)
    from pg_catalog.pg_attribute
    where attrelid = %(table)s
      and attname = any (%(columns)s)
      and attnum > 0
      and not attisdropped
      and pg_catalog.has_column_privilege(%(role)s, attrelid, attnum, 'select')
"""


async def check(
    connection: psycopg.AsyncConnection,
    caller: TokenCaller,
    binding: Binding,
    written: dict[str, JsonValue],
) -> None:
    """Raises SubscriptionError unless changes can be sent; `written` is for its message.

    The caller's role must be able to read the filter's columns, and its values must fit their
    types, in every table of the binding.
    """
    complaint = "Unable to subscribe to changes with given parameters."
    try:
        async with connection.transaction():
            await connection.execute("set local search_path = ''")
            await _check_role(connection, caller)
            tables = await _tables(connection, binding)
            for table in tables:
                await _check_columns(connection, caller, binding, table)
    except (psycopg.ProgrammingError, psycopg.DataError) as error:
        raise SubscriptionError(
            f"{complaint} An exception happened so please check your connect parameters: "
            f"[{encode(written)}]. Exception: {error.diag.message_primary or error}"
        ) from error
    if not tables:
        raise SubscriptionError(
            f"{complaint} Please check Realtime is enabled for the given connect parameters: "
            f"[{encode(written)}]"
        )


async def _check_role(connection: psycopg.AsyncConnection, caller: TokenCaller) -> None:
    cursor = await connection.execute(
        "select from pg_catalog.pg_roles where rolname = %s", [caller.role]
    )
    if cursor.rowcount != 1:
        raise psycopg.errors.UndefinedObject(f"role {caller.role} does not exist")


async def _tables(connection: psycopg.AsyncConnection, binding: Binding) -> list[int]:
    cursor = await connection.execute(
        _TABLES,
        {"publication": PUBLICATION, "schema": binding.schema, "table": binding.table},
    )
    return [row[0] for row in await cursor.fetchall()]


async def _check_columns(
    connection: psycopg.AsyncConnection, caller: TokenCaller, binding: Binding, table: int
) -> None:
    names = {condition.column for condition in binding.conditions} | (binding.columns or set())
    cursor = await connection.execute(
        _COLUMN_TYPES, {"table": table, "columns": list(names), "role": caller.role}
    )
    types = {name: sql.SQL(reference) for name, reference in await cursor.fetchall()}
    for name in sorted(names - types.keys()):
        raise psycopg.errors.UndefinedColumn(f"invalid column for filter {name}")
    for condition in binding.conditions:
        await _try(connection, condition, types[condition.column])


async def _try(
    connection: psycopg.AsyncConnection, condition: Condition, column_type: sql.SQL
) -> None:
    # Postgres does not look at a pattern when the other value is null
    is_pattern = condition.operator in PATTERN_OPERATORS
    comparison = sql.SQL(OPERATORS[condition.operator]).format(
        column=sql.SQL("''" if is_pattern else "null::{}").format(column_type),
        value=sql.SQL("{}::text").format(sql.Literal(condition.value)),
        type=column_type,
    )
    await connection.execute(sql.SQL("select {}").format(comparison))
