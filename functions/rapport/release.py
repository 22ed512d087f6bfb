"""Which release this is, and whether functions and schema of two releases go together.

Functions, schema and clients are released together, under one version: this one. pyproject.toml,
functions/rapport/web/package.json and backend.release() in SQL repeat it; a test holds them
equal.
"""

from __future__ import annotations

from enum import Enum

VERSION = "0.1.0"


class Fit(Enum):
    """How functions go with a schema. The value says what to do next."""

    SAME = ""
    SCHEMA_BEHIND = "Apply the migrations first: supabase db push. Then the functions are right."
    FUNCTIONS_BEHIND = "Deploy the functions of the schema's release."
    SCHEMA_FAR_BEHIND = (
        "Apply the migrations: supabase db push. Until then calls of the functions fail."
    )
    FUNCTIONS_FAR_BEHIND = (
        "Deploy the functions of the schema's release now: they work with the schema of their own"
        " release and of the next, and calls may fail."
    )

    @property
    def is_far(self) -> bool:
        """Whether more than one release lies between."""
        return self in (Fit.SCHEMA_FAR_BEHIND, Fit.FUNCTIONS_FAR_BEHIND)


def fit(schema: str, functions: str = VERSION) -> Fit:
    """How functions of one release go with the schema of another.

    Versions are X.Y.Z. A release raises X or Y; a Z repairs one, and changes nothing that the
    other calls.
    """
    theirs, ours = _release(schema), _release(functions)
    if theirs == ours:
        return Fit.SAME
    # no other release is known to lie between
    is_next = theirs[0] == ours[0] and abs(theirs[1] - ours[1]) == 1
    if theirs < ours:
        return Fit.SCHEMA_BEHIND if is_next else Fit.SCHEMA_FAR_BEHIND
    return Fit.FUNCTIONS_BEHIND if is_next else Fit.FUNCTIONS_FAR_BEHIND


def _release(version: str) -> tuple[int, int]:
    major, minor, *_ = (int(part) for part in version.split("."))
    return major, minor
