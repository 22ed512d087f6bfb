"""What keeps a stack from running on this machine, told so that a person can act on it."""

from __future__ import annotations


class StackError(Exception):
    """A stack cannot start or go on; the text says what is wrong and what remedies it."""
