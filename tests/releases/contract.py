"""What the functions call in the database, read from their source, and whether a schema has it;
and the migrations of a release, which nobody edits.

At a release it is written down, so that the next ones are held to it without the history:

    uv run python -m tests.releases.contract

writes tests/releases/<version>.json. What a function answers as JSON stands in no catalog: the
rest of the suite holds that.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
from pydantic import BaseModel

from rapport.checkout import PACKAGE
from rapport.release import VERSION
from tests.migrations.baseline import MIGRATIONS

HERE = Path(__file__).parent
STORE = PACKAGE / "store"
# methods that call with arguments of their own beside the given ones
_WRAPPERS = {"_of_run": ("run_id", "worker"), "_write": ("account_id", "worker")}


class Call(BaseModel, frozen=True):
    """A call of an SQL function, by the names of its arguments."""

    function: str
    arguments: tuple[str, ...]
    # more arguments may be given, whose names the source does not say
    is_open: bool = False


class Rows(BaseModel, frozen=True):
    """A read of a table or view: the columns that are selected or compared."""

    table: str
    columns: tuple[str, ...]


class Contract(BaseModel):
    """What the functions of one release call, and the migrations that it has."""

    release: str
    calls: tuple[Call, ...]
    rows: tuple[Rows, ...]
    # by their names: SHA-256
    migrations: dict[str, str]


def contract(store: Path = STORE, release: str = VERSION) -> Contract:
    """What the functions call, read from the folder `store`."""
    calls: set[Call] = set()
    rows: set[Rows] = set()
    for file in sorted(store.glob("*.py")):
        if file.name == "postgrest.py":
            continue
        module = ast.parse(file.read_text())
        for scope in module.body:
            schema = "backend"
            if isinstance(scope, ast.ClassDef) and any(
                isinstance(base, ast.Name) and base.id == "UserStore" for base in scope.bases
            ):
                schema = "public"
            for function in ast.walk(scope):
                if isinstance(function, ast.FunctionDef):
                    for found in _found(function, schema, module):
                        (calls if isinstance(found, Call) else rows).add(found)  # type: ignore[arg-type]
    return Contract(
        release=release,
        calls=tuple(sorted(calls, key=repr)),
        rows=tuple(sorted(rows, key=repr)),
        migrations=digests(MIGRATIONS),
    )


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each migration, by its name."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.glob("*.sql"))
    }


def edited(before: Contract, folder: Path = MIGRATIONS) -> list[str]:
    """The migrations of a release that are no longer as they were released."""
    now = digests(folder)
    return [name for name, digest in before.migrations.items() if now.get(name) != digest]


def _found(function: ast.FunctionDef, schema: str, module: ast.Module) -> Iterator[Call | Rows]:
    for node in ast.walk(function):
        match node:
            case ast.Call(
                func=ast.Attribute(attr=("_call" | "call" | "_rows" | "_of_run" | "_write") as name)
                | ast.Name(id="call" as name),
                args=[ast.Constant(value=str(called)), *given],
                keywords=keywords,
            ):
                named = [one.arg for one in keywords if one.arg and one.arg != "repeat"]
                if name == "_rows":
                    selected = given[0]
                    assert isinstance(selected, ast.Constant)
                    columns = {*str(selected.value).split(","), *named}
                    yield Rows(table=f"public.{called}", columns=tuple(sorted(columns)))
                    continue
                names = {*_WRAPPERS.get(name, ()), *(named if name in _WRAPPERS else ())}
                # a ** of what the source does not name
                is_open = any(one.arg is None for one in keywords)
                for one in given:
                    more, open_here = _names(one, function, module)
                    names |= more
                    is_open |= open_here
                yield Call(
                    function=f"{schema}.{called}",
                    arguments=tuple(sorted(names)),
                    is_open=is_open,
                )


def _names(node: ast.AST, function: ast.FunctionDef, module: ast.Module) -> tuple[set[str], bool]:
    """The keys of a mapping, and whether it may have others."""
    found: set[str] = set()
    is_open = False
    match node:
        case ast.Dict():
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant):
                    found.add(str(key.value))
                else:
                    more, open_here = _names(value, function, module)
                    found |= more
                    is_open |= open_here
        case ast.Call(func=ast.Name(id="dict"), args=[inner]):
            return _names(inner, function, module)
        case ast.Call(func=ast.Name(id=name)):
            for other in module.body:
                if isinstance(other, ast.FunctionDef) and other.name == name:
                    for one in ast.walk(other):
                        if isinstance(one, ast.Return) and one.value is not None:
                            return _names(one.value, other, module)
            return set(), True
        case ast.Name(id=name):
            is_known = False
            for one in ast.walk(function):
                match one:
                    case (
                        ast.Assign(targets=[ast.Name(id=target)], value=value)
                        | ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value)
                    ) if target == name:
                        more, open_here = _names(value, function, module)
                        found |= more
                        is_open |= open_here
                        is_known = True
                    case ast.Assign(
                        targets=[
                            ast.Subscript(
                                value=ast.Name(id=target), slice=ast.Constant(value=str(key))
                            )
                        ]
                    ) if target == name:
                        found.add(key)
            is_open |= not is_known
        case _:
            return set(), True
    return found, is_open


_FUNCTIONS = """
    select p.oid::regproc::text,
           coalesce(p.proargnames[1 : p.pronargs], '{}'),
           p.pronargs - p.pronargdefaults,
           has_function_privilege(
               case n.nspname when 'backend' then 'service_role' else 'authenticated' end,
               p.oid, 'execute')
    from pg_proc p
    join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('public', 'backend')
"""
_COLUMNS = """
    select format('%s.%s', n.nspname, c.relname), array_agg(a.attname::text)
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'public' and c.relkind in ('r', 'v', 'p')
      and a.attnum > 0 and not a.attisdropped
      and has_column_privilege('authenticated', c.oid, a.attnum, 'select')
    group by 1
"""


def broken(wanted: Contract, connection: psycopg.Connection) -> list[str]:
    """What the functions call and the database does not have, each in a sentence."""
    connection.execute("set local search_path = ''")
    functions: dict[str, list[tuple[list[str], int]]] = {}
    for name, arguments, required, is_granted in connection.execute(_FUNCTIONS).fetchall():
        if is_granted:
            functions.setdefault(name, []).append((arguments, required))
    columns = dict(connection.execute(_COLUMNS).fetchall())
    who = f"Functions of {wanted.release}"
    found = [
        f"{who} call {one.function}({', '.join(one.arguments)}), and the schema has"
        f" {_offered(one.function, functions)}."
        for one in wanted.calls
        # between several PostgREST does not choose
        if sum(_takes(one, *offer) for offer in functions.get(one.function, ())) != 1
    ]
    found += [
        f"{who} read {one.table}.{column}, which the schema does not let them."
        for one in wanted.rows
        for column in one.columns
        if column not in columns.get(one.table, ())
    ]
    return found


def _takes(call: Call, arguments: list[str], required: int) -> bool:
    given = set(call.arguments)
    return given <= set(arguments) and (call.is_open or set(arguments[:required]) <= given)


def _offered(function: str, functions: dict[str, list[tuple[list[str], int]]]) -> str:
    offers = functions.get(function)
    if not offers:
        return "no such function for them"
    told = [
        ", ".join(f"{one}{'?' * (at >= required)}" for at, one in enumerate(arguments))
        for arguments, required in offers
    ]
    return " and ".join(f"{function}({one})" for one in told)


def released() -> list[Contract]:
    """What the functions of all releases called, in their order."""
    every = [Contract.model_validate_json(file.read_bytes()) for file in HERE.glob("*.json")]
    return sorted(every, key=lambda one: tuple(int(part) for part in one.release.split(".")))


def main() -> None:
    file = HERE / f"{VERSION}.json"
    file.write_text(contract().model_dump_json(indent=2) + "\n")


if __name__ == "__main__":
    main()
