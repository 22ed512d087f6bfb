"""What the sync should come to, told without it: of each field what both sides have, and who wins.

What a run did that was killed or met a fault is not known here. An edit of one side stands all
the same; of edits of both the outcome is known where the second was made before any run could
have carried the first across.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Side = Literal["crm", "metakocka"]
Value = str | None
OTHER: dict[Side, Side] = {"crm": "metakocka", "metakocka": "crm"}


@dataclass
class Field:
    """One field of one customer since both sides last agreed on it."""

    base: Value = None
    written: dict[Side, Value] = field(default_factory=dict)
    # whose last edit a run may have carried across
    tried: set[Side] = field(default_factory=set)
    is_clear: bool = True

    def edit(self, side: Side, value: Value) -> None:
        if OTHER[side] in self.written and OTHER[side] in self.tried:
            self.is_clear = False
        self.written[side] = value
        self.tried.discard(side)

    @property
    def is_two_sided(self) -> bool:
        return len({self.base, *self.written.values()}) == 3

    def agree(self, value: Value) -> None:
        self.base = value
        self.written.clear()
        self.tried.clear()
        self.is_clear = True


@dataclass
class Model:
    """Every field by customer and name, under an account's rule."""

    rule: str
    fields: dict[tuple[int, str], Field] = field(default_factory=dict)

    def edit(self, who: int, name: str, side: Side, value: Value) -> None:
        self.fields.setdefault((who, name), Field()).edit(side, value)

    def try_sync(self) -> None:
        """A run that may have done anything between nothing and all."""
        for one in self.fields.values():
            one.tried.update(one.written)
            # by its end both edits may be from before the last look
            if self.rule == "newest" and one.is_two_sided:
                one.is_clear = False

    def sync(self) -> None:
        """A run that met nothing and left nothing."""
        for one in self.fields.values():
            if one.written and one.is_clear and (known := self.expected(one)) is not None:
                one.agree(known[0])
            else:
                one.tried.update(one.written)

    def expected(self, one: Field) -> tuple[Value] | None:
        """The value that both sides come to have; None where that can't be told."""
        if not one.written:
            return (one.base,)
        if not one.is_clear:
            return None
        if one.is_two_sided:
            if self.rule == "ask":
                return None
            return (one.written["metakocka" if self.rule == "metakocka" else "crm"],)
        edited = [value for value in one.written.values() if value != one.base]
        return (edited[0] if edited else one.base,)
