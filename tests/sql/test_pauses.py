"""A person pauses a number or an account: nothing goes out, what comes in is there, and it ends by
choice.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tests.sql.asking import Refusal, ask, refusal, start_blocked
from tests.sql.outbound import ago, backend, begin, claim, conversation, post, state
from tests.sql.portal import insert, make_job
from tests.world import ALPINE, ALPINE_NUMBER, BAY_NUMBER, World, text_message

HEALTH = "select kind, subject, count, meaning from public.account_health(%s)"


def channel(world: World) -> UUID:
    found: UUID = world.value(
        "select id from public.whatsapp_channels where phone_number_id = %s", [ALPINE_NUMBER]
    )
    return found


def pause(world: World, number: UUID | None = None, user: str = "olivia") -> None:
    ask(world, user, "select public.pause_sending(%s, %s)", ALPINE, number)


def resume(world: World, number: UUID | None = None, *, withdraw: bool = False) -> dict[str, Any]:
    [row] = ask(
        world, "olivia", "select public.resume_sending(%s, %s, %s) r", ALPINE, number, withdraw
    )
    told: dict[str, Any] = row["r"]
    return told


def troubles(world: World) -> dict[str, str]:
    return {row["kind"]: row["meaning"] for row in ask(world, "olivia", HEALTH, ALPINE)}


def test_nothing_goes_out_and_what_comes_in_is_there(world: World) -> None:
    thread = conversation(world)
    leased = post(world, "andrej", thread, "leased")
    assert [job["message_id"] for job in claim(world, "one")] == [leased["id"]]
    inbound = "select public.latest_inbound(%s) as known"
    for number in (channel(world), None):
        pause(world, number)
        # a worker that has leased a message hears of it before its call
        assert not begin(world, leased["id"], "one")
        assert claim(world, "two") == []
        assert backend(world, "claim_outbound(%s, 10)", "two")["next_at"] is None
        # no read mark and no typing sign
        assert ask(world, "andrej", inbound, thread) == [{"known": None}]
        kind = "paused_number" if number else "paused_account"
        assert set(troubles(world)) == {kind}
        assert "Messages that wait: 1." in troubles(world)[kind]
        assert backend(world, "figures()")["oldest_outbound_seconds"] == 0
        # a second time changes nothing
        pause(world, number)

        stored = world.ingest(text_message(f"wamid.{kind}", sent_at=ago(seconds=1)))
        assert stored["applied"] == 1
        told = resume(world, number)
        assert told == {"is_paused": False, "withdrawn": 0, "waiting": 1}
        assert troubles(world) == {}
        assert [job["message_id"] for job in claim(world, "one")] == [leased["id"]]
    assert begin(world, leased["id"], "one")


def test_a_number_sends_when_neither_it_nor_its_account_is_paused(world: World) -> None:
    post(world, "andrej", conversation(world), "waits")
    pause(world, channel(world))
    pause(world)

    # what is still paused is named, and not counted as sent now
    assert resume(world)["waiting"] == 0
    assert claim(world) == []
    pause(world)
    told = backend(world, "resume_sending(%s)", str(ALPINE))
    assert (len(told["paused_numbers"]), told["is_account_paused"]) == (1, False)
    world.owner.execute(
        "update public.whatsapp_channels set stopped_at = now(), stopped_reason = 'x'"
    )
    assert resume(world, channel(world))["waiting"] == 0
    pause(world, channel(world))
    told = backend(world, "resume_sending(%s)", ALPINE_NUMBER)
    assert (told["waiting"], told["paused_numbers"]) == (1, [])
    assert len(claim(world)) == 1


def test_what_waits_is_withdrawn_by_choice(world: World) -> None:
    thread = conversation(world)
    posted = post(world, "andrej", thread, "waits")
    soon = datetime.now(UTC) + timedelta(hours=1)
    due, later = (
        insert(
            world, "andrej", "scheduled_messages", conversation_id=thread, message="x", send_at=at
        )
        for at in (soon, soon + timedelta(days=1, hours=-2))
    )
    insert(
        world, "olivia", "reminder_rules", account_id=ALPINE, name="x",
        kind="before_appointment", minutes=60, text="{{appointment.time}}",
    )  # fmt: skip
    make_job(world, starts_at=datetime.now(UTC) + timedelta(minutes=50))
    pause(world)
    world.owner.execute("update public.reminder_rules set active_since = now() - interval '1 hour'")
    with world.connect() as owner:
        # the time of one has come
        owner.execute("set session_replication_role = replica")
        owner.execute(
            "update public.scheduled_messages set due_at = now() - interval '1 minute'"
            " where id = %s",
            [due["id"]],
        )
    assert backend(world, "send_scheduled(10)")["sent"] == 0
    assert backend(world, "send_reminders()")["sent"] == 0

    told = resume(world, withdraw=True)

    assert told == {"is_paused": False, "withdrawn": 2, "waiting": 0}
    assert state(world, posted["id"])["status"] == "failed"
    assert world.rows("select id, status from public.scheduled_messages order by send_at") == [
        {"id": due["id"], "status": "cancelled"},
        {"id": later["id"], "status": "waiting"},
    ]
    assert backend(world, "send_reminders()")["sent"] == 0
    assert claim(world) == []
    # what is not paused is not withdrawn
    post(world, "andrej", thread, "goes")
    assert resume(world, withdraw=True)["withdrawn"] == 0
    assert len(claim(world)) == 1


def test_what_waits_is_sent_once_the_pause_ends(world: World) -> None:
    thread = conversation(world)
    soon = datetime.now(UTC) + timedelta(hours=1)
    insert(world, "andrej", "scheduled_messages", conversation_id=thread, message="x", send_at=soon)
    pause(world)
    assert backend(world, "send_scheduled(10, %s)", soon) == {
        "sent": 0,
        "failed": 0,
        "moved": 0,
        "is_done": True,
        "next_at": None,
    }
    resume(world)
    assert backend(world, "send_scheduled(10, %s)", soon)["sent"] == 1
    assert len(claim(world)) == 1


def test_only_owners_and_admins_pause_their_own(world: World) -> None:
    refused = {
        user: refusal(world, user, "select public.pause_sending(%s)", ALPINE).code
        for user in ("andrej", "vera", "ana", "cilka")
    }
    assert refused == {"andrej": "42501", "vera": "42501", "ana": "PT404", "cilka": "PT404"}
    [bays] = world.rows(
        "select id from public.whatsapp_channels where phone_number_id = %s", [BAY_NUMBER]
    )
    assert refusal(
        world, "olivia", "select public.pause_sending(%s, %s)", ALPINE, bays["id"]
    ) == Refusal(
        "PT404",
        "There is no such number of this account.",
        "field: channel_id",
        "Give the id of one of its whatsapp_channels, or none for all of them.",
    )
    pause(world, user="adam")
    assert world.value("select count(*) from public.accounts where paused_at is not null") == 1


def test_a_command_names_a_number_or_an_account(world: World) -> None:
    world.owner.execute(
        "update public.whatsapp_channels set display_phone_number = '+386 40 111 000'"
        " where phone_number_id = %s",
        [ALPINE_NUMBER],
    )
    number = channel(world)
    for named, paused in (
        (ALPINE_NUMBER, number),
        ("+386 40 111 000", number),
        ("38640111000", number),
        (str(number), number),
        ("695a15a5c526dbe7c085ece2", None),
        (str(ALPINE), None),
    ):
        told = backend(world, "pause_sending(%s)", named)
        assert told == {
            "account_id": str(ALPINE),
            "channel_id": paused and str(paused),
            "waiting": 0,
        }
        assert backend(world, "resume_sending(%s)", named)["is_paused"] is False
    assert world.rows("select from public.accounts where paused_at is not null") == []
    assert world.rows("select from public.whatsapp_channels where paused_at is not null") == []


def test_a_number_and_its_account_are_resumed_at_the_same_time(world: World) -> None:
    pause(world)
    pause(world, channel(world))
    assert set(troubles(world)) == {"paused_account", "paused_number"}
    query = "select public.resume_sending(%s, %s, false) as told"
    with world.acting_as("olivia") as first:
        first.execute(query.encode(), [ALPINE, None])
        second = start_blocked(world, "olivia", query, ALPINE, channel(world))
    answer = second.result(30)
    assert not isinstance(answer, Refusal), answer
    assert answer[0]["told"]["is_paused"] is False
    # the second has seen what the first did
    assert troubles(world) == {}
