"""The sync's calls through PostgREST, with the names and shapes that both sides have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import HttpUrl, SecretStr

from rapport.errors import LeaseLost, NotFound
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.settings import StoreSettings
from rapport.store.metakocka import MetakockaStore, RunStore
from rapport.store.metakocka_rows import (
    Counts,
    FieldConflict,
    Fields,
    PartnerItem,
    PartnerRef,
    SyncError,
)

NOVAK = {"name": "Novak", "email": "info@novak.si", "people": [], "addresses": []}


@pytest.fixture
def store(gateway: Stack) -> Iterator[MetakockaStore]:
    store = MetakockaStore(
        StoreSettings(
            supabase_url=HttpUrl(gateway.url),
            supabase_secret_key=SecretStr(gateway.secret_key),
        )
    )
    yield store
    store.close()


@pytest.fixture
def account(database: Database) -> UUID:
    account = uuid4()
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute(
            "insert into public.accounts (id, external_id, name) values (%s, 'a', 'Alpine')",
            [account],
        )
        owner.execute(
            "insert into public.metakocka_connections (account_id, company_id) values (%s, '16')",
            [account],
        )
    return account


def item(metakocka_id: str, **more: object) -> PartnerItem:
    given = {"metakocka_id": metakocka_id, "partner_hash": "h", "base": NOVAK, "changes": NOVAK}
    return PartnerItem.model_validate(given | more)


def sending(store: MetakockaStore, account: UUID) -> RunStore:
    run = store.begin_sync(account, "to_metakocka", "cli", "w")
    assert run is not None
    return store.of_run(account, run.run_id, "w")


def test_a_run_from_its_beginning_to_its_end(
    store: MetakockaStore, account: UUID, database: Database
) -> None:
    assert [(one.account_id, one.reasons) for one in store.connections_due(5)] == [
        (account, ["schedule"])
    ]
    run = store.begin_sync(account, "both", "schedule", "first")
    assert run is not None
    assert store.begin_sync(account, "both", "schedule", "second") is None

    first = store.of_run(account, run.run_id, "first")
    [made] = first.apply_partners([item("1600")], quiet=True)
    assert made.status == "created"
    same, other, new = first.read_partners(
        [
            PartnerRef(metakocka_id="1600", partner_hash="h"),
            PartnerRef(metakocka_id="1600", partner_hash="another"),
            PartnerRef(metakocka_id="1601", emails=["info@novak.si"], phones=[]),
        ],
    )
    assert same.unchanged
    assert (other.contact_id, other.state, other.base) == (made.contact_id, "synced", NOVAK)
    # it is a partner already
    assert new.candidates == []
    conflict = FieldConflict(field="name", base="a", crm="b", erp="c", decided_by="ask")
    changed = item(
        "1600",
        contact_id=other.contact_id,
        expected_version=other.version,
        changes={"place": "Bled"},
        conflicts=[conflict],
    )
    [updated] = first.apply_partners([changed])
    assert updated.status == "updated"
    with psycopg.connect(database.url(), autocommit=True) as owner:
        row = owner.execute(
            "insert into public.contacts (account_id, name) values (%s, 'Novak') returning id",
            [account],
        ).fetchone()
    assert row is not None
    offered = [
        item(metakocka_id, candidates=[candidate], partner=NOVAK)
        for metakocka_id, candidate in (("1602", row[0]), ("1603", made.contact_id))
    ]
    # the other contact is a partner already
    statuses = [one.status for one in first.apply_partners(offered)]
    assert statuses == ["waiting", "stale"]

    counts = Counts(total=2, done=2, succeeded=1, failed=1, errors={"timeout": 1})
    assert first.advance({"page": 2}, counts) > datetime.now(UTC)
    first.keep()
    first.log_error(SyncError(operation="pull", code="timeout", message="No answer.", attempts=3))
    with psycopg.connect(database.url()) as owner:
        logged = owner.execute("select run_id, operation, code, attempts from public.sync_errors")
        assert logged.fetchall() == [(run.run_id, "pull", "timeout", 3)]
    first.finish("stopped")
    again = store.begin_sync(account, "both", "schedule", "second")
    assert again is not None
    assert (again.run_id, again.cursor, again.errors) == (run.run_id, {"page": 2}, {"timeout": 1})
    with pytest.raises(LeaseLost):
        first.advance(None, counts)
    with pytest.raises(LeaseLost):
        first.apply_partners([item("1603")])
    seen = datetime(2026, 11, 21, 10, tzinfo=UTC)
    store.of_run(account, run.run_id, "second").finish("done", seen)
    last = store.begin_sync(account, "both", "cli", "third")
    assert last is not None
    assert last.documents_seen_until == seen
    third = store.of_run(account, last.run_id, "third")
    paused_until = third.pause("stopped", "Metakocka takes no calls.", 60)
    at_work = store.sync_at_work(account)
    assert at_work is not None
    assert (at_work.paused_until, at_work.pause_reason) == (
        paused_until,
        "Metakocka takes no calls.",
    )
    assert store.next_lease_end() is None


def test_a_contact_from_its_change_to_its_partner(
    store: MetakockaStore, account: UUID, database: Database
) -> None:
    assert store.begin_sync(account, "to_metakocka", "wake", "w") is None
    run = sending(store, account)
    with psycopg.connect(database.url(), autocommit=True) as owner:
        for name in ("Kos", "Zupan"):
            owner.execute(
                "insert into public.contacts (account_id, name) values (%s, %s)", [account, name]
            )
        first = run.claim_contacts(10)
        assert first.claimed == []
        assert first.next_in is not None
        owner.execute("update private.metakocka_dirty set not_before = now()")
    assert [one.party["name"] for one in store.contacts_to_send(account, 0, 1)] == ["Kos"]
    kos, zupan = run.claim_contacts(10).claimed
    assert (kos.party["name"], kos.intents, kos.metakocka_id) == ("Kos", [], None)

    sent: Fields = {"name": "Kos"}
    intent = run.begin_intent(kos.contact_id, "add_partner", "digest", sent)
    assert intent.is_new
    assert run.settle_intent(intent.intent_id, "sent") is True
    assert run.settle_intent(intent.intent_id, "sent") is False
    open_one = run.begin_intent(kos.contact_id, "add_partner", "another", {})
    assert (open_one.state, open_one.sent, open_one.fingerprint) == ("sent", sent, "digest")
    assert run.settle_intent(intent.intent_id, "settled", "1600") is True
    sent = PartnerItem(metakocka_id="1600", partner_hash="h", base=kos.party)
    settled = run.settle_partner(kos.contact_id, kos.changed_seq, sent)
    assert (settled.status, settled.changed_meanwhile) == ("adopted", False)

    run.postpone_contact(zupan.contact_id, timedelta(0))
    [again] = run.claim_contacts(10).claimed
    assert (again.contact_id, again.attempts) == (zupan.contact_id, 2)
    assert run.block_contact(again.contact_id, again.changed_seq, ["street"]) is True
    assert run.claim_contacts(10).next_in is None


def test_a_question_and_a_lost_call_of_a_contact(
    store: MetakockaStore, account: UUID, database: Database
) -> None:
    run = sending(store, account)
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute(
            "insert into public.contacts (account_id, name) values (%s, 'Kos')", [account]
        )
        owner.execute("update private.metakocka_dirty set not_before = now()")
        [kos] = run.claim_contacts(10).claimed
        offered: list[Fields] = [{"metakocka_id": "1600", "name": "Kos"}]
        assert run.ask_partner(kos.contact_id, kos.changed_seq, None, offered) is True
        [known] = store.read_partners(account, [PartnerRef(metakocka_id="1600")])
        assert (known.needs_person, known.contact_id) == (True, None)
        [other] = store.read_partners(account, [PartnerRef(metakocka_id="1601")])
        assert other.needs_person is False

        run.begin_intent(kos.contact_id, "add_partner", "digest", {"name": "Kos"})
        [intent] = run.unsettled_intents()
        assert (intent.contact_id, intent.is_orphaned) == (kos.contact_id, False)
        assert replace(run, account_id=uuid4()).unsettled_intents() == []
        # there it is: nothing to forget
        assert run.forget_partner(kos.contact_id, "1600") is False
        owner.execute("update public.contacts set deleted_at = now(), name = null")
    [intent] = run.unsettled_intents()
    assert intent.is_orphaned is True
    with pytest.raises(LeaseLost):
        replace(run, account_id=uuid4()).forget_partner(kos.contact_id, "1600")
    assert run.forget_partner(kos.contact_id, "1600") is True
    [gone] = store.read_partners(account, [PartnerRef(metakocka_id="1600")])
    assert (gone.contact_id, gone.is_deleted) == (kos.contact_id, True)


def test_a_call_ends_with_the_partner_that_it_made_or_with_a_question(
    store: MetakockaStore, account: UUID, database: Database
) -> None:
    run = sending(store, account)
    with psycopg.connect(database.url(), autocommit=True) as owner:
        for name in ("Kos", "Zupan"):
            owner.execute(
                "insert into public.contacts (account_id, name) values (%s, %s)", [account, name]
            )
        owner.execute("update private.metakocka_dirty set not_before = now()")
        kos, zupan = run.claim_contacts(10).claimed
        for one in (kos, zupan):
            run.begin_intent(one.contact_id, "add_partner", "digest", {"name": "Kos"})
        intents = {one.contact_id: one.intent_id for one in run.unsettled_intents()}

        assert run.adopt_partner(kos.contact_id, "1600", kos.party, intents[kos.contact_id])
        assert [one.contact_id for one in run.unsettled_intents()] == [zupan.contact_id]
        assert run.is_anothers("1600", kos.contact_id) is False
        assert run.is_anothers("1600", zupan.contact_id) is True
        # another contact has it: the call stays open
        lost = intents[zupan.contact_id]
        assert run.adopt_partner(zupan.contact_id, "1600", zupan.party, lost) is False
        assert [one.intent_id for one in run.unsettled_intents()] == [lost]
        offered: list[Fields] = [{"metakocka_id": "1601", "name": "Zupan"}]
        assert run.ask_partner(zupan.contact_id, zupan.changed_seq, None, offered, lost)
        assert run.unsettled_intents() == []


def test_what_is_not_the_accounts_is_not_found(store: MetakockaStore, account: UUID) -> None:
    with pytest.raises(NotFound):
        store.begin_sync(uuid4(), "both", "cli", "w")
    run = sending(store, account)
    with pytest.raises(NotFound):
        run.begin_intent(uuid4(), "add_partner", "digest", {})
    with pytest.raises(NotFound):
        run.settle_intent(uuid4(), "sent")
