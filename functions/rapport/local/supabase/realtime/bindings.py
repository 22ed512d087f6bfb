"""Checks a binding: the table exists, is published, and may be filtered by these columns."""

from __future__ import annotations

import re

import psycopg
from psycopg import sql

from rapport.local.supabase.realtime.callers import TokenCaller
from rapport.local.supabase.realtime.filters import MAX_LIST, OPERATORS, Condition
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
# a type's name for people, and as SQL that keeps every value whole
_COLUMN_TYPES = """
    select attname::text, atttypid::regtype::text, pg_catalog.format_type(atttypid, -1)
    from pg_catalog.pg_attribute
    where attrelid = %(table)s
      and attname = any (%(columns)s)
      and attnum > 0
      and not attisdropped
      and pg_catalog.has_column_privilege(%(role)s, attrelid, attnum, 'select')
"""


# Source: Realtime's subscription_check_filters
_HAS_PATTERNS = """
    select exists (
        select from pg_catalog.pg_operator
        where oprname = %(name)s
          and oprleft = %(type)s::regtype
          and (%(name)s = '~~' or (oprright = oprleft and oprresult = 'boolean'::regtype))
    )
"""
_PATTERNS = {"like": "~~", "ilike": "~~", "match": "~", "imatch": "~*"}
_COMPLAINT = "Unable to subscribe to changes with given parameters."


async def check(connection: psycopg.AsyncConnection, caller: TokenCaller, binding: Binding) -> None:
    """Raises SubscriptionError unless changes can be sent, in Realtime's words.

    The caller's role must be able to read the columns of filter and selection, and the filter's
    values must fit their types, in every table of the binding.
    """
    try:
        async with connection.transaction():
            await connection.execute("set local search_path = ''")
            await _check_role(connection, caller)
            tables = await _tables(connection, binding)
            for table in tables:
                await _check_columns(connection, caller, binding, table)
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.errors.RaiseException) as error:
        raise SubscriptionError(
            f"{_COMPLAINT} An exception happened so please check your connect parameters: "
            f"[{_told(binding)}]. Exception: {_exception(error)}"
        ) from error
    if not tables:
        raise SubscriptionError(
            f"{_COMPLAINT} Please check Realtime is enabled for the given connect parameters: "
            f"[{_told(binding)}]"
        )


def _told(binding: Binding) -> str:
    """The parameters as Realtime repeats them."""
    filters = ", ".join(
        f"{{{encode(each.column)}, {encode(each.operator.partition('.')[0])}, "
        f"{encode(each.value or each.operator.partition('.')[2])}, {encode(each.negated)}}}"
        for each in binding.conditions
    )
    columns = ", ".join(encode(name) for name in sorted(binding.columns or ()))
    return (
        f"event: {binding.operation or '*'}, schema: {binding.schema or '*'}, "
        f"table: {binding.table or '*'}, filters: [{filters}], "
        f"select: {'nil' if binding.columns is None else f'[{columns}]'}"
    )


def _exception(error: psycopg.Error) -> str:
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
    return f"ERROR {error.sqlstate} ({name}) {error.diag.message_primary or error}"


async def _check_role(connection: psycopg.AsyncConnection, caller: TokenCaller) -> None:
    cursor = await connection.execute(
        "select from pg_catalog.pg_roles where rolname = %s", [caller.role]
    )
    if cursor.rowcount != 1:
        raise psycopg.errors.UndefinedObject(f'role "{caller.role}" does not exist')


async def _tables(connection: psycopg.AsyncConnection, binding: Binding) -> list[int]:
    cursor = await connection.execute(
        _TABLES,
        {"publication": PUBLICATION, "schema": binding.schema, "table": binding.table},
    )
    return [row[0] for row in await cursor.fetchall()]


async def _check_columns(
    connection: psycopg.AsyncConnection, caller: TokenCaller, binding: Binding, table: int
) -> None:
    selected = binding.columns or frozenset()
    names = {condition.column for condition in binding.conditions} | selected
    cursor = await connection.execute(
        _COLUMN_TYPES, {"table": table, "columns": list(names), "role": caller.role}
    )
    types = {name: (told, sql.SQL(type_)) for name, told, type_ in await cursor.fetchall()}
    for condition in binding.conditions:
        if condition.column not in types:
            raise psycopg.errors.RaiseException(f"invalid column for filter {condition.column}")
        await _check_condition(connection, condition, *types[condition.column])
    for name in sorted(selected - types.keys()):
        raise psycopg.errors.RaiseException(f"invalid column for select {name}")


async def _check_condition(
    connection: psycopg.AsyncConnection, condition: Condition, told: str, column_type: sql.SQL
) -> None:
    operator, _, word = condition.operator.partition(".")
    if operator == "is":
        _check_word(word, told)
    elif operator in _PATTERNS:
        parameters = {"name": _PATTERNS[operator], "type": told}
        row = await (await connection.execute(_HAS_PATTERNS, parameters)).fetchone()
        if row is None or not row[0]:
            raise psycopg.errors.RaiseException(
                f"operator {operator} requires a text-compatible column type, got {told}"
            )
    await _try(connection, condition, column_type)


def _check_word(word: str, told: str) -> None:
    if word not in {"null", "true", "false", "unknown"}:
        raise psycopg.errors.RaiseException(
            "invalid value for is filter: must be null, true, false, or unknown"
        )
    if word != "null" and told != "boolean":
        raise psycopg.errors.RaiseException(
            f"is {word} filter requires a boolean column, got {told}"
        )


async def _try(
    connection: psycopg.AsyncConnection, condition: Condition, column_type: sql.SQL
) -> None:
    """Makes the comparison once, so that it can't fail on a changed row."""
    value = sql.SQL("{}::text").format(sql.Literal(condition.value))
    if condition.operator == "in":
        array = sql.SQL("select cardinality({}::{}[])").format(value, column_type)
        row = await (await connection.execute(array)).fetchone()
        if row is not None and row[0] > MAX_LIST:
            raise psycopg.errors.RaiseException(
                f"too many values for `in` filter. Maximum {MAX_LIST}"
            )
    # Postgres does not look at a pattern when the other value is null
    is_pattern = condition.operator in _PATTERNS
    comparison = sql.SQL(OPERATORS[condition.operator]).format(
        column=sql.SQL("''" if is_pattern else "null::{}").format(column_type),
        value=value,
        type=column_type,
    )
    try:
        await connection.execute(sql.SQL("select {}").format(comparison))
    except psycopg.errors.InvalidRegularExpression as error:
        raise psycopg.errors.RaiseException(
            f"invalid regular expression for {condition.operator} filter: "
            f"{error.diag.message_primary}"
        ) from error
