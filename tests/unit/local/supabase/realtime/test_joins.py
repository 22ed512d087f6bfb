from __future__ import annotations

import pytest
from pydantic import JsonValue

from rapport.local.supabase.realtime.joins import BroadcastConfig, InvalidJoinError, Join


def test_booleans_may_be_texts() -> None:
    join = Join.parse(
        {"config": {"private": "True", "broadcast": {"self": "true", "ack": "false"}}}
    )

    assert join.config.private
    assert join.config.broadcast == BroadcastConfig.model_validate({"self": True})


def test_null_counts_as_left_out() -> None:
    join = Join.parse(
        {
            "access_token": None,
            "config": {
                "private": None,
                "broadcast": None,
                "presence": {"key": None},
                "postgres_changes": [None],
            },
        }
    )

    assert join == Join()
    assert Join.parse(None) == Join.parse({"config": None}) == Join.parse({}) == Join()


def test_a_replay_has_at_most_25_messages() -> None:
    def count(**limit: JsonValue) -> int:
        replay: JsonValue = {"since": 1, **limit}
        config = Join.parse({"config": {"broadcast": {"replay": replay}}}).config
        assert config.broadcast.replay
        return config.broadcast.replay.count

    assert [count(), count(limit=7), count(limit=0), count(limit=100)] == [25, 7, 1, 25]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (1, "InvalidJoinPayload: payload: unable to parse, expected a map"),
        ([], "InvalidJoinPayload: payload: unable to parse, expected a map"),
        ({"access_token": 1}, "access_token: unable to parse, expected string"),
        ({"user_token": []}, "user_token: unable to parse, expected string"),
        ({"config": []}, "config: unable to parse, expected a map"),
        ({"config": {"persist": True}}, "config.persist: unknown option"),
        ({"config": {"private": "yes"}}, "config.private: unable to parse, expected boolean"),
        ({"config": {"private": 1}}, "config.private: unable to parse, expected boolean"),
        ({"config": {"broadcast": 5}}, "config.broadcast: unable to parse, expected a map"),
        ({"config": {"broadcast": {"acks": True}}}, "config.broadcast.acks: unknown option"),
        ({"config": {"presence": {"key": {}}}}, "config.presence.key: unable to parse"),
        ({"config": {"presence": {"key": "x" * 257}}}, "at most 256 characters"),
        ({"config": {"postgres_changes": {}}}, "expected an array of maps"),
        ({"config": {"postgres_changes": [1]}}, "expected an array of maps"),
        ({"config": {"postgres_changes": [{"columns": []}]}}, "unknown option columns"),
        ({"config": {"postgres_changes_options": {"wait": 5}}}, "expected boolean"),
        (
            {"config": {"broadcast": {"replay": 5}}},
            "UnableToReplayMessages: Replay params are not valid",
        ),
        (
            {"config": {"broadcast": {"replay": {"limit": 1}}}},
            "UnableToReplayMessages: Replay params are not valid (since: is missing)",
        ),
        (
            {"config": {"broadcast": {"replay": {"since": "1"}}}},
            "Replay params are not valid (since: unable to parse, expected integer)",
        ),
    ],
)
def test_a_join_with_an_option_that_would_be_ignored_is_refused(
    payload: JsonValue, reason: str
) -> None:
    with pytest.raises(InvalidJoinError) as refused:
        Join.parse(payload)
    assert reason in str(refused.value)


def test_a_users_own_token_comes_before_the_connections() -> None:
    assert Join.parse({"access_token": "a", "user_token": "u"}).token("key") == "u"
    assert Join.parse({"access_token": "a"}).token("key") == "a"
    assert Join.parse({"access_token": None}).token("key") == "key"
    assert Join.parse({"access_token": "sb_publishable_x"}).token("key") == "key"


def test_a_presence_key_may_be_a_number() -> None:
    assert Join.parse({"config": {"presence": {"key": 7}}}).config.presence.key == "7"
