"""What clients are told: the topics that they may join, and the changes since a cursor."""

from __future__ import annotations

from typing import Any

from tests.world import World


def changes_since(
    world: World, user: str, cursor: str | None = None, page_size: int = 500
) -> dict[str, Any]:
    """One page, in a transaction of its own as PostgREST makes it."""
    with world.acting_as(user) as connection:
        row = connection.execute(
            "select public.changes_since(%s, %s)", [cursor, page_size]
        ).fetchone()
    assert row is not None
    answer: dict[str, Any] = row[0]
    return answer


def all_since(
    world: World, user: str, cursor: str, page_size: int = 500
) -> tuple[list[dict[str, Any]], str]:
    """All pages, and the cursor after them."""
    changes: list[dict[str, Any]] = []
    while True:
        page = changes_since(world, user, cursor, page_size)
        assert not page["resync"]
        changes += page["changes"]
        cursor = page["cursor"]
        if not page["more"]:
            return changes, cursor


def start(world: World, user: str) -> str:
    cursor: str = changes_since(world, user)["cursor"]
    return cursor


def topics(world: World, user: str, conversation: object = None) -> dict[str, str]:
    """The caller's topics, by kind."""
    with world.acting_as(user) as connection:
        return dict(
            connection.execute(
                "select kind, topic from public.my_topics(%s)", [conversation]
            ).fetchall()
        )
