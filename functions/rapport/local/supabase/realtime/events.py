"""The JSON text of one change, for a subscriber's role and selected columns."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from rapport.local.supabase.realtime.frames import encode
from rapport.local.supabase.realtime.rows import CatalogTable, Image
from rapport.local.supabase.realtime.wal import Operation

MAX_BYTES = 1024 * 1024
# larger values are left out of a row that is too large
MAX_VALUE_BYTES = 64


class RowProblem(StrEnum):
    """Why a change is sent without its row, in Realtime's words."""

    NO_PRIMARY_KEY = "Error 400: Bad Request, no primary key"
    KEY_NOT_READABLE = "Error 401: Unauthorized"
    POLICY_FAILED = "Error 500: Internal Server Error, RLS policy evaluation failed"


TOO_LARGE = "Error 413: Payload Too Large"


@dataclass(frozen=True)
class RowEvent:
    """A changed row; `size` is the size of the change in the log, in bytes."""

    table: CatalogTable
    operation: Operation
    committed_at: datetime
    new: Image | None
    old: Image | None
    size: int

    def text(self, role: str, selected: frozenset[str] | None, problem: RowProblem | None) -> str:
        """The event as JSON: the columns that the role may read, and of those the `selected` ones.

        The primary key is always selected. Source: `realtime.apply_rls`.
        """
        is_too_large = problem is None and self.size > MAX_BYTES
        errors = [problem] if problem else [TOO_LARGE] if is_too_large else None
        shown = [] if problem else self._shown(role, selected)
        limit = MAX_VALUE_BYTES if is_too_large else None
        relation = self.table.relation
        parts = {
            "schema": encode(relation.schema),
            "table": encode(relation.table),
            "type": encode(self.operation),
            "commit_timestamp": encode(_timestamp(self.committed_at)),
            "columns": encode(
                [{"name": name, "type": self.table.type_of(name).name} for name in shown]
            ),
            "errors": encode([str(error) for error in errors] if errors else None),
        }
        if self.operation is not Operation.DELETE:
            parts["record"] = _record(self.new, shown, limit)
        if self.operation is not Operation.INSERT:
            parts["old_record"] = _record(self.old, self._old_columns(shown), limit)
        return _object(parts.items())

    def _shown(self, role: str, selected: frozenset[str] | None) -> list[str]:
        readable = self.table.readable[role]
        return [
            column.name
            for column in self.table.relation.columns
            if column.name in readable
            and (selected is None or column.name in selected or column.name in self.table.key)
        ]

    def _old_columns(self, shown: list[str]) -> list[str]:
        # nobody can check any more who was allowed to see a deleted row
        if self.operation is Operation.DELETE and self.table.has_row_security:
            return [name for name in shown if name in self.table.key]
        return shown


def _record(image: Image | None, names: list[str], limit: int | None) -> str:
    values = image.values if image else {}
    return _object(
        (name, values[name])
        for name in names
        if name in values and (limit is None or len(values[name].encode()) <= limit)
    )


def _object(members: Iterable[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{encode(name)}:{value}" for name, value in members) + "}"


def _timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
