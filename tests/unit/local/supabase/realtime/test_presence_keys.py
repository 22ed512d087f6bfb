from __future__ import annotations

import pytest
from pydantic import JsonValue

from rapport.local.supabase.realtime.joins import Join


def key_of(presence: JsonValue) -> str | None:
    config = Join.parse({"config": {"presence": presence}}).config.presence
    return config.key if config else None


def test_a_key_may_be_a_number() -> None:
    assert key_of({"key": "alice"}) == "alice"
    assert key_of({"key": 7}) == "7"


@pytest.mark.parametrize("key", [None, [], {}, "x" * 257])
def test_a_key_that_can_not_be_counts_as_left_out(key: JsonValue) -> None:
    presence = Join.parse({"config": {"presence": {"key": key, "enabled": "true"}}}).config.presence

    assert presence is not None
    assert (presence.key, presence.enabled) == ("", True)


def test_who_does_not_ask_for_presence_is_not_told() -> None:
    assert Join.parse({"config": {}}).config.presence is None
    presence = Join.parse({"config": {"presence": {"key": "alice"}}}).config.presence

    assert presence is not None
    assert not presence.enabled
