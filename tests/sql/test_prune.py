"""What is kept for a time only: no cursor that still counts loses an entry."""

from __future__ import annotations

import base64
import json
import threading
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.world import ALPINE, BAY, World, text_message


def prune(world: World, batch: int = 1000) -> dict[str, int]:
    with world.acting("service_role") as connection:
        answer = connection.execute("select backend.prune(%s)", [batch]).fetchone()
    assert answer is not None
    pruned: dict[str, int] = answer[0]
    return pruned


def prune_all(world: World, batch: int = 1000) -> dict[str, int]:
    """As the daily function does: until a call deletes nothing."""
    total = dict.fromkeys(("changes", "webhook_events", "sync"), 0)
    while any((pruned := prune(world, batch)).values()):
        assert all(count <= batch for count in pruned.values())
        total = {kind: total[kind] + pruned[kind] for kind in total}
    return total


def age(world: World, by: str) -> None:
    """Makes as much time pass for all that has been logged and received."""
    world.owner.execute("update private.changes set logged_at = logged_at - %s::interval", [by])
    world.owner.execute(
        "update private.webhook_events set received_at = received_at - %s::interval", [by]
    )


def aged(cursor: str, by: timedelta) -> str:
    """A cursor as it was taken so long ago."""
    fields = json.loads(base64.b64decode(cursor))
    fields["at"] = (datetime.fromisoformat(fields["at"]) - by).isoformat()
    return base64.b64encode(json.dumps(fields).encode()).decode()


def changes_since(world: World, user: str, cursor: str | None = None) -> dict[str, Any]:
    with world.acting_as(user) as connection:
        answer = connection.execute("select public.changes_since(%s)", [cursor]).fetchone()
    assert answer is not None
    page: dict[str, Any] = answer[0]
    return page


def told(page: dict[str, Any]) -> list[str]:
    return [change["record"]["name"] for change in page["changes"] if change["table"] == "contacts"]


def name_contact(world: World, name: str) -> None:
    world.owner.execute(
        "insert into public.contacts (account_id, name) values (%s, %s)", [ALPINE, name]
    )


def log_entries(world: World) -> int:
    count: int = world.value("select count(*) from private.changes")
    return count


def test_cursor_within_the_retention_never_loses_an_entry(world: World) -> None:
    cursor = changes_since(world, "andrej")["cursor"]
    name_contact(world, "Nika")
    age(world, "14 days")

    assert prune_all(world)["changes"] == 0

    page = changes_since(world, "andrej", aged(cursor, timedelta(days=13, hours=23)))
    assert not page["resync"]
    assert told(page) == ["Nika"]


def test_entry_of_a_transaction_that_ran_for_hours_stays_for_its_cursors(world: World) -> None:
    """It bears the time at which its transaction began, and was seen only when that ended."""
    with world.connect() as slow, slow.transaction():
        slow.execute("insert into public.contacts (account_id, name) values (%s, 'slow')", [ALPINE])
        cursor = changes_since(world, "andrej")["cursor"]
    # the cursor is within the retention, the entry began 20 hours before it
    age(world, "14 days 19 hours")

    prune_all(world)

    page = changes_since(world, "andrej", aged(cursor, timedelta(days=13, hours=23)))
    assert not page["resync"]
    assert told(page) == ["slow"]


def test_cursor_beyond_the_retention_is_told_to_read_anew(world: World) -> None:
    cursor = changes_since(world, "andrej")["cursor"]
    name_contact(world, "Nika")
    age(world, "15 days 1 minute")

    assert prune_all(world)["changes"] > 0

    page = changes_since(world, "andrej", aged(cursor, timedelta(days=15)))
    assert page["resync"]
    name_contact(world, "Jan")
    assert told(changes_since(world, "andrej", page["cursor"])) == ["Jan"]


def test_only_what_is_old_goes_of_every_account(world: World) -> None:
    world.ingest(
        text_message("wamid.1"), text_message("wamid.2", phone_number_id="1003427786179739")
    )
    accounts = "select distinct account_id from private.changes order by account_id"
    assert [row["account_id"] for row in world.rows(accounts)] == sorted([ALPINE, BAY])
    age(world, "16 days")
    old = log_entries(world)
    name_contact(world, "young")
    young = log_entries(world) - old

    assert prune_all(world, batch=3) == {"changes": old, "webhook_events": 0, "sync": 0}

    assert log_entries(world) == young
    assert prune(world) == {"changes": 0, "webhook_events": 0, "sync": 0}


def test_log_of_an_account_that_is_gone_goes_too(world: World) -> None:
    world.owner.execute("delete from public.accounts where id = %s", [BAY])
    age(world, "16 days")

    prune_all(world)

    assert log_entries(world) == 0


def test_retention_of_the_log_is_a_setting(world: World) -> None:
    name_contact(world, "Nika")
    age(world, "26 hours")
    assert prune_all(world)["changes"] == 0

    world.owner.execute("update private.change_log set retention = '1 hour'")

    assert prune_all(world)["changes"] > 0
    assert log_entries(world) == 0


def test_raw_webhooks_are_kept_for_90_days_and_their_messages_for_good(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    age(world, "89 days")
    assert prune_all(world)["webhook_events"] == 0
    age(world, "2 days")

    assert prune_all(world)["webhook_events"] == 1

    assert world.value("select count(*) from public.messages") == 1
    # a delivery that comes once more is known by its messages
    assert world.ingest(text_message("wamid.1"))["applied"] == 0


def test_retention_of_raw_webhooks_is_a_setting_of_a_week_at_least(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    age(world, "8 days")
    world.owner.execute("update private.retention set webhook_events = '7 days'")
    assert prune_all(world)["webhook_events"] == 1

    with pytest.raises(psycopg.errors.CheckViolation):
        world.owner.execute("update private.retention set webhook_events = '6 days'")


@pytest.mark.parametrize("batch", [-1, 0, 10**9])
def test_size_of_a_batch_is_kept_within_bounds(world: World, batch: int) -> None:
    for number in range(3):
        name_contact(world, f"{number}")
    age(world, "16 days")

    assert 1 <= prune(world, batch)["changes"] <= 5000


def test_two_runs_at_once_share_the_work(world: World) -> None:
    for number in range(50):
        world.ingest(text_message(f"wamid.{number}"))
    age(world, "100 days")
    entries = log_entries(world)
    gate = threading.Barrier(2)
    totals: list[dict[str, int]] = []

    def run() -> None:
        gate.wait()
        totals.append(prune_all(world, batch=7))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    totals.append(prune_all(world))

    assert sum(total["changes"] for total in totals) == entries
    assert sum(total["webhook_events"] for total in totals) == 50
    assert log_entries(world) == 0


def test_what_is_being_written_is_not_waited_for(world: World) -> None:
    world.ingest(text_message("wamid.1"))
    age(world, "100 days")
    with world.connect() as other, other.transaction():
        other.execute("select from private.webhook_events for update")
        assert prune(world)["webhook_events"] == 0
    assert prune(world)["webhook_events"] == 1


def test_nobody_reads_the_settings(world: World) -> None:
    for user in ("olivia", "cilka", "stranger"):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            world.acting_as(user) as connection,
        ):
            connection.execute("select * from private.retention")
