"""What one email address is, as the table of contacts has it."""

from __future__ import annotations

import re

_LIMIT = 320  # characters
_EMAIL = re.compile(r"""[^@\s,;:<>()"]+@[^@\s,;:<>()"]+""")


def is_email(text: str) -> bool:
    """Tells whether this is one address, with nothing of what stands between two."""
    return len(text) <= _LIMIT and _EMAIL.fullmatch(text) is not None
