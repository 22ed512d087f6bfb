"""Models that are built when they are first used."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Deferred(BaseModel):
    """A model whose validator is built when it is first used.

    A function imports more models than its first call uses, and each takes a millisecond to build.
    """

    model_config = ConfigDict(defer_build=True)
