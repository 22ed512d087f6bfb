from __future__ import annotations

import pytest
from pydantic import JsonValue

from rapport.local.supabase.realtime.joins import BroadcastConfig, Join, JoinConfig


def test_booleans_may_be_texts() -> None:
    join = Join.parse(
        {"config": {"private": "true", "broadcast": {"self": "true", "ack": "false"}}}
    )

    assert join.config.private
    assert join.config.broadcast == BroadcastConfig.model_validate({"self": True})


def test_what_is_malformed_counts_as_left_out() -> None:
    join = Join.parse(
        {
            "access_token": 1,
            "config": {"private": True, "broadcast": 5, "postgres_changes": [{"table": "t"}, 1]},
        }
    )

    assert join.access_token is None
    assert join.config == JoinConfig(private=True)


@pytest.mark.parametrize("payload", [None, 1, [], {"config": None}, {"config": []}])
def test_a_join_without_a_configuration_has_the_defaults(payload: JsonValue) -> None:
    assert Join.parse(payload) == Join()


def test_a_users_own_token_comes_before_the_connections() -> None:
    assert Join.parse({"access_token": "a", "user_token": "u"}).token("key") == "u"
    assert Join.parse({"access_token": "a"}).token("key") == "a"
    assert Join.parse({"access_token": None}).token("key") == "key"
    assert Join.parse({"access_token": "sb_publishable_x"}).token("key") == "key"
