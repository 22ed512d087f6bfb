"""The sync's calls through PostgREST, with the names and shapes that both sides have."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import HttpUrl, SecretStr

from rapport.errors import LeaseLost, NotFound
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.settings import StoreSettings
from rapport.store.metakocka import MetakockaStore
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
            supabase_service_role_key=SecretStr(gateway.service_role_key),
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


def test_a_run_from_its_beginning_to_its_end(store: MetakockaStore, account: UUID) -> None:
    assert [(one.account_id, one.reasons) for one in store.connections_due(5)] == [
        (account, ["schedule"])
    ]
    run = store.begin_sync(account, "both", "schedule", "first")
    assert run is not None
    assert store.begin_sync(account, "both", "schedule", "second") is None

    first = store.bound_to("first")
    [made] = first.apply_partners(account, run.run_id, [item("1600")], quiet=True)
    assert made.status == "created"
    same, other, new = store.read_partners(
        account,
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
    [updated] = first.apply_partners(account, run.run_id, [changed])
    assert updated.status == "updated"
    [waiting] = first.apply_partners(
        account, run.run_id, [item("1602", candidates=[made.contact_id], partner=NOVAK)]
    )
    assert waiting.status == "waiting"

    counts = Counts(total=2, done=2, succeeded=1, failed=1, errors={"timeout": 1})
    assert store.advance_sync(run.run_id, "first", {"page": 2}, counts) > datetime.now(UTC)
    error = SyncError(operation="pull", code="timeout", message="No answer.", run_id=run.run_id)
    store.log_sync_error(account, error)
    store.finish_sync(run.run_id, "first", "stopped")
    again = store.begin_sync(account, "both", "schedule", "second")
    assert again is not None
    assert (again.run_id, again.cursor, again.errors) == (run.run_id, {"page": 2}, {"timeout": 1})
    with pytest.raises(LeaseLost):
        store.advance_sync(run.run_id, "first", None, counts)
    with pytest.raises(LeaseLost):
        first.apply_partners(account, run.run_id, [item("1603")])
    seen = datetime(2026, 11, 21, 10, tzinfo=UTC)
    store.finish_sync(run.run_id, "second", "done", seen)
    last = store.begin_sync(account, "both", "cli", "third")
    assert last is not None
    assert last.documents_seen_until == seen


def test_a_contact_from_its_change_to_its_partner(
    store: MetakockaStore, account: UUID, database: Database
) -> None:
    assert store.begin_sync(account, "to_metakocka", "wake", "w") is None
    with psycopg.connect(database.url(), autocommit=True) as owner:
        for name in ("Kos", "Zupan"):
            owner.execute(
                "insert into public.contacts (account_id, name) values (%s, %s)", [account, name]
            )
        first = store.claim_dirty_contacts(account, "w", 10)
        assert first.claimed == []
        assert first.next_in is not None
        owner.execute("update private.metakocka_dirty set not_before = now()")
    kos, zupan = store.claim_dirty_contacts(account, "w", 10).claimed
    assert (kos.party["name"], kos.intents, kos.metakocka_id) == ("Kos", [], None)

    sent: Fields = {"name": "Kos"}
    intent = store.begin_intent(account, kos.contact_id, "add_partner", "digest", sent)
    assert intent.is_new
    assert store.settle_intent(account, intent.intent_id, "sent") is True
    assert store.settle_intent(account, intent.intent_id, "sent") is False
    open_one = store.begin_intent(account, kos.contact_id, "add_partner", "another", {})
    assert (open_one.state, open_one.sent, open_one.fingerprint) == ("sent", sent, "digest")
    assert store.settle_intent(account, intent.intent_id, "settled", "1600") is True
    sent = PartnerItem(metakocka_id="1600", partner_hash="h", base=kos.party)
    settled = store.settle_partner(account, None, kos.contact_id, kos.changed_seq, sent)
    assert (settled.status, settled.changed_meanwhile) == ("adopted", False)

    store.postpone_contact(account, zupan.contact_id, "w", timedelta(0))
    [again] = store.claim_dirty_contacts(account, "w", 10).claimed
    assert (again.contact_id, again.attempts) == (zupan.contact_id, 2)
    assert store.block_contact(account, again.contact_id, again.changed_seq, ["street"]) is True
    assert store.claim_dirty_contacts(account, "w", 10).next_in is None


def test_a_question_and_a_lost_call_of_a_contact(
    store: MetakockaStore, account: UUID, database: Database
) -> None:
    with psycopg.connect(database.url(), autocommit=True) as owner:
        owner.execute(
            "insert into public.contacts (account_id, name) values (%s, 'Kos')", [account]
        )
        owner.execute("update private.metakocka_dirty set not_before = now()")
        [kos] = store.claim_dirty_contacts(account, "w", 10).claimed
        offered: list[Fields] = [{"metakocka_id": "1600", "name": "Kos"}]
        asked = (account, kos.contact_id, kos.changed_seq, None, offered)
        assert store.ask_partner(*asked) is True
        [known] = store.read_partners(account, [PartnerRef(metakocka_id="1600")])
        assert (known.is_asked, known.contact_id) == (True, None)
        [other] = store.read_partners(account, [PartnerRef(metakocka_id="1601")])
        assert other.is_asked is False

        store.begin_intent(account, kos.contact_id, "add_partner", "digest", {"name": "Kos"})
        [intent] = store.unsettled_intents(account)
        assert (intent.contact_id, intent.is_orphaned) == (kos.contact_id, False)
        assert store.unsettled_intents(uuid4()) == []
        # there it is: nothing to forget
        assert store.forget_partner(account, kos.contact_id, "1600") is False
        owner.execute("update public.contacts set deleted_at = now(), name = null")
    [intent] = store.unsettled_intents(account)
    assert intent.is_orphaned is True
    assert store.forget_partner(uuid4(), kos.contact_id, "1600") is False
    assert store.forget_partner(account, kos.contact_id, "1600") is True
    [gone] = store.read_partners(account, [PartnerRef(metakocka_id="1600")])
    assert (gone.contact_id, gone.is_deleted) == (kos.contact_id, True)


def test_what_is_not_the_accounts_is_not_found(store: MetakockaStore, account: UUID) -> None:
    with pytest.raises(NotFound):
        store.begin_sync(uuid4(), "both", "cli", "w")
    with pytest.raises(NotFound):
        store.begin_intent(account, uuid4(), "add_partner", "digest", {})
    with pytest.raises(NotFound):
        store.settle_intent(account, uuid4(), "sent")
