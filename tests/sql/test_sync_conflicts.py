"""A person decides what the sync could not, and the next merge follows it."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from tests.sql.asking import Refusal, at_once
from tests.sql.faces import ask, identities, refusal
from tests.sql.metakocka import (
    NOVAK,
    apply,
    claim,
    contact,
    mapping,
    marked,
    partner,
    read,
    state_of,
)
from tests.sql.metakocka import erp as erp
from tests.world import World, seed_uuid

CILKA = str(seed_uuid("contact cilka"))
RESOLVE = "select public.resolve_sync_conflict(%s, %s) as resolved"


@pytest.fixture
def asked(erp: World) -> World:
    """The contact of partner 1600 says Bled, the partner Kranj, and they agreed on Ljubljana."""
    [made] = apply(erp, partner("1600"))
    ask(
        erp,
        "andrej",
        "update public.metakocka_partners set place = 'Bled' where id = %s",
        made["contact_id"],
    )
    item = {
        "metakocka_id": "1600",
        "partner_hash": "newer",
        "base": NOVAK,
        "contact_id": made["contact_id"],
        "expected_version": 2,
        "changes": {},
        "conflicts": [{"field": "place", "base": "Ljubljana", "crm": "Bled", "erp": "Kranj"}],
    }
    apply(erp, item)
    erp.owner.execute("delete from private.metakocka_dirty")
    return erp


def conflict(world: World) -> UUID:
    found: UUID = world.value("select id from public.sync_conflicts where state = 'open'")
    return found


def waiting(world: World) -> UUID:
    """Partner 1700 may be Cilka or the other one."""
    [made] = apply(world, partner("1601", email="other@x.si", phone=None))
    # as a contact that is no partner
    world.owner.execute("delete from public.metakocka_contact_mappings")
    item = partner("1700") | {"candidates": [CILKA, made["contact_id"]], "partner": NOVAK}
    apply(world, item)
    return conflict(world)


@pytest.mark.parametrize(("choice", "base"), [("crm", "Kranj"), ("metakocka", "Bled")])
def test_decision_makes_the_other_sides_edit_the_only_one(
    asked: World, choice: str, base: str
) -> None:
    [row] = ask(asked, "andrej", RESOLVE, conflict(asked), choice)
    assert row["resolved"]["metakocka_id"] == "1600"

    [job] = claim(asked)
    assert (job["base"]["place"], job["party"]["place"]) == (base, "Bled")
    # and a listing of partners looks at this one, though it is as it was
    [found] = read(asked, {"metakocka_id": "1600", "partner_hash": "newer"})
    assert found["base"]["place"] == base
    assert state_of(asked, "1600") == "waiting"
    [decided] = asked.rows(
        "select state, choice, decided_by, resolved_by from public.sync_conflicts"
    )
    assert decided == {
        "state": "resolved",
        "choice": choice,
        "decided_by": "person",
        "resolved_by": seed_uuid("andrej"),
    }


PEOPLE = [{"mk_id": "7", "name": "Ana", "email": "a@x.si"}, {"mk_id": "8", "name": "Bor"}]


@pytest.mark.parametrize(
    ("field", "value", "people"),
    [
        ("people.7.email", "new@x.si", [{**PEOPLE[0], "email": "new@x.si"}, PEOPLE[1]]),
        ("people.9.email", "c@x.si", [*PEOPLE, {"mk_id": "9", "email": "c@x.si"}]),
        ("people.7", {"mk_id": "7", "name": "Eva"}, [{"mk_id": "7", "name": "Eva"}, PEOPLE[1]]),
        # removed on this side, edited on the other, which is wanted: never agreed on
        ("people.7", None, [PEOPLE[1]]),
    ],
)
def test_decision_about_an_entry_moves_what_was_agreed_of_it_alone(
    world: World, field: str, value: object, people: list[dict[str, str]]
) -> None:
    base = {"name": "Novak", "people": PEOPLE}
    moved = world.value(
        "select private.with_agreed(%s, %s, %s)", [json.dumps(base), field, json.dumps(value)]
    )
    assert moved["name"] == "Novak"
    assert sorted(moved["people"], key=lambda entry: entry["mk_id"]) == people


def test_field_is_decided_for_one_of_two_sides(asked: World) -> None:
    for choice in ("new", CILKA, "", None):
        error = refusal(asked, "andrej", RESOLVE, conflict(asked), choice)
        assert (error.sqlstate, error.diag.message_detail) == ("PT422", "field: choice")


def test_conflict_is_decided_once(asked: World) -> None:
    question = conflict(asked)
    answers = at_once(
        lambda: ask(asked, "andrej", RESOLVE, question, "crm"),
        lambda: ask(asked, "olivia", RESOLVE, question, "metakocka"),
    )
    refused = [one.code for one in answers if isinstance(one, Refusal)]
    assert refused == ["PT409"]


@pytest.mark.parametrize(
    ("user", "code"),
    [("vera", "42501"), ("ana", "PT404"), ("cilka", "PT404"), ("stranger", "PT404")],
)
def test_nobody_else_decides(asked: World, user: str, code: str) -> None:
    assert refusal(asked, user, RESOLVE, conflict(asked), "crm").sqlstate == code
    assert marked(asked) == []


def test_conflicts_are_seen_by_their_members(asked: World) -> None:
    query = "select field, crm, metakocka from public.sync_conflicts"
    assert ask(asked, "vera", query) == [{"field": "place", "crm": "Bled", "metakocka": "Kranj"}]
    for user in ("ana", "cilka", "stranger"):
        assert ask(asked, user, query) == []
    assert refusal(asked, "olivia", "delete from public.sync_conflicts").sqlstate == "42501"


def test_of_several_candidates_the_chosen_one_is_the_partner(erp: World) -> None:
    [row] = ask(erp, "andrej", RESOLVE, waiting(erp), CILKA)
    resolved: dict[str, Any] = row["resolved"]
    assert (resolved["id"], resolved["metakocka_id"], resolved["sync_state"]) == (
        CILKA,
        "1700",
        "waiting",
    )
    [job] = [one for one in claim(erp) if one["contact_id"] == CILKA]
    # nothing was ever agreed: what one side lacks it gets from the other
    assert (job["metakocka_id"], job["base"]) == ("1700", None)


def test_new_contact_is_made_for_a_partner_that_is_none_of_them(erp: World) -> None:
    [row] = ask(erp, "andrej", RESOLVE, waiting(erp), "new")
    made = row["resolved"]["id"]
    assert contact(erp, made)["name"] == "Novak d.o.o."
    assert identities(erp, made) == {("metakocka", "1700")}
    found = mapping(erp, "1700")
    assert found is not None
    assert (str(found["contact_id"]), found["state"], found["user_id"]) == (
        made,
        "waiting",
        seed_uuid("andrej"),
    )


def test_contact_that_is_no_candidate_can_t_be_chosen(erp: World) -> None:
    question = waiting(erp)
    for choice in (str(seed_uuid("contact carlos")), "crm", "x"):
        assert refusal(erp, "andrej", RESOLVE, question, choice).sqlstate == "PT422"


def test_candidate_that_is_a_partner_by_now_can_t_be_chosen(erp: World) -> None:
    question = waiting(erp)
    item = {
        "metakocka_id": "1800",
        "base": {},
        "contact_id": CILKA,
        "expected_version": 1,
        "changes": {},
    }
    apply(erp, item)
    assert refusal(erp, "andrej", RESOLVE, question, CILKA).sqlstate == "PT409"


def test_candidate_that_was_deleted_can_t_be_chosen(erp: World) -> None:
    question = waiting(erp)
    ask(erp, "andrej", "delete from public.contacts_v2 where id = %s", CILKA)
    assert refusal(erp, "andrej", RESOLVE, question, CILKA).sqlstate == "PT409"
