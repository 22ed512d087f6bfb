"""Which partner a contact is, where the sync can't tell: a person is asked, and decides."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

from rapport.local.fakes.metakocka.fake import Fake
from rapport.store.metakocka_rows import SyncRequest
from tests.sql.asking import Refusal, at_once, refusal
from tests.sql.faces import ask
from tests.sql.syncing import SECRET, Erp
from tests.world import World, seed_uuid

RESOLVE = "select public.resolve_sync_conflict(%s, %s) as resolved"
KOS = {
    "name": "Kos d.o.o.",
    "email": "info@kos.si",
    "street": "Slovenska cesta 1",
    "post_number": "1000",
    "place": "Ljubljana",
    "country": "Slovenija",
}


@pytest.fixture
def erp(world: World) -> Erp:
    return Erp(world, Fake(SECRET))


def question(erp: Erp) -> dict[str, Any]:
    """The one that is open."""
    [found] = erp.world.rows(
        "select * from public.sync_conflicts where account_id = %s and state = 'open'",
        [erp.account],
    )
    return found


def questions(erp: Erp) -> list[dict[str, Any]]:
    """Those about partners, and how they ended."""
    return erp.world.rows(
        "select choice, decided_by, state from public.sync_conflicts"
        " where account_id = %s and question = 'partner' order by created_at",
        [erp.account],
    )


def decide(erp: Erp, choice: str, user: str = "olivia") -> dict[str, Any]:
    [row] = ask(erp.world, user, RESOLVE, question(erp)["id"], choice)
    answer: dict[str, Any] = row["resolved"]
    return answer


def asked_about_two(erp: Erp) -> tuple[UUID, str, str]:
    """A contact and the two partners that it may be."""
    contact = erp.add_contact(**KOS)
    first = erp.add_partner("Kos", email="info@kos.si")
    second = erp.add_partner("Kos stari", email="info@kos.si")
    report = erp.sync("to_metakocka", "wake")
    assert (report.counts.waiting, report.counts.failed, report.counts.errors) == (1, 0, {})
    return contact, first, second


def asked_about_one_that_is_gone(erp: Erp) -> tuple[UUID, str]:
    contact = erp.add_contact(**KOS)
    erp.sync()
    mk_id = erp.contact(contact)["metakocka_id"]
    del erp.company.partners[mk_id]
    erp.edit_contact(contact, street="Nova 1")
    erp.sync("to_metakocka", "wake")
    return contact, mk_id


def test_a_person_sees_the_partners_that_a_contact_may_be(erp: Erp) -> None:
    contact, first, second = asked_about_two(erp)
    assert erp.contact(contact)["sync_state"] == "conflict"
    [row] = ask(
        erp.world,
        "olivia",
        "select question, contact_id, metakocka_id, field, partners from public.sync_conflicts"
        " where account_id = %s",
        erp.account,
    )
    assert (row["question"], row["contact_id"], row["metakocka_id"], row["field"]) == (
        "partner",
        contact,
        None,
        None,
    )
    assert [(one["metakocka_id"], one["name"]) for one in row["partners"]] == [
        (first, "Kos"),
        (second, "Kos stari"),
    ]
    assert erp.writes() == 0


def test_nothing_is_taken_while_a_person_is_asked(erp: Erp) -> None:
    contact, *_ = asked_about_two(erp)
    before = erp.written()
    report = erp.sync("both")
    assert report.counts.waiting == 2
    assert [one["id"] for one in erp.contacts()] == [contact]
    # nor by a partner that nobody was asked about
    erp.add_partner("Kos tretji", email="info@kos.si")
    assert erp.sync("both").counts.waiting == 3
    assert erp.written() == before


def test_the_chosen_partner_is_the_contact_and_the_other_one_of_its_own(erp: Erp) -> None:
    contact, first, second = asked_about_two(erp)
    answer = decide(erp, second)
    assert (answer["metakocka_id"], answer["sync_state"]) == (second, "waiting")
    erp.sync("both")
    rows = {one["metakocka_id"]: one for one in erp.contacts()}
    assert (rows[second]["id"], rows[second]["sync_state"]) == (contact, "synced")
    assert erp.company.partners[second].fields["customer"] == "Kos d.o.o."
    assert rows[first]["id"] != contact
    assert rows[first]["name"] == "Kos"
    assert questions(erp) == [{"choice": second, "decided_by": "person", "state": "resolved"}]
    before = erp.written()
    erp.sync("both")
    assert erp.written() == before
    # it is known by its partner, as any other: merged, it takes it along
    assert erp.world.rows(
        "select contact_id from public.contact_identities"
        " where kind = 'metakocka' and value = %s and account_id = %s",
        [second, erp.account],
    ) == [{"contact_id": contact}]


def test_a_contact_that_is_none_of_them_becomes_another_partner(erp: Erp) -> None:
    contact, first, second = asked_about_two(erp)
    decide(erp, "new")
    erp.sync("to_metakocka", "wake")
    row = erp.contact(contact)
    assert row["sync_state"] == "synced"
    assert row["metakocka_id"] not in (None, first, second)
    erp.sync("both")
    assert len(erp.company.partners) == len(erp.contacts()) == 3
    assert erp.contact(contact)["metakocka_id"] == row["metakocka_id"]


def test_a_partner_that_was_ruled_out_is_not_taken_before_another_is_made(erp: Erp) -> None:
    contact, first, second = asked_about_two(erp)
    decide(erp, "new")
    # partners come first
    erp.sync("from_metakocka")
    row = erp.contact(contact)
    assert row["metakocka_id"] not in (first, second)
    assert {one["metakocka_id"] for one in erp.contacts()} >= {first, second}


def test_an_edit_that_tells_them_apart_answers_the_question(erp: Erp) -> None:
    contact, first, _second = asked_about_two(erp)
    erp.edit_partner(first, email="prvi@kos.si")
    erp.edit_contact(contact, email="prvi@kos.si")
    erp.sync("to_metakocka", "wake")
    assert erp.contact(contact)["metakocka_id"] == first
    assert questions(erp) == [{"choice": first, "decided_by": "both", "state": "resolved"}]


def test_a_person_is_asked_about_a_partner_that_is_gone(erp: Erp) -> None:
    contact, mk_id = asked_about_one_that_is_gone(erp)
    row = erp.contact(contact)
    # nothing is erased by it
    assert (row["sync_state"], row["metakocka_id"], row["street"]) == ("conflict", mk_id, "Nova 1")
    found = question(erp)
    assert (found["question"], found["contact_id"], found["metakocka_id"], found["partners"]) == (
        "partner",
        contact,
        mk_id,
        [],
    )
    # asked once, however often it is met
    erp.edit_contact(contact, street="Nova 2")
    erp.sync("both")
    assert question(erp)["id"] == found["id"]


def test_a_partner_that_is_gone_is_made_anew(erp: Erp) -> None:
    contact, mk_id = asked_about_one_that_is_gone(erp)
    decide(erp, "new")
    erp.sync("to_metakocka", "wake")
    [partner] = erp.company.partners.values()
    row = erp.contact(contact)
    assert (row["metakocka_id"], row["sync_state"]) == (partner.mk_id, "synced")
    assert partner.mk_id != mk_id
    assert next(iter(partner.addresses.values()))["street"] == "Nova 1"
    before = erp.written()
    erp.sync("both")
    assert erp.written() == before


def test_a_contact_without_a_partner_stays_so_until_somebody_sends_it(erp: Erp) -> None:
    contact, _ = asked_about_one_that_is_gone(erp)
    answer = decide(erp, "unlink")
    assert (answer["metakocka_id"], answer["sync_state"]) == (None, "unlinked")
    erp.edit_contact(contact, street="Nova 2")
    erp.sync("both")
    ask(erp.world, "olivia", "select public.request_sync('to_metakocka', %s)", erp.account)
    erp.sync("both")
    assert len(erp.company.partners) == 0
    assert erp.contact(contact)["sync_state"] == "unlinked"

    ask(
        erp.world,
        "olivia",
        "select public.request_sync('to_metakocka', %s, %s)",
        erp.account,
        [contact],
    )
    erp.sync("to_metakocka", "wake")
    assert erp.contact(contact)["sync_state"] == "synced"
    assert len(erp.company.partners) == 1


def test_what_somebody_sends_at_once_is_a_partner_again(erp: Erp) -> None:
    contact, _ = asked_about_one_that_is_gone(erp)
    decide(erp, "unlink")
    report = erp.sync("to_metakocka", "user", SyncRequest(contact_ids=[contact]))
    assert [one.status for one in report.outcomes] == ["created"]


def test_a_partner_that_is_there_again_answers_the_question(erp: Erp) -> None:
    contact = erp.add_contact(**KOS)
    erp.sync()
    mk_id = erp.contact(contact)["metakocka_id"]
    there = erp.company.partners.pop(mk_id)
    erp.edit_contact(contact, street="Nova 1")
    erp.sync("to_metakocka", "wake")
    assert question(erp)["metakocka_id"] == mk_id
    erp.company.partners[mk_id] = there
    erp.edit_contact(contact, street="Nova 2")
    erp.sync("to_metakocka", "wake")
    assert erp.contact(contact)["sync_state"] == "synced"
    assert [one["decided_by"] for one in questions(erp)] == ["both"]


def test_the_partner_that_took_the_place_of_one_that_is_gone_can_be_chosen(erp: Erp) -> None:
    contact = erp.add_contact(**KOS)
    erp.sync()
    old = erp.contact(contact)["metakocka_id"]
    new = erp.add_partner("Kos nov", email="info@kos.si")
    erp.company.merge(new, old)
    erp.edit_contact(contact, street="Nova 1")
    erp.sync("to_metakocka", "wake")
    assert [one["metakocka_id"] for one in question(erp)["partners"]] == [new]
    decide(erp, new)
    erp.sync("both")
    row = erp.contact(contact)
    assert (row["metakocka_id"], row["sync_state"]) == (new, "synced")
    assert len(erp.contacts()) == 1


def test_a_partner_that_another_contact_has_become_can_t_be_chosen(erp: Erp) -> None:
    _contact, first, _second = asked_about_two(erp)
    other = erp.add_contact(**KOS | {"email": "drugi@kos.si", "name": "Drugi"})
    erp.world.owner.execute(
        "insert into public.contact_identities (account_id, kind, value, contact_id)"
        " values (%s, 'metakocka', %s, %s)",
        [erp.account, first, other],
    )
    refused = refusal(erp.world, "olivia", RESOLVE, question(erp)["id"], first)
    assert (refused.code, refused.detail) == ("PT409", "field: choice")
    assert "Merge" in (refused.hint or "")


def test_what_is_not_offered_can_t_be_chosen(erp: Erp) -> None:
    asked_about_two(erp)
    for choice in ("crm", "404", str(seed_uuid("contact cilka")), ""):
        refused = refusal(erp.world, "olivia", RESOLVE, question(erp)["id"], choice)
        assert (refused.code, refused.detail) == ("PT422", "field: choice"), choice
    missing = refusal(erp.world, "olivia", RESOLVE, question(erp)["id"], None)
    assert missing.code == "PT422"


def test_two_people_at_once_decide_once(erp: Erp) -> None:
    _contact, first, second = asked_about_two(erp)
    id_ = question(erp)["id"]
    answers = at_once(
        lambda: ask(erp.world, "olivia", RESOLVE, id_, first),
        lambda: ask(erp.world, "olivia", RESOLVE, id_, second),
        lambda: ask(erp.world, "olivia", RESOLVE, id_, "new"),
    )
    assert [one.code for one in answers if isinstance(one, Refusal)] == ["PT409", "PT409"]


def test_nobody_else_sees_or_decides_it(erp: Erp) -> None:
    _contact, first, _second = asked_about_two(erp)
    erp.world.owner.execute(
        "insert into public.account_members (account_id, user_id, role, display_name)"
        " values (%s, %s, 'viewer', 'vera')",
        [erp.account, seed_uuid("vera")],
    )
    id_ = question(erp)["id"]
    for user, code in (("vera", "42501"), ("ana", "PT404"), ("andrej", "PT404")):
        assert refusal(erp.world, user, RESOLVE, id_, first).code == code
    query = "select id from public.sync_conflicts where account_id = %s"
    assert ask(erp.world, "vera", query, erp.account) == [{"id": id_}]
    for user in ("ana", "stranger", "cilka"):
        assert ask(erp.world, user, query, erp.account) == []


def test_two_accounts_are_asked_about_their_own(world: World) -> None:
    fake = Fake(SECRET)
    ours, theirs = Erp(world, fake), Erp(world, fake)
    asked_about_two(ours)
    contact, first, second = asked_about_two(theirs)
    assert [one["metakocka_id"] for one in question(theirs)["partners"]] == [first, second]
    decide(theirs, first)
    assert question(ours)["state"] == "open"
    ours.sync("both")
    theirs.sync("both")
    assert theirs.contact(contact)["metakocka_id"] == first


def test_a_question_about_a_contact_that_is_deleted_is_none(erp: Erp) -> None:
    contact, *_ = asked_about_two(erp)
    ask(erp.world, "olivia", "delete from public.metakocka_partners where id = %s", contact)
    assert questions(erp) == []


def test_a_contact_that_has_changed_is_not_asked_about(erp: Erp) -> None:
    """What is new may tell them apart: it is sent first."""
    contact = erp.add_contact(**KOS)
    with erp.world.acting("service_role") as connection:
        row = connection.execute(
            "select backend.ask_partner(%s, %s, 0, null, '[]')", [erp.account, contact]
        ).fetchone()
    assert row == (False,)
    assert questions(erp) == []


def test_a_question_about_another_accounts_contact_is_refused(erp: Erp) -> None:
    contact = seed_uuid("contact cilka")
    with erp.world.acting("service_role") as connection, pytest.raises(psycopg.Error) as refused:
        connection.execute(
            "select backend.ask_partner(%s, %s, 0, null, '[]')", [erp.account, contact]
        )
    assert refused.value.sqlstate == "PT404"
