"""What the catalog knows of the schema that clients see, beyond what `supabase gen types` tells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import psycopg
from psycopg.rows import namedtuple_row

from rapport.local.stack.postgres import Database
from tests.schema_types.notation import Declared, split

WORDS = re.compile(r"\(?(\w+) = ANY \(ARRAY\[((?:'(?:[^']|'')*'::text(?:, )?)+)\]\)")


@dataclass(frozen=True)
class Column:
    """A column of a table or view."""

    relation: str
    name: str
    # without [] of arrays; of a domain what it is based on
    type: str
    is_array: bool
    is_null: bool
    default: str | None
    comment: str | None
    declared: Declared | None
    # whether by its own comment; a view's column also has the type of the column that it shows
    is_declared_here: bool
    # the table and column that a view shows here as it is, or its own
    shows: tuple[str, str]
    # of a text that is one of them
    words: tuple[str, ...]
    # false for what broadcasts and changes_since leave out
    is_told: bool


@dataclass(frozen=True)
class Relation:
    """A table or a view."""

    name: str
    is_view: bool
    comment: str | None
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Function:
    """A function that users may call."""

    name: str
    comment: str | None
    declared: Declared | None
    answers_json: bool
    # arguments that are null unless they are given
    null_by_default: tuple[str, ...]


class Schema:
    """The schema `public` of a database."""

    def __init__(self, database: Database) -> None:
        with psycopg.connect(database.url("postgres"), row_factory=namedtuple_row) as connection:
            self._connection = connection
            self.followed = {
                row.table_name: tuple(row.shown)
                for row in connection.execute("select * from private.followed_tables")
            }
            self._own_words = self._read_words()
            self._named: dict[tuple[int, str], tuple[str, str]] = {}
            self._comments: dict[tuple[int, str], str | None] = {}
            for row in self._read_columns():
                self._named[(row.relation, row.name)] = (row.table, row.name)
                self._comments[(row.relation, row.name)] = row.comment
            self.relations = tuple(self._relation(row) for row in self._read_relations())
            self.functions = tuple(self._function(row) for row in self._read_functions())

    @cached_property
    def by_name(self) -> Mapping[str, Relation]:
        """The tables and views by their names."""
        return {relation.name: relation for relation in self.relations}

    def column(self, path: str) -> Column:
        """A column by a path such as jobs.status."""
        relation, name = path.split(".")
        (column,) = [one for one in self.by_name[relation].columns if one.name == name]
        return column

    def _read_columns(self) -> list[Any]:
        return self._connection.execute(
            """
            select attrelid as relation, relname as table, attname as name,
                col_description(attrelid, attnum) as comment
            from pg_attribute
            join pg_class c on c.oid = attrelid
            where attnum > 0 and relnamespace in ('public'::regnamespace, 'private'::regnamespace)
            """
        ).fetchall()

    def _read_relations(self) -> list[Any]:
        return self._connection.execute(
            """
            select c.oid, relname as name, relkind = 'v' as is_view,
                obj_description(c.oid, 'pg_class') as comment
            from pg_class c
            where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v')
              and has_any_column_privilege('authenticated', c.oid, 'select')
            order by relname
            """
        ).fetchall()

    def _relation(self, row: Any) -> Relation:
        origins = self._origins(row.oid) if row.is_view else {}
        found = self._connection.execute(
            """
            select a.attname as name, a.attnum as number, a.attnotnull as is_filled,
                format_type(coalesce(nullif(e.typbasetype, 0), e.oid), null) as type,
                t.typelem <> 0 and t.typlen = -1 as is_array,
                pg_get_expr(d.adbin, d.adrelid) as default
            from pg_attribute a
            join pg_type t on t.oid = a.atttypid
            join pg_type e on e.oid = case when t.typlen = -1 and t.typelem <> 0
                then t.typelem else t.oid end
            left join pg_attrdef d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
            where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
            order by a.attnum
            """,
            [row.oid],
        ).fetchall()
        columns = []
        for column in found:
            origin = origins.get(column.name, (row.oid, column.name))
            comment, declared = split(self._comments.get((row.oid, column.name)))
            is_declared_here = declared is not None
            if declared is None:
                _, declared = split(self._comments.get(origin))
            words = self._own_words.get(origin, ())
            columns.append(
                Column(
                    relation=row.name,
                    name=column.name,
                    type=column.type,
                    is_array=column.is_array,
                    is_null=not column.is_filled,
                    default=column.default,
                    comment=comment,
                    declared=declared,
                    is_declared_here=is_declared_here,
                    shows=self._named[origin],
                    words=words,
                    is_told=column.name in self.followed.get(row.name, (column.name,)),
                )
            )
        return Relation(row.name, row.is_view, row.comment, tuple(columns))

    def _origins(self, view: int) -> dict[str, tuple[int, str]]:
        """The table and column that each column of a view shows as it is."""
        ((definition,),) = self._connection.execute("select pg_get_viewdef(%s::oid)", [view])
        # Postgres names the table of each column of an answer
        answer = self._connection.execute(definition.rstrip(";") + " limit 0").pgresult
        assert answer is not None
        origins = {}
        for number in range(answer.nfields):
            table, place = answer.ftable(number), answer.ftablecol(number)
            if not table:
                continue
            found = self._connection.execute(
                "select attname as name, relkind = 'v' as is_view from pg_attribute"
                " join pg_class c on c.oid = attrelid where attrelid = %s and attnum = %s",
                [table, place],
            ).fetchone()
            assert found is not None
            origin = (table, found.name)
            if found.is_view:
                origin = self._origins(table).get(found.name, origin)
            name = (answer.fname(number) or b"").decode()
            origins[name] = origin
        return origins

    def _read_words(self) -> dict[tuple[int, str], tuple[str, ...]]:
        """The words of columns that are one of a list, by their checks and those of domains."""
        found = self._connection.execute(
            """
            select a.attrelid as relation, a.attname as name,
                pg_get_constraintdef(k.oid) as definition, k.contypid <> 0 as is_domain
            from pg_constraint k
            join pg_attribute a
                on (a.attrelid = k.conrelid and k.conkey = array[a.attnum])
                or (a.atttypid = k.contypid and k.contypid <> 0)
            where k.contype = 'c'
            """
        )
        words = {}
        for row in found:
            pattern = r"CHECK \(\(.*\)\)" if row.is_domain else rf"CHECK \(\({WORDS.pattern}\)\)"
            match = re.fullmatch(pattern, row.definition, re.DOTALL) and WORDS.search(
                row.definition
            )
            if match and match[1] in ("VALUE", row.name):
                listed = tuple(re.findall(r"'((?:[^']|'')*)'::text", match[2]))
                words[(row.relation, row.name)] = listed
        return words

    def _read_functions(self) -> list[Any]:
        return self._connection.execute(
            """
            select p.proname as name, obj_description(p.oid, 'pg_proc') as comment,
                p.prorettype in ('json'::regtype, 'jsonb'::regtype) as answers_json,
                array(
                    select p.proargnames[n]
                    from generate_series(1, p.pronargs) n
                    where pg_get_function_arg_default(p.oid, n) like 'NULL::%%'
                ) as null_by_default
            from pg_proc p
            where p.pronamespace = 'public'::regnamespace
              and has_function_privilege('authenticated', p.oid, 'execute')
            order by p.proname
            """
        ).fetchall()

    def _function(self, row: Any) -> Function:
        comment, declared = split(row.comment)
        return Function(row.name, comment, declared, row.answers_json, tuple(row.null_by_default))
