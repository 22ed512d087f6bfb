"""Partners become contacts: made, adopted and changed, each once, in any batch."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.sql.faces import ask, identities
from tests.sql.metakocka import (
    NOVAK,
    apply,
    backend,
    contact,
    mapping,
    marked,
    partner,
    read,
    snapshot,
    state_of,
)
from tests.sql.metakocka import erp as erp
from tests.world import ALPINE, BAY, World, seed_uuid

CILKA = str(seed_uuid("contact cilka"))
CARLOS = str(seed_uuid("contact carlos"))


def statuses(results: list[dict[str, Any]]) -> list[str]:
    return [result["status"] for result in results]


def change(world: World, metakocka_id: str, **changes: Any) -> dict[str, Any]:
    """An item that changes the contact of a partner as it stands now."""
    found = mapping(world, metakocka_id)
    assert found is not None
    return {
        "metakocka_id": metakocka_id,
        "partner_hash": "another",
        "base": {**NOVAK, **changes},
        "contact_id": str(found["contact_id"]),
        "expected_version": contact(world, found["contact_id"])["version"],
        "changes": changes,
    }


def test_new_partner_becomes_a_contact_known_by_what_it_brings(erp: World) -> None:
    [result] = apply(erp, partner("1600", gsm="+38640000009", people=[{"name": "Ana"}]))

    assert result["status"] == "created"
    row = contact(erp, result["contact_id"])
    assert {name: row[name] for name in NOVAK} == NOVAK
    assert row["people"] == [{"name": "Ana"}]
    assert row["supplier"] is None
    assert identities(erp, row["id"]) == {
        ("metakocka", "1600"),
        ("email", "info@novak.si"),
        ("phone", "38614000001"),
        ("phone", "38640000009"),
    }
    found = mapping(erp, "1600")
    assert found is not None
    assert (found["contact_id"], found["state"], found["base_version"]) == (row["id"], "synced", 1)
    # what came from there does not go back
    assert marked(erp) == []


def test_staff_see_a_new_partner_in_every_face_and_no_other_account_does(erp: World) -> None:
    apply(erp, partner("1600"))
    for view in ("contacts_v2", "contacts_live_chat", "metakocka_partners", "customers"):
        query = f"select account_id from public.{view} where name = 'Novak d.o.o.'"
        assert ask(erp, "vera", query) == [{"account_id": ALPINE}]
        assert ask(erp, "ana", query) == []


def test_the_same_again_writes_nothing_at_all(erp: World) -> None:
    apply(erp, *(partner(str(n), email=f"{n}@x.si", phone=None) for n in range(5)))
    known = [change(erp, str(n)) | {"partner_hash": f"hash of {n}"} for n in range(5)]
    for n, item in enumerate(known):
        item["base"] = partner(str(n), email=f"{n}@x.si", phone=None)["base"]
    before = snapshot(erp)

    assert statuses(apply(erp, *known)) == ["unchanged"] * 5
    assert snapshot(erp) == before


def test_creation_that_is_repeated_is_stale_and_makes_no_double(erp: World) -> None:
    assert statuses(apply(erp, partner("1600"))) == ["created"]
    assert statuses(apply(erp, partner("1600"))) == ["stale"]
    assert erp.value("select count(*) from public.contacts where name = 'Novak d.o.o.'") == 1


def test_partner_of_one_hash_needs_no_look_and_another_shows_its_contact(erp: World) -> None:
    [made] = apply(erp, partner("1600"))
    same, other = read(
        erp,
        {"metakocka_id": "1600", "partner_hash": "hash of 1600"},
        {"metakocka_id": "1600", "partner_hash": "another"},
    )
    assert same == {"metakocka_id": "1600", "unchanged": True, "is_edited": False}
    assert (other["contact_id"], other["version"], other["state"]) == (
        made["contact_id"],
        1,
        "synced",
    )
    assert other["is_deleted"] is False
    assert other["base"] == NOVAK
    assert {name: other["party"][name] for name in NOVAK} == NOVAK
    assert other["party"]["gsm"] is None


def test_hashes_tell_which_partners_have_changed_and_whose_contacts_wait(erp: World) -> None:
    _, edited = apply(
        erp, *(partner(one, email=f"{one}@x.si", phone=None) for one in ("1600", "1601"))
    )
    ask(
        erp,
        "andrej",
        "update public.contacts_v2 set notes = 'VIP', name = 'Kos' where id = %s",
        edited["contact_id"],
    )
    hashes = {one: f"hash of {one}" for one in ("1600", "1601", "1602")}

    compared = backend(erp, "compare_partners", account_id=ALPINE, hashes=hashes)
    assert compared == {"different": ["1602"], "edited": ["1601"]}
    others = {"1600": "another", "1601": "another"}
    compared = backend(erp, "compare_partners", account_id=ALPINE, hashes=others)
    assert (sorted(compared["different"]), compared["edited"]) == (["1600", "1601"], [])
    # another account knows none of them
    compared = backend(erp, "compare_partners", account_id=BAY, hashes=hashes)
    assert sorted(compared["different"]) == sorted(hashes)
    many = {str(n): "hash" for n in range(5001)}
    with pytest.raises(psycopg.errors.DatabaseError) as refused:
        backend(erp, "compare_partners", account_id=ALPINE, hashes=many)
    assert (refused.value.sqlstate, refused.value.diag.message_detail) == ("PT422", "field: hashes")


@pytest.mark.parametrize(
    ("ref", "kinds"),
    [
        ({"phones": ["+386 40 111 222"]}, ["phone"]),
        ({"emails": ["CILKA@x.si"]}, ["email"]),
        ({"tax_id_number": "si-99 88"}, ["tax"]),
        ({"tax_id_number": "SI9988", "emails": ["cilka@x.si"]}, ["email", "tax"]),
    ],
)
def test_partner_that_is_new_finds_the_contact_that_it_may_be(
    erp: World, ref: dict[str, Any], kinds: list[str]
) -> None:
    ask(
        erp,
        "andrej",
        "update public.metakocka_partners set email = 'Cilka@x.si', tax_id_number = 'SI 9988'"
        " where id = %s",
        CILKA,
    )
    [found] = read(erp, {"metakocka_id": "1600", **ref})
    [candidate] = found["candidates"]
    assert (candidate["contact_id"], candidate["matched_by"]) == (CILKA, kinds)
    assert candidate["party"]["name"] == "cilka"
    # in the other account nobody is known by it
    [elsewhere] = read(erp, {"metakocka_id": "1600", **ref}, account=BAY)
    assert elsewhere["candidates"] == []


def test_adoption_fills_the_contact_and_keeps_its_life(erp: World) -> None:
    [found] = read(erp, {"metakocka_id": "1600", "phones": ["+38640111222"]})
    [candidate] = found["candidates"]
    item = {
        "metakocka_id": "1600",
        "partner_hash": "h",
        "base": {"name": "cilka", "place": "Bled"},
        "contact_id": candidate["contact_id"],
        "expected_version": candidate["version"],
        "changes": {"place": "Bled"},
    }
    assert statuses(apply(erp, item)) == ["adopted"]
    row = contact(erp, CILKA)
    assert (row["name"], row["phone"], row["place"]) == ("cilka", "+38640111222", "Bled")
    assert row["portal_user_id"] == seed_uuid("cilka")
    assert ("metakocka", "1600") in identities(erp, seed_uuid("contact cilka"))
    # it is taken now: no candidate for another partner
    [other] = read(erp, {"metakocka_id": "1601", "phones": ["+38640111222"]})
    assert other["candidates"] == []


def test_change_at_metakocka_changes_the_contact_and_what_it_is_known_by(erp: World) -> None:
    [made] = apply(erp, partner("1600"))
    assert statuses(apply(erp, change(erp, "1600", email="new@novak.si", place="Kranj"))) == [
        "updated"
    ]
    row = contact(erp, made["contact_id"])
    assert (row["email"], row["place"], row["name"]) == ("new@novak.si", "Kranj", "Novak d.o.o.")
    assert identities(erp, row["id"]) == {
        ("metakocka", "1600"),
        ("email", "new@novak.si"),
        ("phone", "38614000001"),
    }
    found = mapping(erp, "1600")
    assert found is not None
    assert (found["base_version"], found["partner_hash"]) == (row["version"], "another")


def test_edit_since_it_was_read_is_never_overwritten(erp: World) -> None:
    [made] = apply(erp, partner("1600"))
    decided = change(erp, "1600", place="Kranj")
    ask(
        erp,
        "andrej",
        "update public.metakocka_partners set place = 'Bled' where id = %s",
        made["contact_id"],
    )
    assert statuses(apply(erp, decided)) == ["stale"]
    assert contact(erp, made["contact_id"])["place"] == "Bled"
    assert [str(one) for one in marked(erp)] == [made["contact_id"]]


def test_mark_of_an_edit_survives_what_comes_from_metakocka(erp: World) -> None:
    [made] = apply(erp, partner("1600"))
    ask(
        erp,
        "andrej",
        "update public.metakocka_partners set place = 'Bled' where id = %s",
        made["contact_id"],
    )
    assert statuses(apply(erp, change(erp, "1600", street="Trg 1"))) == ["updated"]
    assert [str(one) for one in marked(erp)] == [made["contact_id"]]
    assert state_of(erp, "1600") == "waiting"


def test_identity_of_another_contact_is_not_taken_but_suggested(erp: World) -> None:
    [first] = apply(erp, partner("1600"))
    [second] = apply(erp, partner("1601", name="Novak s.p.", phone=None))

    assert second["status"] == "created"
    assert contact(erp, second["contact_id"])["email"] == "info@novak.si"
    assert ("email", "info@novak.si") in identities(erp, first["contact_id"])
    assert identities(erp, second["contact_id"]) == {("metakocka", "1601")}
    [suggestion] = erp.rows("select * from public.contact_suggestions")
    assert suggestion["reason"] == "same_partner"
    assert {str(suggestion["contact_id"]), str(suggestion["other_contact_id"])} == {
        first["contact_id"],
        second["contact_id"],
    }
    assert suggestion["evidence"] == {"email": "info@novak.si", "metakocka_id": "1601"}


def test_two_new_partners_of_one_batch_with_one_email_are_two_contacts(erp: World) -> None:
    results = apply(erp, partner("1601", phone=None), partner("1600", phone=None))
    assert statuses(results) == ["created", "created"]
    assert erp.value("select count(*) from public.contact_suggestions") == 1


def test_contact_that_came_meanwhile_makes_a_creation_stale(erp: World) -> None:
    """The caller has not seen it: read again, it is a candidate."""
    [nika] = ask(
        erp,
        "andrej",
        "insert into public.contacts_v2 (email) values ('INFO@novak.si') returning id",
    )
    other = partner("1601", name="Kos", email="kos@x.si", phone=None)
    assert statuses(apply(erp, partner("1600"), other)) == ["stale", "created"]
    assert mapping(erp, "1600") is None
    [found] = read(erp, {"metakocka_id": "1600", "emails": ["info@novak.si"]})
    assert [one["contact_id"] for one in found["candidates"]] == [str(nika["id"])]


def test_partner_that_several_may_be_waits_for_a_person(erp: World) -> None:
    item = partner("1600") | {"candidates": [CILKA, CARLOS], "partner": NOVAK}
    for _ in range(2):
        [result] = apply(erp, item)
        assert (result["status"], result["contact_id"]) == ("waiting", None)
    [conflict] = erp.rows("select * from public.sync_conflicts")
    # the other account's contact is none of ours
    assert [str(one) for one in conflict["candidates"]] == [CILKA]
    assert (conflict["field"], conflict["state"], conflict["metakocka"]) == (None, "open", NOVAK)
    assert mapping(erp, "1600") is None
    before = snapshot(erp)
    apply(erp, item)
    assert snapshot(erp) == before


def test_no_person_is_asked_about_a_contact_that_is_another_partner_by_now(erp: World) -> None:
    """The next batch is read while one is written: of two partners, both may be this contact."""
    [made] = apply(erp, partner("1600"))
    item = partner("1601") | {"candidates": [CILKA, made["contact_id"]], "partner": NOVAK}
    assert statuses(apply(erp, item)) == ["stale"]
    gone = partner("1602", email="b@x.si", phone=None)
    [made] = apply(erp, gone)
    ask(erp, "andrej", "delete from public.contacts_v2 where id = %s", made["contact_id"])
    item["candidates"] = [CILKA, made["contact_id"]]
    assert statuses(apply(erp, item)) == ["stale"]
    assert erp.rows("select * from public.sync_conflicts") == []


def test_bad_partner_blocks_no_other(erp: World) -> None:
    results = apply(
        erp,
        partner("1600"),
        partner("1601", email="b@x.si", phone="not a number"),
        partner("1602", email="c@x.si", phone=None, people="nobody"),
        {"metakocka_id": "1603", "contact_id": "not an id", "base": {}, "changes": {}},
        partner("1604", email="e@x.si", phone=None),
    )
    assert statuses(results) == ["created", "refused", "refused", "refused", "created"]
    assert results[1]["reason"] == "phone: The database does not take it."
    assert results[2]["reason"] == "people: The database does not take it."
    # nothing is left behind of those
    kinds = {row["value"] for row in erp.rows("select value from public.contact_identities")}
    assert "b@x.si" not in kinds


def test_partner_that_is_there_twice_is_taken_once(erp: World) -> None:
    assert statuses(apply(erp, partner("1600"), partner("1600"))) == ["created", "refused"]


def test_contact_that_two_partners_claim_is_the_first_ones(erp: World) -> None:
    items: list[dict[str, Any]] = [
        {
            "metakocka_id": metakocka_id,
            "base": {},
            "contact_id": CILKA,
            "expected_version": 1,
            "changes": {},
        }
        for metakocka_id in ("1600", "1601")
    ]
    assert statuses(apply(erp, *items)) == ["adopted", "stale"]
    # it is read again: no fault of the second one, which may be a new contact
    assert statuses(apply(erp, items[1])) == ["stale"]


def test_contact_of_another_account_does_not_exist(erp: World) -> None:
    before = contact(erp, CARLOS)
    item = {
        "metakocka_id": "1600",
        "base": {},
        "contact_id": CARLOS,
        "expected_version": 1,
        "changes": {"name": "Taken"},
    }
    [result] = apply(erp, item)
    assert (result["status"], result["reason"]) == (
        "refused",
        "contact_id: There is no such contact.",
    )
    assert contact(erp, CARLOS) == before


def test_one_partner_id_in_two_accounts_is_two_contacts(erp: World) -> None:
    [ours] = apply(erp, partner("1600"))
    [theirs] = apply(erp, partner("1600"), account=BAY)
    assert (ours["status"], theirs["status"]) == ("created", "created")
    assert ours["contact_id"] != theirs["contact_id"]
    assert contact(erp, theirs["contact_id"])["account_id"] == BAY


def test_conflicts_are_recorded_and_close_when_both_sides_agree(erp: World) -> None:
    apply(erp, partner("1600"))
    asked: dict[str, Any] = {"field": "place", "base": "Ljubljana", "crm": "Bled", "erp": "Kranj"}
    ruled: dict[str, Any] = {"field": "street", "base": "a", "crm": "b", "erp": "c"}
    asked |= {"decided_by": "ask", "winner": None}
    ruled |= {"decided_by": "newest", "winner": "crm"}
    item = change(erp, "1600") | {"conflicts": [asked, ruled]}
    apply(erp, item)
    rows = erp.rows("select field, state, choice, decided_by from public.sync_conflicts order by 1")
    assert rows == [
        {"field": "place", "state": "open", "choice": None, "decided_by": None},
        {"field": "street", "state": "resolved", "choice": "crm", "decided_by": "newest"},
    ]
    assert state_of(erp, "1600") == "conflict"

    apply(erp, change(erp, "1600"))
    [row] = erp.rows("select state, choice from public.sync_conflicts where field = 'place'")
    assert row == {"state": "resolved", "choice": "agreed"}
    assert state_of(erp, "1600") == "synced"


def test_contact_with_more_than_its_partner_is_marked_to_be_sent(erp: World) -> None:
    item = {
        "metakocka_id": "1600",
        "base": {},
        "contact_id": CILKA,
        "expected_version": 1,
        "changes": {},
        "push": True,
    }
    assert statuses(apply(erp, item)) == ["adopted"]
    assert [str(one) for one in marked(erp)] == [CILKA]
    assert state_of(erp, "1600") == "waiting"


def test_partner_of_a_deleted_contact_stays_its_partner_until_it_is_given_to_another(
    erp: World,
) -> None:
    [made] = apply(erp, partner("1600"))
    ask(erp, "andrej", "delete from public.contacts_v2 where id = %s", made["contact_id"])
    [found] = read(erp, {"metakocka_id": "1600"})
    assert (found["is_deleted"], found["base"], found["state"]) == (True, None, "blocked")

    [again] = apply(erp, partner("1600"))
    assert again["status"] == "created"
    assert again["contact_id"] != made["contact_id"]
    assert state_of(erp, "1600") == "synced"


def test_full_batch_is_one_resync_and_every_row_is_in_the_log(erp: World) -> None:
    erp.forget_events()
    items = [partner(str(n), email=f"{n}@x.si", phone=f"+3861{n:07}") for n in range(500)]
    assert set(statuses(apply(erp, *items))) == {"created"}
    (event,) = erp.events()
    assert (event["event"], sorted(event["payload"]["tables"])) == (
        "resync",
        ["contacts", "customers"],
    )
    logged = erp.rows(
        "select table_name, count(*) from private.changes group by table_name order by 1"
    )
    assert [(row["table_name"], row["count"]) for row in logged] == [
        ("contacts", 500),
        ("customers", 500),
    ]


def test_too_many_at_once_or_no_list_is_refused(erp: World) -> None:
    for items in ([partner(str(n)) for n in range(501)], {"not": "a list"}):
        with pytest.raises(psycopg.Error, match="items"):
            backend(erp, "apply_partners", account_id=ALPINE, run_id=None, items=items)


def test_account_that_is_not_connected_is_not_synchronized(world: World) -> None:
    with pytest.raises(psycopg.Error, match="no such connection"):
        apply(world, partner("1600"))


def test_customer_with_a_login_hears_at_once_even_of_a_quiet_run(erp: World) -> None:
    run = backend(
        erp, "begin_sync", account_id=ALPINE, direction="from_metakocka", trigger="cli", worker="w"
    )["run_id"]
    item = {
        "metakocka_id": "1600",
        "base": {},
        "contact_id": CILKA,
        "expected_version": 1,
        "changes": {"name": "Cilka K."},
    }
    erp.forget_events()
    apply(erp, item, partner("1601"), run=run, quiet=True)
    heard = [(event["kind"], event["event"]) for event in erp.events()]
    assert ("customer", "customers.updated") in heard
    assert "contacts.inserted" not in [event for _, event in heard]

    erp.forget_events()
    backend(erp, "finish_sync", run_id=run, worker="w", state="done")
    assert sorted(event["event"] for event in erp.events()) == ["resync", "sync_runs.updated"]
    [resync] = [event for event in erp.events() if event["event"] == "resync"]
    assert resync["payload"] == {"tables": ["contacts", "customers"]}
    assert resync["kind"] == "account"
