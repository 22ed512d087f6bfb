"""sql/ keeps to what a hosted project lets `postgres` do, and migrations lock it for milliseconds.

The schemas auth, realtime, storage and some more belong to the platform there. tests/hosted shows
what it refuses; what sql/ does there is a closed list.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pglast
import pytest
from pglast import ast
from pglast.enums import ObjectType
from pglast.parser import scan

from tests.migrations.baseline import MIGRATIONS, PLATFORM, Statement, schema_files, statements

SQL = {file: list(statements(file.read_text())) for file in schema_files()}
EVERY = [statement.tree for file in SQL.values() for statement in file]

# statements that read, or name functions and types: the platform lets us
READING = (ast.SelectStmt, ast.ViewStmt, ast.CreateFunctionStmt, ast.DoStmt)
# words before UPDATE where it is no statement: for update, no key update, do update, on update …
NO_STATEMENT = frozenset({"after", "before", "do", "for", "key", "of", "on", "or"})


def foreign_names(node: Any) -> Iterator[str]:
    """The platform's objects that a statement names, beside the functions that it calls."""
    if isinstance(node, dict):
        if node.get("@") in ("ColumnRef", "FuncCall", "TypeName"):
            node = {key: node[key] for key in node if key not in ("fields", "funcname", "names")}
        if node.get("schemaname") in PLATFORM:
            yield f"{node['schemaname']}.{node['relname']}"
        for value in node.values():
            yield from foreign_names(value)
    elif isinstance(node, (list, tuple)):
        words = [part.get("sval") if isinstance(part, dict) else None for part in node]
        if words and words[0] in PLATFORM:
            yield ".".join(str(word) for word in words)
        else:
            for value in node:
                yield from foreign_names(value)


def test_what_sql_does_to_the_platform_is_a_closed_list() -> None:
    done = {
        (type(tree).__name__, name)
        for tree in EVERY
        if not isinstance(tree, READING)
        for name in foreign_names(tree(skip_none=True))
    }

    assert done == {
        # foreign keys
        ("CreateStmt", "auth.users"),
        # no comment on these: supautils has let nobody write one before July 2026
        ("CreatePolicyStmt", "realtime.messages"),
    }


@pytest.mark.parametrize(
    "text",
    [
        "comment on policy p on realtime.messages is ''",
        "comment on table auth.users is ''",
        "comment on column realtime.messages.topic is ''",
        "alter table auth.users add column x int",
        "alter policy p on realtime.messages rename to q",
        "create index on storage.objects (name)",
        "create trigger t after insert on auth.users for each row execute function public.t()",
        "create function realtime.f() returns int language sql as 'select 1'",
        "drop function realtime.send(jsonb, text, text, boolean)",
        "create table auth.t (a int)",
        "grant select on auth.users to authenticated",
        "alter publication supabase_realtime add table auth.users",
        "lock table auth.users",
    ],
)
def test_the_list_sees_every_kind(text: str) -> None:
    tree = pglast.parse_sql(text)[0].stmt
    if isinstance(tree, ast.CreateFunctionStmt):
        assert tree.funcname[0].sval in PLATFORM
    else:
        assert list(foreign_names(tree(skip_none=True)))


def test_functions_are_made_in_our_own_schemas() -> None:
    made = {tree.funcname[0].sval for tree in EVERY if isinstance(tree, ast.CreateFunctionStmt)}

    assert made == {"public", "backend", "private"}


def test_statements_are_of_kinds_that_need_no_superuser() -> None:
    kinds = Counter(type(tree).__name__ for tree in EVERY)

    assert set(kinds) <= {
        "AlterDefaultPrivilegesStmt",
        "AlterPublicationStmt",
        "AlterRoleSetStmt",
        "AlterTableStmt",
        "CommentStmt",
        "CompositeTypeStmt",
        "CreateDomainStmt",
        "CreateEnumStmt",
        "CreateExtensionStmt",
        "CreateFunctionStmt",
        "CreatePolicyStmt",
        "CreateSchemaStmt",
        "CreateSeqStmt",
        "CreateStatsStmt",
        "CreateStmt",
        "CreateTrigStmt",
        "DoStmt",
        "GrantStmt",
        "IndexStmt",
        "InsertStmt",
        "NotifyStmt",
        "RuleStmt",
        "SelectStmt",
        "VariableSetStmt",
        "ViewStmt",
    }


def test_roles_get_settings_that_a_hosted_project_lets_us_set() -> None:
    """Of authenticator, only those of PostgREST; the embedded database could not refuse others."""
    settings = {
        (tree.role.rolename, tree.setstmt.name)
        for tree in EVERY
        if isinstance(tree, ast.AlterRoleSetStmt)
    }

    assert settings == {
        ("authenticator", "pgrst.db_pre_request"),
        ("authenticated", "random_page_cost"),
    }


def bodies(tree: ast.Node) -> Iterator[str]:
    """The body of a function or of a block, and the strings in it, which may be dynamic SQL."""
    options = {ast.CreateFunctionStmt: "options", ast.DoStmt: "args"}.get(type(tree))
    for option in (getattr(tree, options) or ()) if options else ():
        if option.defname == "as":
            argument = option.arg
            body = argument[-1].sval if isinstance(argument, tuple) else argument.sval
            yield body
            text = body.encode("ascii", "replace").decode()
            for token in scan(text):
                if token.name == "SCONST":
                    yield text[token.start : token.end + 1].strip("'").removeprefix("$sql$")


def unfiltered(body: str) -> Iterator[str]:
    """The updates and deletes of a body that have no WHERE of their own."""
    text = body.encode("ascii", "replace").decode()
    if not re.search(r"\b(update|delete)\b", text, re.IGNORECASE):
        return
    try:
        tokens = [token for token in scan(text) if "COMMENT" not in token.name]
    except pglast.parser.ParseError:
        # a string that is no SQL
        return
    words = [text[token.start : token.end + 1].lower() for token in tokens]
    for at, word in enumerate(words):
        after = words[at + 1] if at + 1 < len(words) else ""
        is_update = (
            word == "update"
            and (at == 0 or words[at - 1] not in NO_STATEMENT)
            and "set" in words[at + 1 : at + 8]
        )
        if not is_update and not (word == "delete" and after == "from"):
            continue
        depth = 0
        for other in words[at + 1 :]:
            depth += {"(": 1, ")": -1}.get(other, 0)
            if other == "where" and depth == 0:
                break
            if depth < 0 or other == ";":
                yield text[tokens[at].start :][:60]
                break
        else:
            yield text[tokens[at].start :][:60]


def test_functions_write_with_a_filter() -> None:
    """Hosted, safeupdate refuses what has no WHERE in every session of the API."""
    written = [body for tree in EVERY for body in bodies(tree)]

    assert len(written) > 100
    assert [found for body in written for found in unfiltered(body)] == []


def test_a_write_in_dynamic_sql_is_found() -> None:
    text = (
        "create function public.f() returns void language plpgsql as $$"
        "begin execute format('delete from %I', 'jobs'); end $$"
    )
    found = [part for body in bodies(pglast.parse_sql(text)[0].stmt) for part in unfiltered(body)]

    assert found == ["delete from %I"]


@pytest.mark.parametrize(
    "body",
    [
        "begin delete from public.jobs; end",
        "with d as (delete from public.jobs returning id) select id from d where true",
        "update public.jobs set a = (select 1 where true)",
        "update only public.jobs set a = 1; select 1 where true",
        "update public.jobs as j set a = 1",
    ],
)
def test_a_write_without_a_filter_is_found(body: str) -> None:
    assert list(unfiltered(body))


def locks_the_platform(statement: Statement) -> bool:
    tree = statement.tree
    if isinstance(tree, (ast.CreatePolicyStmt, ast.AlterPolicyStmt)):
        return True
    if isinstance(tree, (ast.CommentStmt, ast.DropStmt)):
        kind = tree.objtype if isinstance(tree, ast.CommentStmt) else tree.removeType
        return bool(kind == ObjectType.OBJECT_POLICY)
    return not isinstance(tree, READING) and bool(list(foreign_names(tree(skip_none=True))))


def test_what_locks_the_platform_stands_in_a_migration_of_its_own() -> None:
    locking = 0
    for file in MIGRATIONS.glob("*.sql"):
        first, *others = statements(file.read_text())
        if any(locks_the_platform(statement) for statement in others):
            locking += 1
            assert first.text == "set lock_timeout = '2s'", file.name
            assert [other.text for other in others if not locks_the_platform(other)] == []
            assert not any(isinstance(other.tree, ast.CreateStmt) for other in others)

    assert locking


def test_every_migration_waits_for_locks_a_while_and_no_longer() -> None:
    for file in MIGRATIONS.glob("*.sql"):
        first = next(statements(file.read_text()))
        assert isinstance(first.tree, ast.VariableSetStmt), file.name
        assert first.tree.name == "lock_timeout", file.name
