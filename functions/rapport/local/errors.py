"""The error that a person at this machine sees."""

from __future__ import annotations


class StackError(Exception):
    """A stack can't start or continue; the text says why and what to do."""
