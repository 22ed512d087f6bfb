"""After a restore nothing is sent a second time by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.sql.asking import ask
from tests.sql.outbound import accept, backend, begin, claim, conversation, post, send_to, state
from tests.sql.portal import insert, make_job
from tests.world import ALPINE, World


def test_what_waited_at_the_backup_is_held_for_a_person(world: World) -> None:
    thread = conversation(world)
    sending = send_to(world, thread, "sending")
    waiting = post(world, "andrej", thread, "waiting")["id"]
    soon = datetime.now(UTC) + timedelta(hours=1)
    over, later = (
        insert(
            world, "andrej", "scheduled_messages", conversation_id=thread, message="x", send_at=at
        )["id"]
        for at in (soon, soon + timedelta(hours=1))
    )
    insert(
        world, "olivia", "reminder_rules", account_id=ALPINE, name="x",
        kind="before_appointment", minutes=60, text="{{appointment.time}}",
    )  # fmt: skip
    make_job(world, starts_at=datetime.now(UTC) + timedelta(minutes=50))
    with world.connect() as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute(
            "update public.scheduled_messages set due_at = now() - interval '1 hour' where id = %s",
            [over],
        )
        owner.execute("update public.reminder_rules set active_since = now() - interval '1 day'")
        owner.execute(
            "insert into private.notifications (account_id, user_id, kind, subject_id, title, body,"
            " due_at) select account_id, user_id, 'message', %s, 'x', 'x', now()"
            " from public.account_members where role = 'agent' and account_id = %s",
            [thread, ALPINE],
        )
        owner.execute(
            "insert into private.partner_intents (account_id, contact_id, operation, fingerprint)"
            " select account_id, id, 'add_partner', 'x' from public.contacts"
            " where account_id = %s limit 1",
            [ALPINE],
        )
    address = "https://production.example/internal/wake"
    world.owner.execute("update private.doorbell set url = %s, secret = %s", [address, "s" * 32])
    [before] = ask(world, "andrej", "select public.changes_since() as page")
    found = backend(world, "after_restore()")
    assert found.pop("latest_webhook_at") is not None
    assert found == {
        "messages": 2,
        "scheduled_messages": 1,
        "reminder_rules": 1,
        "notifications": 1,
        "files": 0,
        "partner_calls": 1,
        "sync_runs": 0,
        "doorbell": "https://production.example",
    }
    # a dry run has changed nothing
    assert state(world, waiting)["status"] == "queued"

    backend(world, "after_restore(false)")

    for one in (sending, waiting):
        assert state(world, one)["status"] == "unknown"
        assert "restored from a backup" in state(world, one)["error_message"]
    assert claim(world, "any") == []
    assert world.rows(
        "select id, status, error_message is null as fine from public.scheduled_messages"
        " order by send_at"
    ) == [
        {"id": over, "status": "failed", "fine": False},
        {"id": later, "status": "waiting", "fine": True},
    ]
    assert backend(world, "send_scheduled(10)")["sent"] == 0
    assert backend(world, "send_reminders()")["sent"] == 0
    assert world.value("select count(*) from private.notifications") == 0
    assert world.value("select state from private.partner_intents") == "unknown"
    assert world.value("select url from private.doorbell") is None
    [after] = ask(world, "andrej", "select public.changes_since(%s) p", before["page"]["cursor"])
    assert after["p"]["resync"]

    # a status that comes settles one, and a person the other; what is written now goes as always
    accept(world, sending, "wamid.sending")
    assert state(world, sending)["status"] == "sent"
    ask(world, "andrej", "select public.resend_message(%s)", waiting)
    assert [job["message_id"] for job in claim(world, "next")] == [waiting]
    assert begin(world, waiting, "next")
    held = backend(world, "after_restore(false)")
    assert (held["messages"], held["doorbell"]) == (1, None)
