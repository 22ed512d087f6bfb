"""What can't be read or sent keeps nobody else from being synchronized."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import psycopg
import pytest

from rapport.local.fakes.metakocka.behaviour import MetakockaBehaviour, MetakockaRequestFault
from rapport.local.fakes.metakocka.fake import Fake
from rapport.metakocka.sync import progress
from rapport.metakocka.sync.run import serve
from rapport.store.metakocka_rows import SyncRequest
from tests.sql.syncing import SECRET, Erp, Interruption
from tests.world import World

HOME = {"street": "Pot 1", "post_number": "1000", "place": "Ljubljana", "country": "Slovenija"}
_CRASH = {"opr_code": "1", "opr_desc": "NullPointerException"}


class Stumbling(Fake):
    """A stand-in that always answers the same to what it stumbles over."""

    def __init__(self, *words: str, answer: Mapping[str, object] = _CRASH) -> None:
        super().__init__(SECRET)
        self.words = words
        self.answer = answer

    def reply(self, operation: str, content: bytes) -> Any:
        reply = super().reply(operation, content)
        if any(word in content.decode() for word in self.words):
            return type(reply)(
                **{**vars(reply), "content": json.dumps(self.answer).encode(), "status": 200}
            )
        return reply


def test_a_contact_that_metakocka_stumbles_over_keeps_no_other_back(world: World) -> None:
    erp = Erp(world, Stumbling("strup@kos.si"))
    poison = erp.add_contact(name="Strup", email="strup@kos.si", **HOME)
    other = erp.add_contact(name="Kos", email="kos@kos.si", **HOME)
    report = erp.sync("to_metakocka", "wake")
    assert erp.contact(other)["sync_state"] == "synced"
    assert erp.contact(poison)["metakocka_id"] is None
    assert (report.state, report.counts.errors) == ("done", {"metakocka_unavailable": 1})


def test_a_look_up_that_is_not_complete_is_its_contacts_trouble_alone(world: World) -> None:
    answer = {"partner_list_count": "2000", "partner_list": []}
    erp = Erp(world, Stumbling("strup@kos.si", answer=answer))
    erp.add_contact(name="Strup", email="strup@kos.si", **HOME)
    other = erp.add_contact(name="Kos", email="kos@kos.si", **HOME)
    report = erp.sync("to_metakocka", "wake")
    assert erp.contact(other)["sync_state"] == "synced"
    assert (report.state, report.counts.failed) == ("done", 1)


def test_a_contact_that_metakocka_stumbles_over_ends_no_import(world: World) -> None:
    erp = Erp(world, Stumbling("strup@kos.si"))
    erp.add_contact(name="Strup", email="strup@kos.si", **HOME)
    for number in range(3):
        erp.add_partner(f"Partner {number}", email=f"p{number}@kos.si")
    report = erp.sync("both")
    assert report.state == "done"
    assert len(erp.contacts()) == 4


def test_where_nothing_is_answered_a_run_fails_and_soon(world: World) -> None:
    erp = Erp(world, Fake(SECRET))
    for number in range(20):
        erp.add_contact(name=f"Kos {number}", email=f"k{number}@kos.si", **HOME)
    erp.fake.behaviour = MetakockaBehaviour(updating=True)
    report = erp.sync("to_metakocka", "wake")
    assert report.state == "failed"
    assert report.counts.failed <= 3


@pytest.mark.parametrize(
    ("answer", "is_seen"),
    [({"opr_code": "2", "opr_desc": "Partner does not exist."}, True), (_CRASH, False)],
    ids=["refused", "crashed"],
)
def test_a_partner_that_can_t_be_read_keeps_no_other_back(
    world: World, answer: dict[str, str], is_seen: bool
) -> None:
    """Nor is it forgotten: what may be readable later is looked for in the documents again."""
    fake = Stumbling(answer=answer)
    erp = Erp(world, fake, listing="documents")
    gone, other = erp.add_partner("Gone"), erp.add_partner("Lipa")
    fake.words = (f'"partner_id":"{gone}"',)
    for one in (gone, other):
        erp.company.issue("sales_order", one)
    report = erp.sync()
    assert [one["metakocka_id"] for one in erp.contacts()] == [other]
    assert (report.state, report.counts.failed, report.counts.succeeded) == ("done", 1, 1)
    seen = "select documents_seen_until from public.metakocka_connections where account_id = %s"
    assert (world.value(seen, [erp.account]) is not None) == is_seen


def test_of_several_partners_those_that_can_be_read_are(world: World) -> None:
    fake = Stumbling(answer={"opr_code": "2", "opr_desc": "Partner does not exist."})
    erp = Erp(world, fake)
    gone, other = erp.add_partner("Gone"), erp.add_partner("Lipa")
    fake.words = (f'"partner_id":"{gone}"',)
    report = erp.sync("from_metakocka", "user", SyncRequest(metakocka_ids=[gone, other]))
    assert {one.id: one.status for one in report.outcomes} == {gone: "failed", other: "created"}


def test_a_lost_call_of_a_deleted_contact_stops_no_run(world: World) -> None:
    fake = Stumbling()
    erp = Erp(world, fake)
    lost = erp.add_contact(name="Strup", email="strup@kos.si", **HOME)
    fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on="add_partner", after_accepting=True, drop=True)]
    )
    erp.sync("to_metakocka", "wake", late=600)
    with world.acting_as("olivia") as connection:
        connection.execute("delete from public.metakocka_partners where id = %s", [lost])
    fake.words = ('"partner_email":"strup@kos.si"',)
    erp.add_partner("Lipa")
    report = erp.sync("both")
    assert report.state == "done"
    # the one that may be the deleted contact's waits
    assert [one["name"] for one in erp.contacts()] == ["Lipa"]


def test_a_contact_that_a_person_makes_a_partner_meanwhile_leaves_the_account_free(
    world: World,
) -> None:
    """The worker goes on, in place of holding its account until the lease is over."""
    for step in range(60):
        erp = Erp(world, Fake(SECRET))
        contact = erp.add_contact(name="Kos", email="kos@kos.si", **HOME)

        def become(erp: Erp = erp, contact: UUID = contact) -> None:
            erp.world.owner.execute(
                "insert into public.metakocka_contact_mappings as m"
                " (account_id, contact_id, metakocka_id, state) values (%s, %s, %s, 'waiting')"
                " on conflict (contact_id) do update set metakocka_id = excluded.metakocka_id"
                " where m.metakocka_id is null",
                [erp.account, contact, "77"],
            )

        fuse = Interruption(step + 1, happens=become)
        report = erp.sync("to_metakocka", "wake", fuse=fuse)
        assert report.state == "done", step
        leases = "select count(*) from private.sync_leases where account_id = %s"
        assert world.value(leases, [erp.account]) == 0
        if fuse.steps < step:
            return


def test_numbers_without_end_are_refused(world: World) -> None:
    erp = Erp(world, Fake(SECRET))
    for people in ('[{"phone": 1e5000}]', '[{"name": {"of": [1e5000]}}]'):
        with (
            pytest.raises(psycopg.Error) as refused,
            world.acting_as("olivia") as connection,
        ):
            connection.execute(
                "insert into public.metakocka_partners (account_id, name, people)"
                " values (%s, 'Kos', %s)",
                [erp.account, people],
            )
        assert refused.value.sqlstate == "PT422"


def test_an_account_whose_sync_crashes_leaves_the_others_theirs(world: World) -> None:
    """The one that has waited longest comes first, every time."""
    fake = Fake(SECRET)
    crashing, other = Erp(world, fake), Erp(world, fake)
    # older than what is refused today
    broken = crashing.add_contact(name="Kos", email="kos@kos.si", **HOME)
    world.owner.execute(
        "update public.contacts set people = '[{\"phone\": 1e5000}]' where id = %s", [broken]
    )
    contact = other.add_contact(name="Kos", email="kos@kos.si", **HOME)
    for erp in (crashing, other):
        world.owner.execute(
            "update public.metakocka_connections set sync_interval = '7 days'"
            " where account_id = %s",
            [erp.account],
        )
        erp.end_pauses()
    with other.worker() as sync:
        serve(sync)
    assert other.contact(contact)["sync_state"] == "synced"


def test_more_documents_than_a_run_has_time_for_are_looked_through_all_the_same(
    world: World,
) -> None:
    erp = Erp(world, Fake(SECRET), listing="documents")
    named = [erp.add_partner(f"Partner {number}") for number in range(6)]
    for number in range(650):
        erp.company.issue("sales_order", named[number % 3])
    for one in named[3:]:
        erp.company.issue("sales_bill_foreign", one)
    states = []
    while len(states) < 40 and "done" not in states:
        erp.end_quiet()
        calls = erp.fake.calls["search"]
        with erp.worker(
            remaining=lambda calls=calls: 600.0 if erp.fake.calls["search"] - calls < 2 else 0.0
        ) as sync:
            report = sync.run(erp.account, "both", "schedule")
        assert report is not None
        assert erp.fake.calls["search"] - calls <= 2
        states.append(report.state)
    assert (states[-1], len(states) > 3) == ("done", True)
    assert sorted(one["metakocka_id"] for one in erp.contacts()) == sorted(named)
    seen = "select documents_seen_until from public.metakocka_connections where account_id = %s"
    assert world.value(seen, [erp.account]) is not None


def test_a_kind_of_documents_that_a_company_has_not_keeps_the_others_from_nothing(
    world: World,
) -> None:
    refusal = {"opr_code": "2", "opr_desc": "Unknown document type"}
    fake = Stumbling('"doc_type":"sales_offer"', answer=refusal)
    erp = Erp(world, fake, listing="documents")
    named = erp.add_partner("Lipa")
    erp.company.issue("sales_bill_foreign", named)
    assert erp.sync().state == "done"
    assert [one["metakocka_id"] for one in erp.contacts()] == [named]
    # a wrong key, say, is another matter
    fake.words = ('"doc_type"',)
    assert erp.sync().state == "failed"


def test_where_a_wait_is_asked_for_nobody_else_is_tried(world: World) -> None:
    erp = Erp(world, Fake(SECRET))
    for number in range(3):
        erp.add_contact(name=f"Kos {number}", email=f"k{number}@kos.si", **HOME)
    erp.fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on="get_partner", times=100, status=429, retry_after=600)]
    )
    report = erp.sync("to_metakocka", "wake")
    assert (report.state, report.counts.failed) == ("stopped", 1)
    assert report.paused_until is not None
    left = "select extract(epoch from paused_until - now()) from public.metakocka_connections"
    assert 500 < world.value(f"{left} where account_id = %s", [erp.account]) <= 600


@pytest.mark.parametrize("ending", ["update", "delete"])
def test_a_run_ends_when_its_account_is_connected_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Each step tells how far it is; otherwise it does so every few seconds."""
    monkeypatch.setattr(progress, "TELL", 0)
    monkeypatch.setattr(progress, "KEEP", 0)
    erp = Erp(world, Fake(SECRET))
    for number in range(6):
        erp.add_contact(name=f"Kos {number}", email=f"k{number}@kos.si", **HOME)
    end = {
        "update": "update public.metakocka_connections set active = false where account_id = %s",
        "delete": "delete from public.metakocka_connections where account_id = %s",
    }[ending]

    def disconnect() -> None:
        with world.acting_as("olivia") as connection:
            connection.execute(end.encode(), [erp.account])

    report = erp.sync("to_metakocka", "wake", fuse=Interruption(12, happens=disconnect))
    assert report.state == "taken over"
    assert len(erp.company.partners) <= 1
    states = "select state from public.sync_runs where account_id = %s"
    assert world.value(states, [erp.account]) == "stopped"
