"""What is wrong with an account: who is told, since when, how often, what it means, what to do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sql.asking import ask, refusal
from tests.sql.outbound import backend, begin, claim, conversation, post
from tests.world import ALPINE, ALPINE_NUMBER, BAY, World, text_message

HEALTH = "select * from public.account_health(%s)"
RUN = """
    insert into public.sync_runs (account_id, direction, trigger, state, started_at, finished_at)
    values (%s, 'both', 'schedule', 'running', now(), null)
    returning id
"""


def sweep(world: World) -> int:
    changed: int = backend(world, "sweep_health()")
    return changed


def troubles(world: World, user: str = "olivia") -> dict[str, Any]:
    return {row["kind"]: row for row in ask(world, user, HEALTH, ALPINE)}


def fail(world: World, code: int) -> None:
    """WhatsApp refuses the next message."""
    [job] = claim(world)
    assert begin(world, job["message_id"])
    backend(world, "settle_send(%s, 'w', 'refused', null, %s)", job["message_id"], code)


def test_a_stopped_number_is_told_at_once_and_gone_when_it_sends_again(world: World) -> None:
    thread = conversation(world)
    for text in ("one", "two"):
        post(world, "andrej", thread, text)
    assert troubles(world) == {}

    fail(world, 190)

    told = troubles(world)
    number, channel = world.owner.execute(
        "select display_phone_number, id from public.whatsapp_channels where phone_number_id = %s",
        [ALPINE_NUMBER],
    ).fetchone() or ("", None)
    assert set(told) == {"stopped_number"}
    assert told["stopped_number"]["subject"] == number
    assert told["stopped_number"]["meaning"].endswith(
        f"nothing is sent from the WhatsApp number {number}. Messages that wait: 2."
    )
    # what waits for a stopped number is told with the number
    world.owner.execute("update public.messages set created_at = now() - interval '1 hour'")
    assert sweep(world) == 0
    assert set(troubles(world)) == {"stopped_number"}

    ask(world, "andrej", "select public.resume_channel(%s)", channel)
    # the number is no longer stopped; what it was stopped with waits for its worker
    assert set(troubles(world)) == {"waiting_messages"}
    operations = [
        row["operation"]
        for row in world.rows(
            "select c.operation::text from private.changes c"
            " where c.table_name = 'account_health' and c.account_id = %s order by c.xid, c.seq",
            [ALPINE],
        )
    ]
    assert sorted(operations) == ["DELETE", "INSERT", "INSERT"]


def test_messages_that_wait_or_failed_are_counted_until_a_person_decides(world: World) -> None:
    thread = conversation(world)
    post(world, "andrej", thread, "one")
    fail(world, 131026)
    post(world, "andrej", thread, "two")
    assert troubles(world) == {}

    sweep(world)
    assert {kind: row["count"] for kind, row in troubles(world).items()} == {"failed_messages": 1}
    world.owner.execute(
        "update public.messages set created_at = now() - interval '6 minutes' where message = 'two'"
    )
    sweep(world)
    assert {kind: row["count"] for kind, row in troubles(world).items()} == {
        "failed_messages": 1,
        "waiting_messages": 1,
    }
    assert sweep(world) == 0

    [failed] = world.rows("select id from public.messages where status = 'failed'")
    ask(world, "andrej", "select public.resend_message(%s)", failed["id"])
    for _ in range(2):
        [job] = claim(world)
        assert begin(world, job["message_id"])
        backend(
            world,
            "settle_send(%s, 'w', 'accepted', %s)",
            job["message_id"],
            f"wamid.{job['message_id']}",
        )
    sweep(world)
    assert troubles(world) == {}
    assert world.rows("select from private.message_failures") == []


def test_webhooks_that_were_not_taken_are_told(world: World) -> None:
    world.owner.execute(
        "update public.whatsapp_channels set waba_id = '6' || phone_number_id, name = 'x'"
    )
    for count in (1, 1):
        backend(world, "note_refused_signatures(%s)", count)
    for number in range(3):
        world.ingest(
            text_message(f"wamid.{number}", phone_number_id="999", waba_id=f"6{ALPINE_NUMBER}")
        )
    # a webhook that names no account of ours is nobody's
    world.ingest(text_message("wamid.nobody", phone_number_id="998", waba_id="1"))
    sweep(world)

    told = troubles(world)
    assert {kind: (row["subject"], row["count"]) for kind, row in told.items()} == {
        "refused_signatures": ("", 2),
        "unknown_number": ("999", 3),
    }
    assert "the number 999, which is not registered here" in told["unknown_number"]["meaning"]
    # more than an integer counts
    world.owner.execute("update private.refused_signatures set count = 1000000000")
    world.owner.execute(
        "insert into private.refused_signatures (hour, count)"
        " select r.hour - i * interval '1 hour', r.count"
        " from private.refused_signatures r, generate_series(1, 3) i"
    )
    sweep(world)
    assert troubles(world)["refused_signatures"]["count"] == 1000000000
    # a day later nobody needs to be told of the signatures
    world.owner.execute("update private.refused_signatures set hour = hour - interval '25 hours'")
    sweep(world)
    assert set(troubles(world)) == {"unknown_number"}


def test_a_sync_that_fails_or_rests_is_told_at_once(world: World) -> None:
    world.owner.execute(
        "insert into public.metakocka_connections (account_id, company_id) values (%s, '7')",
        [ALPINE],
    )
    for count in (1, 2):
        run = world.value(RUN, [ALPINE])
        world.owner.execute(
            "update public.sync_runs set state = 'failed', finished_at = now() where id = %s", [run]
        )
        assert troubles(world)["failing_sync"]["count"] == count
    run = world.value(RUN, [ALPINE])
    world.owner.execute(
        "update public.sync_runs set state = 'done', finished_at = clock_timestamp() where id = %s",
        [run],
    )
    assert troubles(world) == {}

    pause = "update public.metakocka_connections set paused_until = %s where account_id = %s"
    world.owner.execute(pause, ["2126-01-01", ALPINE])
    assert set(troubles(world)) == {"failing_sync"}
    world.owner.execute(pause, [None, ALPINE])
    assert troubles(world) == {}


def test_owners_and_admins_are_told_in_their_language(world: World) -> None:
    # one without a number has nothing to do with them
    world.owner.execute("delete from public.whatsapp_channels where account_id = %s", [BAY])
    backend(world, "note_refused_signatures(1)")
    sweep(world)
    assert world.rows("select account_id from public.account_health") == [{"account_id": ALPINE}]
    [english] = ask(world, "adam", HEALTH, ALPINE)
    world.owner.execute("update public.accounts set language = 'sl' where id = %s", [ALPINE])
    sweep(world)
    [slovene] = ask(world, "adam", HEALTH, ALPINE)

    assert english["meaning"].startswith("Webhooks with a wrong signature were refused since")
    assert slovene["meaning"].startswith("Zavrnjeni webhooki z napačnim podpisom od")
    assert english["remedy"] != slovene["remedy"]
    assert "{" not in english["meaning"] + slovene["meaning"] + slovene["remedy"]


@pytest.mark.parametrize(
    ("user", "code"),
    [("andrej", "42501"), ("vera", "42501"), ("ana", "PT404"), ("cilka", "PT404")],
)
def test_others_are_refused(world: World, user: str, code: str) -> None:
    refused = refusal(world, user, HEALTH, ALPINE)
    assert (refused.code, refused.detail) == (code, "field: account_id")
