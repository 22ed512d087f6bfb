"""The doorbell of a stack: where its database rings when there is work."""

from __future__ import annotations

import psycopg

from rapport.local.stack import Stack


def set_doorbell(stack: Stack) -> None:
    """Makes the stack's database ring at its own functions, whose port may have moved."""
    with psycopg.connect(stack.db_url(), autocommit=True) as connection:
        connection.execute(
            "select backend.set_doorbell(%s, %s)", [stack.wake_url, stack.wake_secret]
        )
