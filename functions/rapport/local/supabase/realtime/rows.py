"""Asks the database about changed rows: their values as JSON, and who may see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql
from pydantic_core import to_json

from rapport.local.supabase.realtime.callers import TokenCaller
from rapport.local.supabase.realtime.filters import OPERATORS, Condition
from rapport.local.supabase.realtime.wal import Relation

_DESCRIBE = """
    select
        (select relrowsecurity from pg_catalog.pg_class where oid = %(table)s),
        array(
            select attname::text
            from pg_catalog.pg_index
            join pg_catalog.pg_attribute on attrelid = indrelid and attnum = any (indkey)
            where indrelid = %(table)s and indisprimary
        ),
        array(
            select array[oid::text, typname::text, pg_catalog.format_type(oid, -1)]
            from pg_catalog.pg_type
            where oid = any (%(types)s::oid[])
        ),
        array(
            select array[rolname::text, attname::text]
            from pg_catalog.pg_roles
            join pg_catalog.pg_attribute on attrelid = %(table)s and attnum > 0
            where rolname = any (%(roles)s)
              and pg_catalog.has_column_privilege(pg_roles.oid, attrelid, attnum, 'select')
        )
"""


# By the key's index, so that a policy sees only the requested rows: a policy that raises on another
# row would fail for all. A plan that scans after all looks costly enough to compile.
_BECOME = """
    select set_config('role', %(role)s, true),
           set_config('request.jwt.claims', %(claims)s, true),
           set_config('enable_seqscan', 'off', true),
           set_config('jit', 'off', true)
"""


@dataclass(frozen=True)
class Type:
    """A type's name alone, and as SQL that means it under any search path, of any length."""

    name: str
    reference: sql.SQL


@dataclass(frozen=True)
class CatalogTable:
    """A relation, as the catalog describes it now; `readable` is by role."""

    relation: Relation
    has_row_security: bool
    key: tuple[str, ...]
    types: dict[int, Type]
    readable: dict[str, frozenset[str]]

    def type_of(self, column: str) -> Type:
        """The type of one of the relation's columns."""
        oids = (each.type_oid for each in self.relation.columns if each.name == column)
        return self.types[next(oids)]


@dataclass(frozen=True)
class Image:
    """A row before or after a change: in text format, as JSON, and the conditions that hold."""

    text: dict[str, str | None]
    values: dict[str, str]
    holds: frozenset[Condition]


async def describe(
    connection: psycopg.AsyncConnection, relation: Relation, roles: Iterable[str]
) -> CatalogTable:
    """Looks a relation up. Raises psycopg.Error, also when the table was dropped or its key
    changed.
    """
    readable: dict[str, set[str]] = {role: set() for role in roles}
    parameters = {
        "table": relation.oid,
        "types": [column.type_oid for column in relation.columns],
        "roles": list(readable),
    }
    async with connection.transaction():
        # makes format_type write every schema
        await connection.execute("set local search_path = ''")
        cursor = await connection.execute(_DESCRIBE, parameters)
        row = await cursor.fetchone()
    if row is None or row[0] is None:
        raise psycopg.errors.UndefinedTable(f"{relation.schema}.{relation.table} is gone")
    has_row_security, key, described, privileges = row
    if not {column.name for column in relation.columns}.issuperset(key):
        raise psycopg.errors.UndefinedColumn(f"{relation.schema}.{relation.table} has a new key")
    for role, column in privileges:
        readable[role].add(column)
    return CatalogTable(
        relation=relation,
        has_row_security=has_row_security,
        key=tuple(key),
        types={int(oid): Type(name, sql.SQL(reference)) for oid, name, reference in described},
        readable={role: frozenset(columns) for role, columns in readable.items()},
    )


async def read(
    connection: psycopg.AsyncConnection,
    table: CatalogTable,
    rows: Sequence[dict[str, str | None]],
    conditions: Iterable[Condition],
) -> list[Image]:
    """Turns rows in text format into JSON, as `to_jsonb` does, and tests the conditions.

    A row may lack columns; a condition on a missing column does not hold. Raises psycopg.Error.
    """
    columns = [column.name for column in table.relation.columns]
    groups: dict[tuple[str, str, bool], list[Condition]] = {}
    for condition in conditions:
        if condition.column in columns:
            group = (condition.column, condition.operator, condition.negated)
            groups.setdefault(group, []).append(condition)
    values = {
        name: sql.SQL("(changed.value ->> {})::{}").format(
            sql.Literal(name), table.type_of(name).reference
        )
        for name in columns
    }
    # literals and not parameters: a column's name may look like a placeholder
    statement = sql.SQL("select {} from jsonb_array_elements({}) as changed").format(
        sql.SQL(", ").join(
            [
                sql.SQL("array[{}]").format(
                    sql.SQL(", ").join(
                        _json(value, table.type_of(name)) for name, value in values.items()
                    )
                ),
                *(_test(values[group[0].column], table, group) for group in groups.values()),
            ]
        ),
        sql.Literal(to_json(rows).decode()),
    )
    cursor = await connection.execute(statement)
    images: list[Image] = []
    for row, (texts, *holding) in zip(rows, await cursor.fetchall(), strict=True):
        holds = frozenset(
            group[ordinal - 1]
            for group, ordinals in zip(groups.values(), holding, strict=True)
            for ordinal in ordinals
            if group[0].column in row
        )
        present = {
            name: text or "null" for name, text in zip(columns, texts, strict=True) if name in row
        }
        images.append(Image(row, present, holds))
    return images


async def visible(
    connection: psycopg.AsyncConnection,
    table: CatalogTable,
    caller: TokenCaller,
    keys: Sequence[Sequence[str | None]],
) -> list[bool]:
    """The rows with these primary keys that the caller can select now.

    Raises psycopg.Error when a policy raises.
    """
    statement = sql.SQL(
        "select exists (select from {} as t where {}) from jsonb_array_elements({}) as key"
    ).format(
        sql.Identifier(table.relation.schema, table.relation.table),
        sql.SQL(" and ").join(
            sql.SQL("t.{} = (key.value ->> {})::{}").format(
                sql.Identifier(name), sql.Literal(index), table.type_of(name).reference
            )
            for index, name in enumerate(table.key)
        ),
        sql.Literal(to_json(keys).decode()),
    )
    async with connection.transaction(force_rollback=True):
        await connection.execute(_BECOME, {"role": caller.role, "claims": caller.claims})
        cursor = await connection.execute(statement)
        return [row[0] for row in await cursor.fetchall()]


def _json(value: sql.Composable, column_type: Type) -> sql.Composed:
    # in the form in which wal2json writes bytes
    template = (
        "to_jsonb(encode({}, 'hex'))::text" if column_type.name == "bytea" else "to_jsonb({})::text"
    )
    return sql.SQL(template).format(value)


def _test(value: sql.Composable, table: CatalogTable, group: Sequence[Condition]) -> sql.Composed:
    """The ordinals of the conditions that hold; all are on one column with one operator."""
    column, operator, negated = group[0].column, group[0].operator, group[0].negated
    comparison = sql.SQL(OPERATORS[operator]).format(
        column=value, value=sql.SQL("tested.value"), type=table.type_of(column).reference
    )
    template = "not ({})" if negated else "{}"
    return sql.SQL(
        "array(select ordinal from unnest({}::text[]) with ordinality as tested (value, ordinal)"
        " where {})"
    ).format(sql.Literal([each.value for each in group]), sql.SQL(template).format(comparison))
