"""Where no evidence comes, a person decides; and evidence that comes late still counts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.outbound import (
    CILKA,
    accept,
    ago,
    attempts,
    begin,
    claim,
    conversation,
    lose,
    make_due,
    post,
    refuse,
    send_to,
    state,
)
from tests.world import World, status, text_message


def decide(world: World, decision: str, message: object, user: str = "andrej") -> None:
    with world.acting_as(user) as connection:
        connection.execute(f"select public.{decision}_message(%s)".encode(), [message])


def refusal(world: World, decision: str, message: object, user: str = "andrej") -> str | None:
    with pytest.raises(psycopg.Error) as caught:
        decide(world, decision, message, user)
    return caught.value.sqlstate


def wait(world: World) -> None:
    world.owner.execute(
        "update private.outbound_attempts set ended_at = ended_at - interval '3 minutes'"
    )


@pytest.fixture
def thread(world: World) -> UUID:
    return conversation(world)


@pytest.fixture
def unknown(world: World, thread: UUID) -> str:
    """A message whose outcome nobody knows, and has not known for a while."""
    message = send_to(world, thread)
    assert lose(world, message) == "unknown"
    wait(world)
    return message


def send_again(world: World, message: str, provider_id: str) -> None:
    (job,) = claim(world)
    assert job["message_id"] == message
    assert begin(world, message)
    accept(world, message, provider_id)


def test_an_unknown_message_is_sent_again_as_a_new_attempt(world: World, unknown: str) -> None:
    decide(world, "resend", unknown)
    assert state(world, unknown)["status"] == "queued"
    make_due(world)
    send_again(world, unknown, "wamid.2")
    assert state(world, unknown)["status"] == "sent"
    assert attempts(world, unknown) == [("unknown", None), ("accepted", "wamid.2")]


def test_a_failed_message_is_sent_again_and_shows_its_failure_no_more(
    world: World, thread: UUID
) -> None:
    message = send_to(world, thread)
    refuse(world, message, 131026)
    decide(world, "resend", message)
    assert state(world, message) == {
        "status": "queued",
        "provider_id": None,
        "error_code": None,
        "error_message": None,
        "delivered_at": None,
    }


def test_a_message_that_failed_after_it_was_accepted_keeps_both_ids(
    world: World, thread: UUID
) -> None:
    message = send_to(world, thread)
    accept(world, message, "wamid.1")
    world.ingest(status("wamid.1", "failed", ago(seconds=1), error_code=131000))
    assert state(world, message)["status"] == "failed"
    decide(world, "resend", message)
    make_due(world)
    send_again(world, message, "wamid.2")
    assert attempts(world, message) == [("accepted", "wamid.1"), ("accepted", "wamid.2")]
    assert state(world, message)["provider_id"] == "wamid.2"


def test_a_dropped_message_has_failed_and_is_not_sent(world: World, unknown: str) -> None:
    decide(world, "drop", unknown)
    assert state(world, unknown)["status"] == "failed"
    assert state(world, unknown)["error_message"]
    make_due(world)
    assert claim(world) == []


@pytest.mark.parametrize("is_claimed", [False, True])
def test_a_message_that_still_waits_can_be_withdrawn(
    world: World, thread: UUID, is_claimed: bool
) -> None:
    """Also by the side of the worker that has claimed it, which then does not send it."""
    first = post(world, "andrej", thread, "one")["id"]
    post(world, "andrej", thread, "two")
    if is_claimed:
        assert [job["message_id"] for job in claim(world)] == [first]

    decide(world, "drop", first)

    assert not begin(world, first)
    shown = state(world, first)
    assert (shown["status"], shown["error_message"]) == (
        "failed",
        "The message was withdrawn before it was sent.",
    )
    assert [job["text"] for job in claim(world)] == ["two"]
    # a person may think better of it
    decide(world, "resend", first)
    assert state(world, first)["status"] == "queued"


def test_what_waits_at_a_stopped_number_can_be_withdrawn(world: World, thread: UUID) -> None:
    refuse(world, send_to(world, thread), 190)
    waiting = post(world, "andrej", thread, "two")["id"]

    assert refusal(world, "drop", waiting, "vera") == "42501"
    assert refusal(world, "drop", waiting, "ana") == "PT404"
    decide(world, "drop", waiting)

    assert state(world, waiting)["status"] == "failed"


def test_within_two_minutes_evidence_may_still_come(world: World, thread: UUID) -> None:
    message = send_to(world, thread)
    lose(world, message)
    assert refusal(world, "resend", message) == "PT409"
    assert refusal(world, "drop", message) == "PT409"
    assert state(world, message)["status"] == "unknown"


def test_outside_the_window_it_is_not_sent_again(world: World, unknown: str) -> None:
    world.owner.execute(
        "update public.conversation_activity set last_inbound_at = now() - interval '25 hours'"
    )
    assert refusal(world, "resend", unknown) == "PT422"


def test_to_somebody_who_was_deleted_it_is_not_sent_again(world: World) -> None:
    thread = conversation(world, "38640777777")
    message = send_to(world, thread)
    refuse(world, message, 131026)
    with world.acting_as("andrej") as connection:
        connection.execute(
            "delete from public.contacts_v2 where id ="
            " (select customer_id from public.conversations where id = %s)",
            [thread],
        )
    assert refusal(world, "resend", message) == "PT422"
    assert claim(world) == []


@pytest.mark.parametrize("decision", ["resend", "drop"])
def test_nothing_is_decided_about_a_message_that_is_under_way(
    world: World, thread: UUID, decision: str
) -> None:
    message = send_to(world, thread)
    assert refusal(world, decision, message) == "PT409"
    accept(world, message, "wamid.1")
    assert refusal(world, decision, message) == "PT409"
    inbound = world.value("select id from public.messages where sender_type = 'client'")
    assert refusal(world, decision, inbound) == "PT409"


@pytest.mark.parametrize("decision", ["resend", "drop"])
@pytest.mark.parametrize(
    ("user", "code"),
    [("vera", "42501"), ("ana", "PT404"), ("cilka", "PT404"), ("stranger", "PT404")],
)
def test_only_those_who_may_write_decide(
    world: World, unknown: str, decision: str, user: str, code: str
) -> None:
    assert refusal(world, decision, unknown, user) == code
    assert state(world, unknown)["status"] == "unknown"


@pytest.mark.parametrize(
    ("user", "code"), [("vera", "42501"), ("ana", "PT404"), ("cilka", "PT404")]
)
def test_only_those_who_may_write_resume_a_number(
    world: World, thread: UUID, user: str, code: str
) -> None:
    refuse(world, send_to(world, thread), 190)
    number = world.value("select id from public.whatsapp_channels where stopped_at is not null")
    with pytest.raises(psycopg.Error) as caught, world.acting_as(user) as connection:
        connection.execute("select public.resume_channel(%s)", [number])
    assert caught.value.sqlstate == code
    assert claim(world) == []


def test_what_was_sent_from_the_phone_is_not_sent_by_us(world: World) -> None:
    """Failure case 18: it failed there, and keeps the id by which it is known."""
    world.ingest(text_message("wamid.phone", CILKA, sent_at=ago(seconds=5), kind="echo"))
    world.ingest(status("wamid.phone", "failed", ago(seconds=1), error_code=131026))
    message = world.value("select id from public.messages where provider_id = 'wamid.phone'")
    assert state(world, message)["status"] == "failed"
    assert refusal(world, "resend", message) == "PT409"
    world.ingest(
        text_message("wamid.phone", CILKA, sent_at=ago(seconds=5), kind="echo"), body="again"
    )
    assert world.value("select count(*) from public.messages where sender_type = 'operator'") == 1


def test_to_whom_whatsapp_limits_marketing_nothing_is_sent_for_a_day(
    world: World, thread: UUID
) -> None:
    message = send_to(world, thread)
    accept(world, message, "wamid.1")
    world.ingest(status("wamid.1", "failed", ago(hours=23), error_code=131049))
    assert refusal(world, "resend", message) == "PT409"
    world.owner.execute("update public.messages set failed_at = failed_at - interval '1 hour'")
    decide(world, "resend", message)
    assert state(world, message)["status"] == "queued"


def test_two_people_who_decide_at_once_send_it_once(world: World, unknown: str) -> None:
    def resend(user: str) -> str | None:
        try:
            decide(world, "resend", unknown, user)
        except psycopg.Error as error:
            return error.sqlstate
        return None

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(resend, ["andrej", "olivia", "adam", "andrej"]))
    assert sorted(answers, key=str) == [None, "PT409", "PT409", "PT409"]
    assert world.value("select count(*) from private.outbound_queue") == 1


def test_acceptance_that_comes_before_it_is_sent_again_settles_it(
    world: World, unknown: str
) -> None:
    decide(world, "resend", unknown)
    make_due(world)
    claim(world)
    assert accept(world, unknown, "wamid.late", "dead") == "sent"
    assert not begin(world, unknown)
    assert claim(world) == []
    assert attempts(world, unknown) == [("accepted", "wamid.late")]


def test_acceptance_that_comes_after_it_was_sent_again_is_kept_beside_it(
    world: World, unknown: str
) -> None:
    decide(world, "resend", unknown)
    make_due(world)
    send_again(world, unknown, "wamid.2")
    world.ingest(status("wamid.2", "delivered", ago(seconds=1)))
    before: dict[str, Any] = state(world, unknown)
    assert accept(world, unknown, "wamid.1", "dead") == "sent"
    assert state(world, unknown) == before
    assert attempts(world, unknown) == [("accepted", "wamid.1"), ("accepted", "wamid.2")]


def test_acceptance_that_comes_after_it_was_dropped_is_believed(world: World, unknown: str) -> None:
    decide(world, "drop", unknown)
    accept(world, unknown, "wamid.late", "dead")
    assert state(world, unknown)["status"] == "sent"
    assert state(world, unknown)["error_message"] is None
