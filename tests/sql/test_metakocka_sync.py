"""Contacts and partners agree: told by the people who edit on either side."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from rapport.errors import RapportError
from rapport.local.fakes.metakocka.behaviour import MetakockaBehaviour, MetakockaRequestFault
from rapport.local.fakes.metakocka.fake import Fake
from rapport.metakocka.sync.pull import FETCHED
from rapport.store.metakocka_rows import SyncRequest
from tests.sql.metakocka import backend
from tests.sql.syncing import SECRET, Erp, Fuse, Interruption
from tests.world import World

KOS = {
    "name": "Kos d.o.o.",
    "email": "info@kos.si",
    "phone": "+38614000001",
    "street": "Slovenska cesta 1",
    "post_number": "1000",
    "place": "Ljubljana",
    "country": "Slovenija",
    "tax_id_number": "SI12345678",
}


@pytest.fixture
def erp(world: World) -> Erp:
    return Erp(world, Fake(SECRET))


def test_a_contact_becomes_a_partner_and_a_further_run_changes_nothing(erp: Erp) -> None:
    person = {"name": "Ana Kos", "email": "ana@kos.si"}
    contact = erp.add_contact(**KOS, people=[person])
    report = erp.sync("to_metakocka", "wake")
    assert (report.state, report.counts.succeeded, report.counts.failed) == ("done", 1, 0)

    [partner] = erp.company.partners.values()
    assert partner.fields["customer"] == "Kos d.o.o."
    assert [one.get("email") for one in partner.people.values()] == ["info@kos.si", "ana@kos.si"]
    row = erp.contact(contact)
    assert (row["metakocka_id"], row["sync_state"]) == (partner.mk_id, "synced")
    # it knows the further person by now
    assert row["people"][0]["mk_id"] == list(partner.people)[1]

    before = erp.written()
    again = erp.sync("both")
    assert again.counts.unchanged == 1
    assert erp.written() == before


def test_a_partner_becomes_a_contact(erp: Erp) -> None:
    mk_id = erp.add_partner("Lipa d.o.o.", email="info@lipa.si", gsm="040 111 333")
    report = erp.sync("from_metakocka")
    assert report.counts.succeeded == 1
    [row] = erp.contacts()
    assert (row["metakocka_id"], row["sync_state"]) == (mk_id, "synced")
    assert (row["name"], row["email"], row["gsm"]) == (
        "Lipa d.o.o.",
        "info@lipa.si",
        "+38640111333",
    )

    before = erp.written()
    erp.sync("both")
    assert erp.written() == before


def test_both_sides_edit_different_fields(erp: Erp) -> None:
    contact = erp.add_contact(**KOS)
    erp.sync()
    mk_id = erp.contact(contact)["metakocka_id"]
    erp.edit_contact(contact, street="Nova ulica 2")
    erp.edit_partner(mk_id, email="pisarna@kos.si")
    erp.sync()
    row, partner = erp.contact(contact), erp.company.partners[mk_id]
    assert (row["street"], row["email"]) == ("Nova ulica 2", "pisarna@kos.si")
    assert next(iter(partner.addresses.values()))["street"] == "Nova ulica 2"
    assert next(iter(partner.people.values()))["email"] == "pisarna@kos.si"


def test_what_a_contact_has_and_an_adopted_partner_lacks_is_sent(erp: Erp) -> None:
    mk_id = erp.add_partner("Kos", email="info@kos.si")
    contact = erp.add_contact(**KOS)
    erp.sync("both")
    assert erp.contact(contact)["metakocka_id"] == mk_id
    assert erp.contact(contact)["sync_state"] == "synced"
    assert erp.company.partners[mk_id].fields["tax_id_number"] == "SI12345678"
    # the rule is crm: its name stands
    assert erp.company.partners[mk_id].fields["customer"] == "Kos d.o.o."
    assert len(erp.company.partners) == 1


def test_a_contact_without_an_address_says_what_is_missing(erp: Erp) -> None:
    contact = erp.add_contact(name="Brez naslova", phone="+38640111999")
    report = erp.sync("to_metakocka", "wake")
    assert report.counts.errors == {"unprocessable": 1}
    row = erp.contact(contact)
    assert (row["sync_state"], row["missing"]) == (
        "blocked",
        ["street", "post_number", "place", "country"],
    )
    assert erp.writes() == 0
    erp.edit_contact(contact, street="Pot 1", post_number="1000", place="Koper", country="SI")
    erp.sync("to_metakocka", "wake")
    assert erp.contact(contact)["sync_state"] == "synced"


def test_several_edits_become_one_call(erp: Erp) -> None:
    contact = erp.add_contact(**KOS)
    erp.sync()
    writes = erp.writes()
    for number in range(5):
        erp.edit_contact(contact, street=f"Ulica {number}")
    erp.sync("to_metakocka", "wake")
    assert erp.writes() == writes + 1


def test_a_conflict_waits_for_a_person_and_the_rest_flows(world: World) -> None:
    erp = Erp(world, Fake(SECRET), rule="ask")
    contact = erp.add_contact(**KOS)
    erp.sync()
    mk_id = erp.contact(contact)["metakocka_id"]
    erp.edit_contact(contact, street="Ulica CRM", place="Kranj")
    erp.edit_partner(mk_id, street="Ulica ERP", email="erp@kos.si")
    erp.sync()
    row = erp.contact(contact)
    assert (row["sync_state"], row["street"], row["email"]) == (
        "conflict",
        "Ulica CRM",
        "erp@kos.si",
    )
    address = next(iter(erp.company.partners[mk_id].addresses.values()))
    assert (address["street"], address["city"]) == ("Ulica ERP", "Kranj")

    conflict = world.value(
        "select id from public.sync_conflicts where account_id = %s and state = 'open'",
        [erp.account],
    )
    with world.acting_as("olivia") as connection:
        connection.execute("select public.resolve_sync_conflict(%s, 'metakocka')", [conflict])
    erp.sync("to_metakocka", "wake")
    row = erp.contact(contact)
    assert (row["sync_state"], row["street"]) == ("synced", "Ulica ERP")


def test_by_newest_an_edit_from_before_the_last_look_gives_way(world: World) -> None:
    erp = Erp(world, Fake(SECRET), rule="newest")
    old, new = (
        erp.add_contact(**KOS),
        erp.add_contact(
            **KOS
            | {
                "email": "b@kos.si",
                "phone": "+38614000002",
                "tax_id_number": "SI87654321",
                "name": "B",
            }
        ),
    )
    erp.sync()
    ids = {one["id"]: one["metakocka_id"] for one in erp.contacts()}
    erp.edit_contact(old, street="Ulica CRM")
    erp.fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on="update_partner", opr_code="2")]
    )
    erp.sync("to_metakocka", "wake")
    erp.edit_contact(new, street="Ulica CRM")
    for contact in (old, new):
        erp.edit_partner(ids[contact], street="Ulica ERP")
    erp.sync()
    assert erp.contact(new)["street"] == "Ulica CRM"
    assert erp.contact(old)["street"] == "Ulica ERP"


def test_several_candidates_wait_for_a_person(erp: Erp) -> None:
    erp.add_contact(name="A", email="a@kos.si")
    erp.add_contact(name="B", phone="+38614000001")
    mk_id = erp.add_partner("Kos", email="a@kos.si", phone="01 400 00 01")
    report = erp.sync("from_metakocka", "user", SyncRequest(metakocka_ids=[mk_id]))
    assert report is not None
    assert [(one.id, one.status) for one in report.outcomes] == [(mk_id, "conflict")]
    assert len(erp.contacts()) == 2


def test_a_partner_that_was_merged_away_erases_nothing(erp: Erp) -> None:
    first, second = (
        erp.add_contact(**KOS),
        erp.add_contact(
            **KOS
            | {
                "email": "b@kos.si",
                "phone": "+38614000002",
                "tax_id_number": "SI87654321",
                "name": "B",
            }
        ),
    )
    erp.sync()
    keep, drop = (erp.contact(one)["metakocka_id"] for one in (first, second))
    erp.company.merge(keep, drop)
    erp.edit_contact(second, street="Nova 1")
    erp.sync()
    row = erp.contact(second)
    assert (row["sync_state"], row["street"], row["email"]) == ("conflict", "Nova 1", "b@kos.si")
    assert len(erp.company.partners) == 1


def test_an_answer_that_was_lost_makes_no_double(erp: Erp) -> None:
    contact = erp.add_contact(**KOS)
    erp.fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on="add_partner", after_accepting=True, drop=True)]
    )
    report = erp.sync("to_metakocka", "wake", late=0)
    assert report.counts.errors == {"metakocka_outcome_unknown": 1}
    # it is edited before anybody has looked
    erp.edit_contact(contact, email="novi@kos.si", name="Kos in sin")
    erp.sync("to_metakocka", "wake")
    [partner] = erp.company.partners.values()
    assert partner.fields["customer"] == "Kos in sin"
    assert erp.contact(contact)["metakocka_id"] == partner.mk_id


@pytest.mark.parametrize("rule", ["crm", "metakocka", "newest", "ask"])
@pytest.mark.parametrize("how", [{"drop": True}, {"opr_code": "1"}, {"status": 200}])
def test_a_value_that_arrived_without_an_answer_is_not_taken_for_an_edit_there(
    world: World, rule: str, how: dict[str, Any]
) -> None:
    erp = Erp(world, Fake(SECRET), rule=rule)
    contact = erp.add_contact(**KOS)
    assert erp.sync().state == "done"
    for email in ("a@kos.si", "b@kos.si"):
        erp.edit_contact(contact, email=email)
        lost = MetakockaRequestFault(on="update_partner", after_accepting=True, times=3, **how)
        erp.fake.behaviour = MetakockaBehaviour(faults=[lost])
        with suppress(RapportError):
            erp.sync("to_metakocka", "wake", late=0)
    # the second is on its way, or has arrived, and it is edited once more
    erp.edit_contact(contact, email="c@kos.si", phone="+38640111222")
    erp.fake.behaviour = MetakockaBehaviour()
    for _ in range(3):
        erp.sync(late=0)
    row = erp.contact(contact)
    [partner] = erp.company.partners.values()
    assert (row["sync_state"], row["email"]) == ("synced", "c@kos.si")
    assert any(one["email"] == "c@kos.si" for one in partner.people.values())


def test_an_unknown_outcome_is_not_taken_for_a_failure_too_soon(erp: Erp) -> None:
    erp.add_contact(**KOS)
    erp.fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on="add_partner", drop=True)]
    )
    erp.sync("to_metakocka", "wake", late=600)
    calls = erp.fake.calls["add_partner"]
    erp.sync("to_metakocka", "wake", late=600)
    assert erp.fake.calls["add_partner"] == calls
    erp.sync("to_metakocka", "wake", late=0)
    assert erp.fake.calls["add_partner"] == calls + 1
    assert len(erp.company.partners) == 1


@pytest.mark.parametrize("people", [False, True], ids=["alone", "with people"])
def test_killed_at_every_line_a_contact_becomes_one_partner(world: World, people: bool) -> None:
    further = {"people": [{"name": "Ana Kos", "email": "ana@kos.si"}]} if people else {}
    fuse = Fuse()
    first = Erp(world, Fake(SECRET))
    first.add_contact(**KOS, **further)
    first.sync("to_metakocka", "wake", fuse=fuse)
    assert fuse.steps > 20
    for step in range(fuse.steps):
        erp = Erp(world, Fake(SECRET))
        contact = erp.add_contact(**KOS, **further)
        assert erp.killed_at(step, "to_metakocka")
        erp.sync("to_metakocka")
        [partner] = erp.company.partners.values()
        row = erp.contact(contact)
        assert (row["metakocka_id"], row["sync_state"]) == (partner.mk_id, "synced"), step
        assert len(partner.people) == 1 + people, step
        assert len(row["people"]) == people, step


def test_of_two_workers_at_once_one_works(erp: Erp) -> None:
    erp.add_contact(**KOS)
    erp.end_quiet()
    others: list[object] = []

    def another() -> None:
        with erp.worker() as sync:
            others.append(sync.run(erp.account, "both", "schedule"))

    for step in (5, 15):
        erp.sync(fuse=Interruption(step, happens=another))
    assert others == [None, None]
    assert len(erp.company.partners) == 1


def test_a_worker_that_was_given_up_at_any_line_makes_no_double(world: World) -> None:
    fuse = Fuse()
    first = Erp(world, Fake(SECRET))
    first.add_contact(**KOS)
    first.sync("to_metakocka", fuse=fuse)
    for step in range(2, fuse.steps):
        erp = Erp(world, Fake(SECRET))
        contact = erp.add_contact(**KOS)

        def another(erp: Erp = erp) -> None:
            # its lease is over, and it goes on all the same
            erp.end_quiet()
            with erp.worker(late=600) as sync:
                sync.run(erp.account, "to_metakocka", "schedule")

        with suppress(RapportError):
            erp.sync("to_metakocka", fuse=Interruption(step, happens=another), late=600)
        erp.sync("to_metakocka")
        erp.sync("to_metakocka")
        [partner] = erp.company.partners.values()
        row = erp.contact(contact)
        assert (row["metakocka_id"], row["sync_state"]) == (partner.mk_id, "synced"), step


def test_two_accounts_with_the_same_people_never_see_each_other(world: World) -> None:
    fake = Fake(SECRET)
    alpine, bay = Erp(world, fake), Erp(world, fake)
    ours, theirs = alpine.add_contact(**KOS), bay.add_contact(**KOS | {"street": "Bay 1"})
    alpine.add_partner("Lipa", email="info@lipa.si")
    bay.add_partner("Lipa", email="info@lipa.si", street="Bay 2")
    alpine.sync()
    bay.sync()
    assert {one["name"] for one in alpine.contacts()} == {"Kos d.o.o.", "Lipa"}
    assert {one["street"] for one in bay.contacts()} == {"Bay 1", "Bay 2"}
    assert [len(one.company.partners) for one in (alpine, bay)] == [2, 2]
    bay.edit_contact(theirs, email="drugi@kos.si")
    bay.sync()
    alpine.sync()
    assert alpine.contact(ours)["email"] == "info@kos.si"
    assert not any("drugi@kos.si" in str(one.people) for one in alpine.company.partners.values())


def test_the_documents_of_a_company_name_the_partners_to_look_at(world: World) -> None:
    erp = Erp(world, Fake(SECRET), listing="documents")
    named, _other = erp.add_partner("Lipa"), erp.add_partner("Brez dokumentov")
    erp.company.issue("sales_order", named)
    report = erp.sync()
    assert report.state == "done"
    assert [one["metakocka_id"] for one in erp.contacts()] == [named]
    seen = "select documents_seen_until from public.metakocka_connections where account_id = %s"
    assert world.value(seen, [erp.account]) is not None


@dataclass
class Once(Fuse):
    """Lets something happen once, after so many further calls of a kind."""

    erp: Erp = field(kw_only=True)
    times: int = field(kw_only=True)
    happens: Callable[[], object] = field(kw_only=True)
    call: str = "get_partner"

    def __post_init__(self) -> None:
        self.times += self.erp.fake.calls[self.call]

    def step(self) -> None:
        if self.erp.fake.calls[self.call] == self.times:
            self.times = 0
            self.happens()


def test_a_contact_that_is_sent_after_its_partner_was_read_keeps_its_edit(world: World) -> None:
    """The next batch is read while one is written; contacts are sent between the two."""
    erp = Erp(world, Fake(SECRET), listing="documents")
    *_, last = partners = [erp.add_partner(f"Partner {n}") for n in range(FETCHED + 1)]
    for partner in partners:
        erp.company.issue("sales_order", partner)
    erp.sync()
    [row] = [one for one in erp.contacts() if one["metakocka_id"] == last]
    erp.edit_partner(last, name="Novo ime")

    def edit() -> None:
        erp.edit_contact(row["id"], street="Nova ulica 2")
        erp.end_pauses()

    report = erp.sync(fuse=Once(erp=erp, times=FETCHED + 1, happens=edit))
    assert (report.state, report.counts.failed) == ("done", 0)
    contact = erp.contact(row["id"])
    assert (contact["name"], contact["street"]) == ("Novo ime", "Nova ulica 2")
    known = erp.company.partners[last]
    assert known.fields["customer"] == "Novo ime"
    assert [one["street"] for one in known.addresses.values()] == ["Nova ulica 2"]


def test_a_partner_that_is_gone_is_counted_once_where_a_run_stops_and_goes_on(world: World) -> None:
    """It is read while the batch before it is written, and again by the next worker."""
    erp = Erp(world, Fake(SECRET), listing="documents")
    *_, gone = partners = [erp.add_partner(f"Partner {n}") for n in range(FETCHED + 1)]
    for partner in partners:
        erp.company.issue("sales_order", partner)
    known = erp.company.partners[gone]
    states = []
    for seconds in (0, 600):
        # its documents are there longer than the partner
        erp.company.partners[gone] = known
        fuse = Once(erp=erp, times=1, call="search", happens=lambda: erp.company.partners.pop(gone))
        erp.end_quiet()
        with erp.worker(fuse, remaining=lambda: seconds) as sync:  # noqa: B023 - within its turn
            report = sync.run(erp.account, "from_metakocka", "schedule")
        assert report is not None
        states.append((report.state, report.counts.succeeded, report.counts.failed))
    assert states == [("stopped", FETCHED, 0), ("done", FETCHED, 1)]
    logged = "select count(*) from public.sync_errors where account_id = %s"
    assert world.value(logged, [erp.account]) == 1


def test_a_run_stops_before_its_time_is_over_and_the_next_goes_on(erp: Erp, world: World) -> None:
    for number in range(1100):
        erp.add_partner(f"Partner {number}", email=f"p{number}@kos.si")
    left = iter([600.0])
    with erp.worker(remaining=lambda: next(left, 0.0)) as sync:
        report = sync.run(erp.account, "from_metakocka", "schedule")
    assert report is not None
    assert report.state == "stopped"
    assert report.counts.done == 500
    with erp.worker() as sync:
        report = sync.run(erp.account, "both", "schedule")
    assert report is not None
    assert report.state == "done"
    assert (report.counts.total, report.counts.succeeded, report.counts.unchanged) == (
        1100,
        1100,
        0,
    )
    assert len(erp.contacts()) == 1100
    runs = "select count(*) from public.sync_runs where account_id = %s"
    assert world.value(runs, [erp.account]) == 1


def test_an_error_is_there_for_admins_to_read(erp: Erp, world: World) -> None:
    contact = erp.add_contact(**KOS)
    erp.fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on="add_partner", opr_code="6", opr_desc="no")]
    )
    report = erp.sync("to_metakocka", "wake")
    assert report.counts.errors == {"metakocka_refused": 1}
    with world.acting_as("olivia") as connection:
        row = connection.execute(
            "select category, operation, contact_id, details, code, message from"
            " public.sync_errors where account_id = %s",
            [erp.account],
        ).fetchone()
    assert row is not None
    assert row[:3] == ("SYNC", "syncContactToMetakocka", contact)
    assert row[3]["opr_code"] == "6"
    assert SECRET not in str(row)


def test_people_of_a_merged_contact_go_to_the_kept_ones_partner(erp: Erp, world: World) -> None:
    """They have ids of a partner that it is not, and are no less its people."""
    kept = erp.add_contact(**KOS)
    dropped = erp.add_contact(
        **{**KOS, "email": "lipa@kos.si", "phone": "+38614000002", "tax_id_number": "SI87654321"},
        people=[{"name": "Bine", "email": "bine@kos.si"}],
    )
    erp.sync()
    partner = erp.company.partners[erp.contact(kept)["metakocka_id"]]
    assert len(partner.people) == 1
    with world.acting_as("olivia") as connection:
        connection.execute("select public.merge_contacts(%s, %s)", [kept, dropped])
    erp.sync()
    assert {one.get("name") for one in partner.people.values()} == {None, "Bine"}
    [person] = erp.contact(kept)["people"]
    assert person["mk_id"] in partner.people
    before = erp.written()
    erp.sync()
    assert erp.written() == before


def test_the_partner_of_an_erased_contact_comes_back_on_request_alone(erp: Erp) -> None:
    mk_id = erp.add_partner("Lipa d.o.o.", email="info@lipa.si", gsm="040 111 333")
    erp.sync("from_metakocka")
    [row] = erp.contacts()
    action = backend(erp.world, "erase_contact", contact_id=row["id"])
    while action["state"] == "running":
        action = backend(erp.world, "erase_some", action_id=UUID(action["id"]))
    assert action["remaining"] == []
    assert mk_id in erp.company.partners

    erp.edit_partner(mk_id, email="pisarna@lipa.si")
    erp.sync("both")
    assert erp.contacts() == []
    # not with somebody who writes from the number either
    fresh = erp.add_contact(name="Nova", phone="+38640111333")
    erp.sync("both")
    assert erp.contact(fresh)["metakocka_id"] is None

    report = erp.sync("from_metakocka", "user", SyncRequest(metakocka_ids=[mk_id]))
    assert report.counts.succeeded == 1
    assert mk_id in {one["metakocka_id"] for one in erp.contacts()}
