"""A call that can't be made twice leaves a trace before it begins, and is never begun twice."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.sql.asking import Refusal, at_once
from tests.sql.faces import ask
from tests.sql.metakocka import backend, claim
from tests.sql.metakocka import erp as erp
from tests.world import ALPINE, BAY, World, seed_uuid

CILKA = seed_uuid("contact cilka")


def begin(world: World, account: UUID = ALPINE) -> dict[str, Any]:
    intent: dict[str, Any] = backend(
        world,
        "begin_intent",
        account_id=account,
        contact_id=CILKA,
        operation="add_partner",
        fingerprint="digest",
    )
    return intent


def to(world: World, intent: dict[str, Any], state: str, **more: Any) -> bool:
    moved: bool = backend(
        world,
        "settle_intent",
        **({"account_id": ALPINE, "intent_id": intent["intent_id"], "state": state} | more),
    )
    return moved


def test_open_intent_is_found_by_whoever_comes_next(erp: World) -> None:
    first = begin(erp)
    assert (first["is_new"], first["state"]) == (True, "intended")
    to(erp, first, "sent")
    again = begin(erp)
    assert (again["is_new"], again["intent_id"], again["state"]) == (
        False,
        first["intent_id"],
        "sent",
    )
    # and by the worker that claims the contact
    ask(erp, "andrej", "update public.contacts_v2 set name = 'C' where id = %s", CILKA)
    [job] = claim(erp)
    [intent] = job["intents"]
    assert (intent["intent_id"], intent["state"]) == (first["intent_id"], "sent")


def test_two_workers_at_once_begin_one_intent(erp: World) -> None:
    answers = at_once(*[lambda: begin(erp)] * 4)
    assert not [one for one in answers if isinstance(one, Refusal)]
    assert sorted(one["is_new"] for one in answers if not isinstance(one, Refusal)) == [
        False,
        False,
        False,
        True,
    ]


def test_call_is_begun_once(erp: World) -> None:
    intent = begin(erp)
    assert to(erp, intent, "sent") is True
    # another worker with the same intent must not call
    assert to(erp, intent, "sent") is False


@pytest.mark.parametrize("path", [["sent"], ["sent", "unknown"], []])
def test_known_outcome_ends_it_whatever_was_known_before(erp: World, path: list[str]) -> None:
    intent = begin(erp)
    assert all(to(erp, intent, state) for state in path)
    assert to(erp, intent, "settled", metakocka_id="1600") is True
    # told twice is told once, and nothing else is true of it
    assert to(erp, intent, "settled", metakocka_id="1600") is True
    assert to(erp, intent, "settled", metakocka_id="1601") is False
    assert to(erp, intent, "abandoned") is False
    assert to(erp, intent, "sent") is False
    assert begin(erp)["is_new"] is True


def test_abandoned_intent_makes_room_for_another(erp: World) -> None:
    intent = begin(erp)
    assert to(erp, intent, "abandoned") is True
    assert begin(erp)["is_new"] is True


def test_what_was_never_sent_is_not_unknown(erp: World) -> None:
    assert to(erp, begin(erp), "unknown") is False


def test_intents_of_another_account_do_not_exist(erp: World) -> None:
    with pytest.raises(psycopg.Error) as refused:
        begin(erp, BAY)
    assert refused.value.sqlstate == "PT404"
    intent = begin(erp)
    with pytest.raises(psycopg.Error) as refused:
        to(erp, intent, "sent", account_id=BAY)
    assert refused.value.sqlstate == "PT404"


def test_deleted_contact_gets_no_partner(erp: World) -> None:
    ask(erp, "andrej", "delete from public.contacts_v2 where id = %s", CILKA)
    with pytest.raises(psycopg.Error) as refused:
        begin(erp)
    assert refused.value.sqlstate == "PT404"
