"""What is written here goes out once, in order and at the right pace, and what became of it is known."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.sql.conftest import ALPINE, World, seed_uuid, status, text_message


def backend(world: World, call: str, *parameters: Any) -> Any:
    with world.acting("service_role") as connection:
        row = connection.execute(f"select backend.{call}".encode(), parameters).fetchone()
    assert row is not None
    return row[0]


def test_first(world: World) -> None:
    now = world.value("select to_char(now() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")
    world.ingest(text_message("w1", wa_id="38640111222", sent_at=now))
    conversation = world.value("select id from public.conversations")
    with world.acting_as("andrej") as c:
        posted = c.execute(
            "select public.post_message(%s, 'hi', client_ref => 'a')", [conversation]
        ).fetchone()[0]
        again = c.execute(
            "select public.post_message(%s, 'hi', client_ref => 'a')", [conversation]
        ).fetchone()[0]
    assert posted == again
    assert posted["seq"] == 2 and posted["status"] == "queued"
    with world.acting_as("andrej") as c:
        c.execute(
            "insert into public.messages (conversation_id, message) values (%s, 'two')",
            [conversation],
        )
    claim = backend(world, "claim_outbound('w')")
    print(claim)
    assert [j["text"] for j in claim["claimed"]] == ["hi"]
    assert backend(world, "begin_send(%s, 'w')", posted["id"]) is True
    # status before the id is known
    world.ingest(status("wamid.out", "delivered", now))
    assert backend(world, "settle_send(%s, 'w', 'accepted', 'wamid.out')", posted["id"]) == "sent"
    print(
        world.rows(
            "select seq, status, provider_id, delivered_at from public.messages order by seq"
        )
    )
    claim = backend(world, "claim_outbound('w')")
    two = claim["claimed"][0]["message_id"]
    assert backend(world, "begin_send(%s, 'w')", two)
    assert backend(world, "settle_send(%s, 'w', 'refused', code => 131056)", two) == "retry"
    print(world.rows("select * from private.outbound_queue"))
    world.owner.execute("update private.outbound_queue set not_before = now()")
    claim = backend(world, "claim_outbound('w')")
    assert backend(world, "begin_send(%s, 'w')", two)
    assert backend(world, "settle_send(%s, 'w', 'refused', code => 190)", two) == "stop"
    assert backend(world, "claim_outbound('w')")["claimed"] == []
    with world.acting_as("andrej") as c:
        c.execute("select public.resume_channel(id) from public.whatsapp_channels")
    claim = backend(world, "claim_outbound('w')")
    assert backend(world, "begin_send(%s, 'w')", two)
    assert backend(world, "settle_send(%s, 'w', 'unknown')", two) == "unknown"
    with pytest.raises(psycopg.Error) as e, world.acting_as("andrej") as c:
        c.execute("select public.resend_message(%s)", [two])
    print(e.value)
    world.owner.execute(
        "update private.outbound_attempts set ended_at = now() - interval '3 minutes'"
    )
    with world.acting_as("andrej") as c:
        c.execute("select public.resend_message(%s)", [two])
    print(world.rows("select * from private.outbound_attempts"))
    with pytest.raises(psycopg.Error) as e, world.acting_as("vera") as c:
        c.execute(
            "insert into public.messages (conversation_id, message) values (%s, 'two')",
            [conversation],
        )
    print(e.value)
    with pytest.raises(psycopg.Error) as e, world.acting_as("ana") as c:
        c.execute(
            "insert into public.messages (conversation_id, message) values (%s, 'two')",
            [conversation],
        )
    print(e.value)
    with pytest.raises(psycopg.Error) as e, world.acting_as("cilka") as c:
        c.execute(
            "insert into public.messages (conversation_id, message) values (%s, 'two')",
            [conversation],
        )
    print(e.value)
