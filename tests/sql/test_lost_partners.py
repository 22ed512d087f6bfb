"""Nobody knows whether a partner was made, and its contact is merged or deleted meanwhile."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from rapport.errors import RapportError
from rapport.local.fakes.metakocka.behaviour import MetakockaBehaviour, MetakockaRequestFault
from rapport.local.fakes.metakocka.fake import Fake
from tests.sql.faces import ask
from tests.sql.syncing import SECRET, Erp, Fuse, Interruption
from tests.world import World

KOS = {
    "name": "Kos d.o.o.",
    "email": "info@kos.si",
    "street": "Slovenska cesta 1",
    "post_number": "1000",
    "place": "Ljubljana",
    "country": "Slovenija",
}
LIPA = KOS | {"name": "Lipa", "email": "info@lipa.si", "street": "Pot 2"}
LATE = 600.0


@pytest.fixture
def erp(world: World) -> Erp:
    return Erp(world, Fake(SECRET))


def lost(erp: Erp, *, made: bool = True, **fields: str) -> UUID:
    """A contact whose partner was made, or not: no answer has come."""
    contact = erp.add_contact(**(KOS | fields))
    erp.fake.behaviour = MetakockaBehaviour(
        faults=[MetakockaRequestFault(on="add_partner", after_accepting=made, drop=True)]
    )
    erp.sync("to_metakocka", "wake", late=LATE)
    assert erp.contact(contact)["metakocka_id"] is None
    assert len(intents(erp)) == 1
    return contact


def intents(erp: Erp) -> list[dict[str, Any]]:
    """Those that are open."""
    return erp.world.rows(
        "select state, sent from private.partner_intents"
        " where account_id = %s and settled_at is null",
        [erp.account],
    )


def merge(erp: Erp, keep: UUID, drop: UUID) -> UUID:
    [row] = ask(erp.world, "olivia", "select public.merge_contacts(%s, %s) as merged", keep, drop)
    return UUID(row["merged"]["merge_id"])


def delete(erp: Erp, contact: UUID) -> None:
    ask(erp.world, "olivia", "delete from public.metakocka_partners where id = %s", contact)


def question(erp: Erp) -> dict[str, Any]:
    [found] = erp.world.rows(
        "select * from public.sync_conflicts where account_id = %s and state = 'open'",
        [erp.account],
    )
    return found


def decide(erp: Erp, choice: str) -> None:
    statement = "select public.resolve_sync_conflict(%s, %s)"
    ask(erp.world, "olivia", statement, question(erp)["id"], choice)


@pytest.mark.parametrize("late", [0.0, LATE])
def test_a_partner_that_nobody_has_heard_of_is_not_taken_for_somebody_new(
    erp: Erp, late: float
) -> None:
    contact = lost(erp)
    erp.edit_contact(contact, name="Lipa", email="info@lipa.si", street="Pot 2")
    # partners are read before contacts are sent
    erp.sync("from_metakocka", late=late)
    erp.sync("both", late=late)
    [partner] = erp.company.partners.values()
    [row] = erp.contacts()
    assert (row["id"], row["metakocka_id"], row["name"]) == (contact, partner.mk_id, "Lipa")
    assert partner.fields["customer"] == "Lipa"
    assert intents(erp) == []


def test_the_kept_contact_is_the_partner_that_was_made(erp: Erp) -> None:
    dropped = lost(erp)
    kept = erp.add_contact(name="Kos", street="Pot 2", post_number="2000", place="Maribor")
    merge(erp, kept, dropped)
    erp.sync("to_metakocka", "wake")
    [partner] = erp.company.partners.values()
    row = erp.contact(kept)
    assert (row["metakocka_id"], row["sync_state"]) == (partner.mk_id, "synced")
    # what was sent is nobody's any more
    assert intents(erp) == []
    assert erp.world.rows(
        "select sent from private.partner_intents where account_id = %s", [erp.account]
    ) == [{"sent": {}}]
    before = erp.written()
    erp.sync("both")
    assert erp.written() == before


def test_the_kept_contact_gets_no_partner_before_it_is_known(erp: Erp) -> None:
    dropped = lost(erp, made=False)
    kept = erp.add_contact(**LIPA)
    merge(erp, kept, dropped)
    calls = erp.fake.calls["add_partner"]
    erp.sync("to_metakocka", "wake", late=LATE)
    assert erp.fake.calls["add_partner"] == calls
    # by now it would be there
    erp.sync("to_metakocka", "wake")
    [partner] = erp.company.partners.values()
    assert partner.fields["customer"] == "Lipa"
    assert erp.contact(kept)["metakocka_id"] == partner.mk_id
    assert intents(erp) == []


def test_a_contact_that_was_merged_twice_leaves_its_call_to_the_last(erp: Erp) -> None:
    first = lost(erp)
    second, third = erp.add_contact(name="B"), erp.add_contact(name="C")
    merge(erp, second, first)
    merge(erp, third, second)
    erp.sync("to_metakocka", "wake")
    [partner] = erp.company.partners.values()
    assert erp.contact(third)["metakocka_id"] == partner.mk_id


def test_the_contact_has_its_partner_when_the_merge_is_undone(erp: Erp) -> None:
    dropped = lost(erp)
    kept = erp.add_contact(name="Kos")
    merge_id = merge(erp, kept, dropped)
    ask(erp.world, "olivia", "select public.undo_merge(%s)", merge_id)
    erp.sync("to_metakocka", "wake")
    [partner] = erp.company.partners.values()
    assert erp.contact(dropped)["metakocka_id"] == partner.mk_id
    assert erp.contact(kept)["metakocka_id"] is None


@pytest.mark.parametrize("choice", ["present", "other"])
def test_of_two_partners_of_one_contact_a_person_chooses(erp: Erp, choice: str) -> None:
    kept = erp.add_contact(**LIPA)
    erp.sync()
    present = erp.contact(kept)["metakocka_id"]
    merge(erp, kept, lost(erp))
    erp.sync("to_metakocka", "wake")
    [other] = set(erp.company.partners) - {present}
    # it goes on with the one that it has
    assert erp.contact(kept)["metakocka_id"] == present
    found = question(erp)
    assert (found["question"], found["contact_id"], found["metakocka_id"]) == (
        "partner",
        kept,
        present,
    )
    assert [one["metakocka_id"] for one in found["partners"]] == [present, other]
    assert intents(erp) == []
    # and neither is taken for anybody else meanwhile
    erp.edit_contact(kept, place="Kranj")
    erp.sync("both")
    assert [one["id"] for one in erp.contacts()] == [kept]
    assert question(erp)["id"] == found["id"]

    chosen = {"present": present, "other": other}[choice]
    decide(erp, chosen)
    erp.sync("both")
    rows = {one["metakocka_id"]: one for one in erp.contacts()}
    assert rows[chosen]["id"] == kept
    assert rows[chosen]["sync_state"] == "synced"
    assert set(rows) == {present, other}


def test_of_a_contact_that_is_a_partner_no_other_is_made(erp: Erp) -> None:
    kept = erp.add_contact(**LIPA)
    erp.sync()
    merge(erp, kept, lost(erp))
    erp.sync("to_metakocka", "wake")
    statement = "select public.resolve_sync_conflict(%s, %s)"
    for choice in ("new", "unlink"):
        with pytest.raises(Exception, match="can't be that partner"):
            ask(erp.world, "olivia", statement, question(erp)["id"], choice)


def test_a_contact_that_was_deleted_does_not_come_back(erp: Erp) -> None:
    contact = lost(erp)
    delete(erp, contact)
    erp.sync("both")
    assert erp.contacts() == []
    assert intents(erp) == []
    [partner] = erp.company.partners
    assert erp.world.rows(
        "select contact_id, state, base from public.metakocka_contact_mappings"
        " where account_id = %s and metakocka_id = %s",
        [erp.account, partner],
    ) == [{"contact_id": contact, "state": "blocked", "base": None}]
    assert erp.sync("both").counts.unchanged == 1


def test_a_call_for_a_deleted_contact_that_did_nothing_is_forgotten_in_time(erp: Erp) -> None:
    delete(erp, lost(erp, made=False))
    erp.sync("both", late=LATE)
    assert len(intents(erp)) == 1
    erp.sync("both")
    assert intents(erp) == []


def test_a_person_hears_of_partners_that_can_t_be_told_apart(erp: Erp) -> None:
    contact = lost(erp)
    erp.add_partner("Kos d.o.o.", email="info@kos.si")
    delete(erp, contact)
    erp.sync("to_metakocka")
    [error] = erp.world.rows(
        "select contact_id, message from public.sync_errors"
        " where account_id = %s and code = 'metakocka_error'",
        [erp.account],
    )
    assert error["contact_id"] == contact
    assert "deleted" in error["message"]
    assert intents(erp) == []


@pytest.mark.parametrize("what", ["merged", "deleted"])
def test_whenever_it_happens_there_is_one_partner(world: World, what: str) -> None:
    """At each step of the worker that sends the contact, and before the next one looks."""

    def happen(erp: Erp, contact: UUID) -> None:
        if what == "merged":
            merge(erp, erp.add_contact(name="Kos"), contact)
        else:
            delete(erp, contact)
        # the worker goes on with what this has marked, and would wait for it
        erp.end_pauses()

    fuse = Fuse()
    first = Erp(world, Fake(SECRET))
    first.add_contact(**KOS)
    first.sync("to_metakocka", fuse=fuse)
    for step in range(1, fuse.steps + 1):
        erp = Erp(world, Fake(SECRET))
        contact = erp.add_contact(**KOS)
        interruption = Interruption(step, happens=lambda: happen(erp, contact))  # noqa: B023
        with suppress(RapportError):
            erp.sync("to_metakocka", fuse=interruption)
        for _ in range(3):
            erp.sync("both")
        rows, partners = erp.contacts(), list(erp.company.partners)
        assert intents(erp) == [], step
        if what == "merged":
            assert len(partners) == 1, step
            assert [one["metakocka_id"] for one in rows] == partners, step
        else:
            assert rows == [], step
            assert len(partners) <= 1, step
