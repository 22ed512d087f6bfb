"""Words that a type checker knows, and that a newer database may add to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class AnyWord:
    """Has any text be taken where a `Literal` lists the words that are known."""

    def __get_pydantic_core_schema__(self, source: Any, handler: object) -> CoreSchema:
        return core_schema.str_schema()
