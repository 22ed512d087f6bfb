"""What is kept for a time only: no cursor that still counts loses an entry."""

from __future__ import annotations

import base64
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.sql.asking import ask
from tests.sql.outbound import backend, conversation
from tests.sql.portal import add_points, change, insert, make_job, send_invoice
from tests.world import ALPINE, BAY, World, text_message

KINDS = (
    "changes",
    "webhook_events",
    "erased_messages",
    "sync",
    "sent_reminders",
    "scheduled_messages",
    "notifications",
)


def prune(world: World, batch: int = 1000) -> dict[str, int]:
    with world.acting("service_role") as connection:
        answer = connection.execute("select backend.prune(%s)", [batch]).fetchone()
    assert answer is not None
    pruned: dict[str, int] = answer[0]
    return pruned


def prune_all(world: World, batch: int = 1000) -> dict[str, int]:
    """As the daily function does: until a call deletes nothing."""
    total = dict.fromkeys(KINDS, 0)
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

    assert prune_all(world, batch=3) == dict.fromkeys(KINDS, 0) | {"changes": old}

    assert log_entries(world) == young
    assert prune(world) == dict.fromkeys(KINDS, 0)


def test_hashes_of_erased_messages_go_with_the_webhooks_that_could_bring_them(world: World) -> None:
    world.owner.execute(
        "insert into private.erased_messages (whatsapp_channel_id, message_hash, erased_at)"
        " select gen_random_uuid(), sha256(n::text::bytea),"
        " now() - n * interval '1 day' + interval '1 hour'"
        " from generate_series(88, 93) n"
    )
    assert prune_all(world, batch=2)["erased_messages"] == 3
    left = "select count(*) from private.erased_messages"
    assert world.value(left) == 3


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


# What was noted so that nothing is sent twice, and what waited

RULES: dict[str, dict[str, Any]] = {
    "before_appointment": {"minutes": 60},
    "after_job": {"minutes": 60},
    "invoice_due_in": {"days": 2},
    "invoice_overdue_by": {"days": 1},
    "points_expire_in": {"days": 3},
}
# what each kind reminds of last
FURTHEST: dict[str, tuple[int | None, int | None]] = {
    "before_appointment": (5, None),
    "after_job": (525_600, None),
    "invoice_due_in": (None, 0),
    "invoice_overdue_by": (None, 365),
    "points_expire_in": (None, 0),
}
SEND = "select backend.send_reminders(500, %s)"


def test_reminder_is_forgotten_once_no_rule_could_send_it_again(world: World) -> None:
    """However a rule is changed meanwhile: its days, its minutes, or its kind."""
    start = datetime(2027, 6, 1, 9, tzinfo=UTC)
    for kind, when in RULES.items():
        insert(
            world,
            "olivia",
            "reminder_rules",
            account_id=ALPINE,
            name="x",
            kind=kind,
            text="x",
            **when,
        )
    make_job(world, starts_at=start)
    done = make_job(world, starts_at=start, ends_at=start + timedelta(hours=1))
    change(world, "andrej", "jobs", done["id"], status="completed")
    send_invoice(world, due_on="2027-06-02")
    add_points(world, 5, expires_on="2027-06-04")
    for hours in (-24, -1, 0, 3, 48):
        world.value(SEND, [start + timedelta(hours=hours)])
    settled = world.rows(
        "select r.kind, s.subject_id, s.occasion, s.over_at from private.sent_reminders s"
        " join public.reminder_rules r on r.id = s.rule_id"
    )
    assert {row["kind"]: row["over_at"] for row in settled} == {
        "before_appointment": start,
        "after_job": start + timedelta(days=370, hours=2),
        "invoice_due_in": datetime(2028, 6, 6, tzinfo=UTC),
        "invoice_overdue_by": datetime(2028, 6, 6, tzinfo=UTC),
        "points_expire_in": datetime(2028, 6, 8, tzinfo=UTC),
    }

    for row in settled:
        for kind, (minutes, days) in FURTHEST.items():
            with world.owner.transaction(force_rollback=True):
                world.owner.execute("delete from private.sent_reminders")
                world.owner.execute(
                    "update public.reminder_rules set kind = %s, minutes = %s, days = %s,"
                    " active_since = '-infinity'",
                    [kind, minutes, days],
                )
                world.value(SEND, [row["over_at"]])
                again = world.rows(
                    "select from private.sent_reminders where (subject_id, occasion) = (%s, %s)",
                    [row["subject_id"], row["occasion"]],
                )
                assert again == [], (row, kind)

    over = "update private.sent_reminders set over_at = now() - %s where occasion = 'completed'"
    world.owner.execute(over, [timedelta(days=29)])
    assert prune_all(world)["sent_reminders"] == 0
    world.owner.execute(over, [timedelta(days=31)])
    assert prune_all(world)["sent_reminders"] == 1
    assert world.value("select count(*) from private.sent_reminders") == 4


def test_finished_scheduled_messages_go_after_90_days_and_their_messages_stay(
    world: World,
) -> None:
    thread = conversation(world)
    soon = datetime.now(UTC) + timedelta(hours=1)
    sent, cancelled, waiting = (
        insert(
            world,
            "andrej",
            "scheduled_messages",
            conversation_id=thread,
            message="hi",
            send_at=soon + timedelta(hours=place),
        )
        for place in range(3)
    )
    assert backend(world, "send_scheduled(10, %s)", soon)["sent"] == 1
    change(world, "andrej", "scheduled_messages", cancelled["id"], status="cancelled")
    past = (
        "update public.scheduled_messages set updated_at = now() - %s::interval"
        " where status <> 'waiting'"
    )
    # the stamp of a change is the trigger's
    with world.connect() as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute(past, ["89 days"])
        assert prune_all(world)["scheduled_messages"] == 0
        owner.execute("update public.scheduled_messages set updated_at = now() - interval '1 year'")
    assert prune_all(world, batch=1)["scheduled_messages"] == 2
    assert world.rows("select id from public.scheduled_messages") == [{"id": waiting["id"]}]
    # its message is there, so its id can't be sent again
    again = insert(
        world,
        "andrej",
        "scheduled_messages",
        id=sent["id"],
        conversation_id=thread,
        message="hi",
        send_at=soon,
    )
    assert backend(world, "send_scheduled(10, %s)", soon)["failed"] == 1
    assert world.value("select count(*) from public.messages where id = %s", [again["id"]]) == 1


def test_notifications_that_nobody_sends_go_after_a_day(world: World) -> None:
    backend(world, "set_push_key(%s)", "B" + "A" * 86)
    subscribe = "select public.save_push_subscription('https://push.example/1', %s, %s)"
    ask(world, "andrej", subscribe, "B" + "A" * 86, "A" * 22)
    thread = conversation(world)
    ask(world, "andrej", "select public.stay_at_conversation(%s)", thread)
    queued = "select count(*) from private.push_queue"
    conversation(world, "38640111333")
    world.owner.execute("update private.notifications set due_at = now() - interval '1 hour'")
    backend(world, "claim_pushes('w')")
    conversation(world, "38640111444")
    assert world.value(queued) == 1
    for hours, left in ((23, 0), (2, 4)):
        for table, column in (
            ("notifications", "due_at"),
            ("push_queue", "created_at"),
            ("conversation_watchers", "seen_at"),
        ):
            world.owner.execute(
                f"update private.{table} set {column} = {column} - %s".encode(),
                [timedelta(hours=hours)],
            )
        assert prune_all(world, batch=1)["notifications"] == left
    assert world.value(queued) == 0


def test_nobody_reads_the_settings(world: World) -> None:
    for user in ("olivia", "cilka", "stranger"):
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            world.acting_as(user) as connection,
        ):
            connection.execute("select * from private.retention")
