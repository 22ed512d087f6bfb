"""What changes here is sent there: once, in order, and not less than what was changed last."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sql.asking import start_blocked
from tests.sql.faces import ask, identities
from tests.sql.metakocka import (
    apply,
    backend,
    claim,
    contact,
    end_quiet,
    mapping,
    marked,
    partner,
    settle,
    state_of,
)
from tests.sql.metakocka import erp as erp
from tests.world import ALPINE, BAY, World, seed_uuid, text_message

CILKA = seed_uuid("contact cilka")


@pytest.mark.parametrize(
    "statement",
    [
        "update public.contacts_v2 set email = 'c@x.si' where id = %s",
        "update public.contacts_live_chat set name = 'C' where id = %s",
        "update public.metakocka_partners set place = 'Bled' where id = %s",
        """update public.metakocka_partners set people = '[{"name": "Ana"}]' where id = %s""",
    ],
)
def test_edit_in_any_face_is_to_be_sent(erp: World, statement: str) -> None:
    ask(erp, "andrej", statement, CILKA)
    assert marked(erp) == [CILKA]


def test_what_partners_do_not_have_is_not_sent(erp: World) -> None:
    for column, value in (
        ("notes", "'x'"),
        ("tags", "'{vip}'"),
        ("conversation_status", "'closed'"),
        ("username", "'cilka'"),
        ("name", "'cilka'"),
    ):
        ask(erp, "andrej", f"update public.contacts_v2 set {column} = {value} where id = %s", CILKA)
    erp.ingest(text_message("wamid.1", "38640111222"))
    assert marked(erp) == []


def test_whoever_writes_for_the_first_time_is_to_be_sent(erp: World) -> None:
    erp.ingest(text_message("wamid.1", "38640999888"))
    assert len(marked(erp)) == 1


def test_accounts_that_are_not_connected_have_nothing_to_send(erp: World) -> None:
    erp.owner.execute(
        "update public.metakocka_connections set active = false where account_id = %s", [ALPINE]
    )
    ask(erp, "andrej", "update public.contacts_v2 set name = 'C' where id = %s", CILKA)
    assert marked(erp) == []


def test_several_edits_are_one_job_with_the_last_of_them(erp: World) -> None:
    for name in ("A", "B", "C"):
        ask(erp, "andrej", "update public.contacts_v2 set name = %s where id = %s", name, CILKA)
    [job] = claim(erp)
    assert job["party"]["name"] == "C"
    assert claim(erp) == []


def test_job_waits_for_a_quiet_moment(erp: World) -> None:
    ask(erp, "andrej", "update public.contacts_v2 set name = 'C' where id = %s", CILKA)
    # a moment that does not end while the test looks
    erp.owner.execute("update private.metakocka_dirty set not_before = now() + interval '1 hour'")
    answer = backend(erp, "claim_dirty_contacts", account_id=ALPINE, worker="w")
    assert answer["claimed"] == []
    assert 3500 < answer["next_in"] <= 3600


def test_edits_without_end_are_sent_all_the_same(erp: World) -> None:
    edit = "update public.contacts_v2 set name = %s where id = %s"
    due = "select extract(epoch from not_before - edited_at)::float from private.metakocka_dirty"
    ask(erp, "andrej", edit, "A", CILKA)
    first = erp.value("select edited_at from private.metakocka_dirty")
    ask(erp, "andrej", edit, "B", CILKA)
    assert erp.value("select edited_at from private.metakocka_dirty") == first
    # the first of them was so long ago that the next quiet moment would come too late
    erp.owner.execute(
        "update private.metakocka_dirty"
        " set edited_at = clock_timestamp() - private.longest_wait() + private.quiet_moment() / 2"
    )
    ask(erp, "andrej", edit, "C", CILKA)
    assert erp.value(due) == 10
    erp.owner.execute(
        "update private.metakocka_dirty set edited_at = edited_at - private.quiet_moment()"
    )
    ask(erp, "andrej", edit, "D", CILKA)
    [job] = backend(erp, "claim_dirty_contacts", account_id=ALPINE, worker="w")["claimed"]
    assert job["party"]["name"] == "D"
    # what is edited from now on waits for a quiet moment of its own
    ask(erp, "andrej", edit, "E", CILKA)
    assert erp.value(due) == pytest.approx(1, abs=0.1)


def test_jobs_come_in_the_order_of_the_last_change(erp: World) -> None:
    made = [
        ask(erp, "andrej", "insert into public.contacts_v2 (name) values (%s) returning id", name)[
            0
        ]["id"]
        for name in ("a", "b", "c")
    ]
    ask(erp, "andrej", "update public.contacts_v2 set name = 'aa' where id = %s", made[0])
    assert [job["party"]["name"] for job in claim(erp)] == ["b", "c", "aa"]


def test_two_workers_never_get_the_same_contact(erp: World) -> None:
    for name in ("a", "b", "c"):
        ask(erp, "andrej", "insert into public.contacts_v2 (name) values (%s)", name)
    end_quiet(erp)
    with erp.acting("service_role") as first:
        row = first.execute(
            "select backend.claim_dirty_contacts(%s, 'first', 2)", [ALPINE]
        ).fetchone()
        assert row is not None
        # not yet committed: the second neither waits nor gets them
        second = backend(erp, "claim_dirty_contacts", account_id=ALPINE, worker="second", batch=9)
    names = [job["party"]["name"] for job in row[0]["claimed"]]
    assert (names, [job["party"]["name"] for job in second["claimed"]]) == (["a", "b"], ["c"])


def test_accounts_claim_their_own(erp: World) -> None:
    ask(erp, "andrej", "update public.contacts_v2 set name = 'C' where id = %s", CILKA)
    assert claim(erp, account=BAY) == []
    assert len(claim(erp)) == 1


def test_lease_that_ends_gives_the_contact_to_another(erp: World) -> None:
    ask(erp, "andrej", "update public.contacts_v2 set name = 'C' where id = %s", CILKA)
    assert len(claim(erp, "first")) == 1
    assert claim(erp, "second") == []
    erp.owner.execute("update private.metakocka_dirty set lease_until = now()")
    [job] = claim(erp, "second")
    assert job["attempts"] == 2


def test_contact_that_was_sent_is_the_partner_and_has_no_mark(erp: World) -> None:
    ask(erp, "andrej", "update public.contacts_v2 set name = 'C' where id = %s", CILKA)
    [job] = claim(erp)
    assert (job["metakocka_id"], job["base"], job["intents"]) == (None, None, [])

    result = settle(erp, job, "1600")

    assert (result["status"], result["changed_meanwhile"]) == ("adopted", False)
    assert marked(erp) == []
    found = mapping(erp, "1600")
    assert found is not None
    assert (found["state"], found["contact_id"], found["base"]) == ("synced", CILKA, job["party"])
    assert ("metakocka", "1600") in identities(erp, CILKA)


def test_edit_while_it_was_being_sent_keeps_its_mark(erp: World) -> None:
    ask(erp, "andrej", "update public.contacts_v2 set name = 'C' where id = %s", CILKA)
    [job] = claim(erp)
    ask(erp, "andrej", "update public.contacts_v2 set name = 'D' where id = %s", CILKA)

    assert settle(erp, job, "1600")["changed_meanwhile"] is True

    assert state_of(erp, "1600") == "waiting"
    [again] = claim(erp)
    # both sides agreed on C: D is an edit of this side alone
    assert (again["base"]["name"], again["party"]["name"]) == ("C", "D")
    assert again["metakocka_id"] == "1600"
    settle(erp, again, "1600")
    assert (marked(erp), state_of(erp, "1600")) == ([], "synced")


def test_edit_that_commits_while_the_settling_waits_keeps_its_mark(erp: World) -> None:
    ask(erp, "andrej", "update public.contacts_v2 set name = 'C' where id = %s", CILKA)
    [job] = claim(erp)
    item = {"metakocka_id": "1600", "base": job["party"], "partner_hash": "h"}
    with erp.acting("service_role") as worker:
        worker.execute(
            "select backend.settle_partner(%s, null, %s, %s, %s)",
            [ALPINE, CILKA, job["changed_seq"], json.dumps(item)],
        )
        edit = start_blocked(
            erp, "andrej", "update public.contacts_v2 set name = 'D' where id = %s", CILKA
        )
    assert edit.result(timeout=10) == []
    assert marked(erp) == [CILKA]
    assert state_of(erp, "1600") == "waiting"


def test_what_the_partner_had_newer_is_merged_into_the_contact(erp: World) -> None:
    ask(erp, "andrej", "update public.contacts_v2 set name = 'C' where id = %s", CILKA)
    [job] = claim(erp)
    agreed = job["party"] | {"place": "Kranj"}
    changes = {"changes": {"place": "Kranj"}, "expected_version": job["version"], "base": agreed}
    assert settle(erp, job, "1600", **changes)["status"] == "adopted"
    assert contact(erp, CILKA)["place"] == "Kranj"
    assert (marked(erp), state_of(erp, "1600")) == ([], "synced")


def test_neither_sides_edit_is_lost_where_both_edit_while_it_is_sent(erp: World) -> None:
    apply(erp, partner("1600"))
    found = mapping(erp, "1600")
    assert found is not None
    novak = found["contact_id"]
    ask(erp, "andrej", "update public.metakocka_partners set street = 'A' where id = %s", novak)
    [job] = claim(erp)
    # the partner has a new place, the contact a newer street by now
    ask(erp, "andrej", "update public.metakocka_partners set street = 'B' where id = %s", novak)
    agreed = job["party"] | {"place": "Kranj"}
    changes = {"changes": {"place": "Kranj"}, "expected_version": job["version"], "base": agreed}
    result = settle(erp, job, "1600", **changes)

    assert (result["status"], result["changed_meanwhile"]) == ("stale", True)
    assert contact(erp, novak)["place"] == "Ljubljana"
    [again] = claim(erp)
    # against the base the street is ours alone, and the place theirs alone
    assert (again["base"]["street"], again["party"]["street"]) == ("A", "B")
    assert (again["base"]["place"], again["party"]["place"]) == ("Ljubljana", "Ljubljana")
    assert again["metakocka_id"] == "1600"
    changed = mapping(erp, "1600")
    assert changed is not None
    assert changed["partner_hash"] is None


def test_contact_that_lacks_something_says_what_and_is_looked_at_when_it_changes(
    erp: World,
) -> None:
    ask(erp, "andrej", "update public.contacts_v2 set name = 'C' where id = %s", CILKA)
    [job] = claim(erp)
    blocked: dict[str, Any] = {
        "account_id": ALPINE,
        "contact_id": CILKA,
        "changed_seq": job["changed_seq"],
        "missing": ["street", "place"],
    }
    assert backend(erp, "block_contact", **blocked) is True
    assert marked(erp) == []
    query = "select sync_state, missing from public.metakocka_partners where id = %s"
    assert ask(erp, "vera", query, CILKA) == [
        {"sync_state": "blocked", "missing": ["street", "place"]}
    ]

    ask(erp, "andrej", "update public.metakocka_partners set street = 'A' where id = %s", CILKA)
    assert ask(erp, "vera", query, CILKA) == [{"sync_state": "waiting", "missing": []}]
    # what was missing when it was claimed is not what is missing now
    assert backend(erp, "block_contact", **blocked) is False
    assert ask(erp, "vera", query, CILKA) == [{"sync_state": "waiting", "missing": []}]


def test_failed_call_is_tried_again_later_and_by_its_own_worker_alone(erp: World) -> None:
    ask(erp, "andrej", "update public.contacts_v2 set name = 'C' where id = %s", CILKA)
    claim(erp, "first")
    arguments = {"account_id": ALPINE, "contact_id": CILKA, "retry_in": "1 hour"}
    backend(erp, "postpone_contact", worker="second", **arguments)
    assert erp.value("select worker from private.metakocka_dirty") == "first"
    backend(erp, "postpone_contact", worker="first", **arguments)
    assert erp.value(
        "select worker is null and not_before > now() + interval '50 minutes'"
        " from private.metakocka_dirty"
    )


def test_deleted_contact_is_not_sent_and_leaves_nothing_of_its_contents(erp: World) -> None:
    apply(erp, partner("1600"))
    found = mapping(erp, "1600")
    assert found is not None
    ask(
        erp,
        "andrej",
        "update public.metakocka_partners set place = 'Bled' where id = %s",
        found["contact_id"],
    )
    ask(erp, "andrej", "delete from public.metakocka_partners where id = %s", found["contact_id"])
    assert marked(erp) == []
    row = contact(erp, found["contact_id"])
    assert (row["street"], row["tax_id_number"], row["buyer"], row["people"]) == (
        None,
        None,
        None,
        [],
    )
    left = mapping(erp, "1600")
    assert left is not None
    assert (left["state"], left["base"]) == ("blocked", None)


def test_partner_goes_where_its_identity_goes(erp: World) -> None:
    """As merging does: the kept contact becomes the partner, and undoing gives it back."""
    apply(erp, partner("1600"))
    found = mapping(erp, "1600")
    assert found is not None
    move = (
        "update public.contact_identities set contact_id = %s"
        " where kind = 'metakocka' and value = '1600'"
    )
    for owner in (CILKA, found["contact_id"]):
        erp.owner.execute(move, [owner])
        moved = mapping(erp, "1600")
        assert moved is not None
        assert (moved["contact_id"], moved["state"]) == (owner, "waiting")
        # what was agreed stays agreed: the other contact's fields differ from it
        assert moved["base"] == found["base"]
        assert owner in marked(erp)


def test_doorbell_rings_once_for_a_transaction_of_several_edits(erp: World) -> None:
    erp.owner.execute(
        "select backend.set_doorbell('http://127.0.0.1:9/internal/wake', %s)", ["s" * 32]
    )
    with erp.acting_as("andrej") as connection:
        for name in ("B", "C"):
            connection.execute(
                "update public.contacts_v2 set name = %s where id = %s", [name, CILKA]
            )
    ask(erp, "andrej", "update public.contacts_v2 set notes = 'x' where id = %s", CILKA)
    with erp.connect("supabase_admin") as admin:
        bodies = admin.execute(
            "select convert_from(body, 'UTF8')::json from net.http_request_queue"
        ).fetchall()
    assert bodies == [({"worker": "metakocka_sync"},)]


@pytest.mark.parametrize("ending", ["paused", "ended"])
def test_edit_while_it_was_not_connected_is_sent_when_it_is_again(erp: World, ending: str) -> None:
    apply(erp, partner("1600"), partner("1601", email="b@x.si", phone=None))
    edited, same = (mapping(erp, one)["contact_id"] for one in ("1600", "1601"))
    if ending == "paused":
        change = "update public.metakocka_connections set active = false where account_id = %s"
        back = change.replace("false", "true")
    else:
        change = "delete from public.metakocka_connections where account_id = %s"
        back = "insert into public.metakocka_connections (account_id, company_id) values (%s, '16')"
    ask(erp, "olivia", change, ALPINE)
    ask(erp, "andrej", "update public.metakocka_partners set place = 'Bled' where id = %s", edited)
    assert marked(erp) == []
    ask(erp, "olivia", back, ALPINE)
    assert marked(erp) == [edited]
    assert mapping(erp, "1600")["state"] == "waiting"
    assert mapping(erp, "1601")["state"] == "synced"
    assert same != edited
