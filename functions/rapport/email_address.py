"""What counts as one email address; the same rule as in the table of contacts."""

from __future__ import annotations

import re

_LIMIT = 320  # characters
_EMAIL = re.compile(r"""[^@\s,;:<>()"]+@[^@\s,;:<>()"]+""")


def is_email(text: str) -> bool:
    """Whether this is exactly one address."""
    return len(text) <= _LIMIT and _EMAIL.fullmatch(text) is not None
