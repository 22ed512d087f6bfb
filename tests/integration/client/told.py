"""What a client in JavaScript was told, by subscription."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tests.integration.client.witness import Witness

from rapport.client.rows import RowT


class Told:
    """What a client in Node was told."""

    def __init__(self) -> None:
        self.changes: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self.shown: list[list[int]] = []
        self.checkpoints: list[list[list[str]]] = []

    def take(self, said: dict[str, Any]) -> None:
        """Takes one thing that it says."""
        if "checkpoint" in said:
            self.checkpoints.append(said["checkpoint"])
        elif "signs" in said:
            pass
        elif "shown" in said:
            self.shown.append(said["shown"])
        else:
            self.changes[said["of"]].append(said)

    def witness(self, name: str, model: type[RowT]) -> Witness[RowT]:
        """The same for the checks that the Python client has to pass."""
        return witness_of(self.changes[name], model)


def witness_of(changes: Iterable[dict[str, Any]], model: type[RowT]) -> Witness[RowT]:
    """Changes for the checks that the Python client has to pass."""
    witness = Witness[RowT]()
    for change in changes:
        row = model.model_validate(change["row"])
        old = model.model_validate(change["old"]) if change["old"] else None
        if change["eventType"] == "INSERT":
            witness.on_insert(row)
        elif change["eventType"] == "UPDATE":
            witness.on_update(row, old)
        else:
            witness.on_delete(row)
    return witness
