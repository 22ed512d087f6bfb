"""What a migration written by hand may not do, because people work meanwhile.

Read from its text; test_locks.py measures the rest on a filled database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pglast import ast, visitors
from pglast.enums import AlterTableType, ConstrType, ObjectType

from tests.migrations.baseline import Statement, statements

NAME = re.compile(r"\d{14}_(?P<part>pre|post)_[a-z]+(_[a-z0-9]+)*\.sql")
# seconds
LONGEST_LOCK_TIMEOUT = 5
# a few rows each, which a migration may rewrite
SMALL = frozenset({"contact_fields", "followed_tables", "personal_tables", "status_words"})

_SCANNED_CONSTRAINTS = frozenset({ConstrType.CONSTR_CHECK, ConstrType.CONSTR_FOREIGN})
_INDEXED_CONSTRAINTS = frozenset({ConstrType.CONSTR_UNIQUE, ConstrType.CONSTR_PRIMARY})
_WRITING = (ast.UpdateStmt, ast.DeleteStmt, ast.MergeStmt)
_FORBIDDEN_STEPS = {
    AlterTableType.AT_AlterColumnType: (
        "alter column type rewrites the table: add another column, and drop this one in a `post`"
        " of the next release"
    ),
    AlterTableType.AT_SetNotNull: (
        "set not null reads the table: add a check (… is not null) not valid, and validate it in a"
        " file of its own"
    ),
    AlterTableType.AT_SetLogged: "set logged rewrites the table",
    AlterTableType.AT_SetUnLogged: "set unlogged rewrites the table",
    AlterTableType.AT_SetTableSpace: "set tablespace copies the table",
    AlterTableType.AT_AddIdentity: "an identity rewrites the table",
}
_FORBIDDEN_KINDS = (
    ast.ClusterStmt,
    ast.LockStmt,
    ast.RefreshMatViewStmt,
    ast.ReindexStmt,
    ast.TruncateStmt,
    ast.VacuumStmt,
)
# all rows get one value by these; another function may give each row a value of its own
_ONE_VALUE = frozenset({"now", "statement_timestamp", "transaction_timestamp"})
_BEFORE = re.compile(
    r"^-- before: create (?:unique )?index concurrently (?P<index>\w+) ", re.MULTILINE
)


def objections(name: str, text: str) -> list[str]:
    """What is wrong with a migration, each with the remedy; empty where nothing is."""
    built = {one["index"] for one in _BEFORE.finditer(text)}
    return [f"{name}: {one}." for one in _objections(name, list(statements(text)), built)]


def _objections(name: str, every: list[Statement], built: set[str]) -> Iterator[str]:
    named = NAME.fullmatch(name)
    if named is None:
        yield "name it <14 digits>_pre_<what it adds>.sql or <14 digits>_post_<what it drops>.sql"
        return
    first = every[0].tree
    if not (isinstance(first, ast.VariableSetStmt) and first.name == "lock_timeout"):
        yield "begin it with set lock_timeout = '5s'"
    elif not 0 < _seconds(first.args[0].val.sval) <= LONGEST_LOCK_TIMEOUT:
        yield f"lock_timeout may be {LONGEST_LOCK_TIMEOUT}s at most"
    trees = [one.tree for one in every]
    if any(_sets_lock_timeout(tree) for tree in trees[1:]):
        yield "lock_timeout is set once, at the beginning"
    # what the file has made itself has no rows
    own = {tree.relation.relname for tree in trees if isinstance(tree, ast.CreateStmt)}
    for tree in trees:
        if named["part"] == "pre" and not _is_replaced(tree, trees):
            yield from _dropped(tree)
        yield from _locking(tree, own, built)
    if any(_validates(tree) for tree in trees) and len(trees) > 2:
        yield "validate constraint stands in a file of its own, else it reads under others' locks"


def _seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)\s*(ms|s)", text).groups()  # type: ignore[union-attr]
    return int(number) / (1000 if unit == "ms" else 1)


def _is_replaced(tree: ast.Node, trees: list[ast.Node]) -> bool:
    """Whether it drops functions that the file makes again, as for another argument."""
    made = {one.funcname[-1].sval for one in trees if isinstance(one, ast.CreateFunctionStmt)}
    return (
        isinstance(tree, ast.DropStmt)
        and tree.removeType == ObjectType.OBJECT_FUNCTION
        and {one.objname[-1].sval for one in tree.objects} <= made
    )


def _dropped(tree: ast.Node) -> Iterator[str]:
    """What running functions of the release before may still use."""
    match tree:
        # a trigger, a policy or a check is replaced by dropping it
        case ast.DropStmt() if tree.removeType not in (
            ObjectType.OBJECT_TRIGGER,
            ObjectType.OBJECT_POLICY,
            ObjectType.OBJECT_INDEX,
        ):
            yield "drop belongs in a `post` of the next release: functions that run may use it"
        case ast.RenameStmt():
            yield "a new name breaks functions that run: add the new one beside the old one"
        case ast.AlterTableStmt():
            if any(step.subtype == AlterTableType.AT_DropColumn for step in tree.cmds):
                yield "drop column belongs in a `post` of the next release"


def _locking(tree: ast.Node, own: set[str], built: set[str]) -> Iterator[str]:
    """What holds a lock while it reads or rewrites a table."""
    for table in _written(tree) - SMALL - own:
        yield (
            f"it writes all of {table} in one transaction: do that in batches, as a daily job does"
        )
    match tree:
        case ast.IndexStmt() if tree.relation.relname not in own and not (
            tree.if_not_exists and tree.idxname in built
        ):
            yield (
                f"the index {tree.idxname} keeps writers out while it is built: say create index"
                " if not exists, and above it `-- before: create index concurrently …;`"
            )
        case ast.DoStmt():
            yield "nobody can tell by its text how long a do block locks: write statements"
        case ast.AlterDomainStmt() if tree.subtype == "O" or (
            tree.subtype == "C" and not tree.def_.skip_validation
        ):
            yield "alter domain reads every table that has it: add the constraint not valid"
        case ast.AlterTableStmt() if tree.relation.relname not in own:
            for step in tree.cmds:
                yield from _step(step)
        case _ if isinstance(tree, _FORBIDDEN_KINDS):
            yield f"{type(tree).__name__.removesuffix('Stmt').lower()} locks the table for long"


def _written(tree: ast.Node) -> set[str]:
    """The tables whose rows a statement changes or deletes, also in its `with`."""
    tables = set()

    class Writes(visitors.Visitor):  # type: ignore[misc]  # the library has no types
        def visit(self, _ancestors: object, node: ast.Node) -> None:
            if isinstance(node, _WRITING):
                tables.add(node.relation.relname)

    Writes()(tree)
    return tables


def _sets_lock_timeout(tree: ast.Node) -> bool:
    # without a name: reset all
    return (isinstance(tree, ast.VariableSetStmt) and tree.name in (None, "lock_timeout")) or (
        "set_config" in _called(tree(skip_none=True))
    )


def _step(step: ast.AlterTableCmd) -> Iterator[str]:
    if step.subtype in _FORBIDDEN_STEPS:
        yield _FORBIDDEN_STEPS[step.subtype]
    elif step.subtype == AlterTableType.AT_AddConstraint:
        yield from _constraint(step.def_)
    elif step.subtype == AlterTableType.AT_AddColumn:
        column = step.def_
        kinds = {one.contype: one for one in column.constraints or ()}
        if column.typeName.names[-1].sval in ("serial", "bigserial", "smallserial"):
            yield f"{column.colname}: serial rewrites the table"
        if ConstrType.CONSTR_NOTNULL in kinds and ConstrType.CONSTR_DEFAULT not in kinds:
            yield f"{column.colname}: not null without a default fails where there are rows"
        if ConstrType.CONSTR_IDENTITY in kinds or ConstrType.CONSTR_GENERATED in kinds:
            yield f"{column.colname}: a generated column rewrites the table"
        if default := kinds.get(ConstrType.CONSTR_DEFAULT):
            for called in _called(default.raw_expr(skip_none=True)):
                if called not in _ONE_VALUE:
                    yield f"{column.colname}: {called}() as default may rewrite the table"
        # a reference of the column's own is not looked for in rows, which are all null
        if ConstrType.CONSTR_UNIQUE in kinds or ConstrType.CONSTR_PRIMARY in kinds:
            yield f"{column.colname}: unique builds an index under a lock; make the index first"
        if ConstrType.CONSTR_CHECK in kinds:
            yield (
                f"{column.colname}: its check reads the table: add it as a constraint, not valid"
            )


def _constraint(constraint: ast.Constraint) -> Iterator[str]:
    name = constraint.conname
    if constraint.contype in _SCANNED_CONSTRAINTS and not constraint.skip_validation:
        yield f"{name} reads the table: add it not valid, and validate it in a file of its own"
    if constraint.contype == ConstrType.CONSTR_EXCLUSION:
        yield f"{name} builds an index under a lock, and no index can be built before for it"
    if constraint.contype in _INDEXED_CONSTRAINTS and not constraint.indexname:
        yield f"{name} builds an index under a lock: build it before, and add it using index"


def _validates(tree: ast.Node) -> bool:
    return isinstance(tree, ast.AlterTableStmt) and any(
        step.subtype == AlterTableType.AT_ValidateConstraint for step in tree.cmds
    )


def _called(node: object) -> Iterator[str]:
    """The functions that an expression calls."""
    if isinstance(node, dict):
        if node.get("@") == "FuncCall":
            yield node["funcname"][-1]["sval"]
        for value in node.values():
            yield from _called(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _called(value)
