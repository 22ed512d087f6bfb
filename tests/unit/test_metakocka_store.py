"""The sync's calls of the database: what is sent, and what is made of the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from pydantic import HttpUrl, SecretStr

from rapport.errors import Conflict, NotFound, StoreError
from rapport.settings import StoreSettings
from rapport.store.metakocka import MetakockaStore
from rapport.store.metakocka_rows import (
    Counts,
    FieldConflict,
    PartnerItem,
    PartnerRef,
    SyncError,
)

SETTINGS = StoreSettings(
    supabase_url=HttpUrl("https://project.example"),
    supabase_service_role_key=SecretStr("service-key"),
)
ACCOUNT, CONTACT, RUN, INTENT = (UUID(int=n) for n in range(1, 5))
AT = "2026-11-21T10:00:00+00:00"
RUN_ROW: dict[str, Any] = {
    "run_id": str(RUN),
    "direction": "both",
    "trigger": "schedule",
    "request": {},
    "cursor": {"page": 4},
    "total": None,
    "done": 4,
    "succeeded": 3,
    "failed": 1,
    "unchanged": 0,
    "errors": {"timeout": 1},
    "user_id": None,
    "company_id": "16",
    "base_url": None,
    "conflict_rule": "ask",
    "listing": "all",
    "documents_seen_until": AT,
    "retries": {"read": {"attempts": 4, "first_wait": 0.5, "longest_wait": 8, "jitter": 1}},
    "now": AT,
    "lease": 30,
}
RESULT = {"metakocka_id": "1600", "status": "created", "contact_id": str(CONTACT), "reason": None}
ITEM = PartnerItem(metakocka_id="1600", partner_hash="h", base={"name": "Novak"})


class Backend:
    """Answers every call alike, and remembers what was asked."""

    def __init__(self, answer: object, status: int = 200) -> None:
        self.answer, self.status = answer, status
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.removeprefix("/rest/v1/rpc/")
        self.calls.append((name, json.loads(request.content)))
        # as PostgREST has it: a null is the text, no empty body
        return httpx.Response(self.status, content=json.dumps(self.answer))


Stores = Callable[[Backend], MetakockaStore]


@pytest.fixture
def stores() -> Iterator[Stores]:
    opened: list[MetakockaStore] = []

    def opens(backend: Backend) -> MetakockaStore:
        opened.append(MetakockaStore(SETTINGS, httpx.MockTransport(backend)))
        return opened[-1]

    yield opens
    for store in opened:
        store.close()


def test_a_run_comes_with_its_connection_and_counts(stores: Stores) -> None:
    backend = Backend(RUN_ROW)
    run = stores(backend).begin_sync(ACCOUNT, "both", "schedule", "w")
    assert run is not None
    assert (run.run_id, run.cursor, run.done, run.errors) == (RUN, {"page": 4}, 4, {"timeout": 1})
    assert run.documents_seen_until == datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert run.request.contact_ids is None
    assert backend.calls == [
        (
            "begin_sync",
            {
                "account_id": str(ACCOUNT),
                "direction": "both",
                "trigger": "schedule",
                "worker": "w",
                "user_id": None,
                "request": None,
                "time_left": None,
            },
        )
    ]


def test_an_account_at_which_another_works_is_none(stores: Stores) -> None:
    assert stores(Backend(None)).begin_sync(ACCOUNT, "both", "wake", "w") is None


def test_counts_are_sent_as_totals_and_nothing_of_the_run_besides(stores: Stores) -> None:
    run = stores(Backend(RUN_ROW)).begin_sync(ACCOUNT, "both", "schedule", "w")
    assert run is not None
    backend = Backend(AT)
    stores(backend).advance_sync(RUN, "w", {"page": 5}, run)
    [(_, sent)] = backend.calls
    assert sent == {
        "run_id": str(RUN),
        "worker": "w",
        "cursor": {"page": 5},
        "total": None,
        "done": 4,
        "succeeded": 3,
        "failed": 1,
        "unchanged": 0,
        "waiting": 0,
        "errors": {"timeout": 1},
    }


def test_a_run_that_another_took_over_is_a_conflict(stores: Stores) -> None:
    backend = Backend({"code": "PT409", "message": "m", "details": "d", "hint": None}, 409)
    with pytest.raises(Conflict):
        stores(backend).advance_sync(RUN, "w", None, Counts())
    assert len(backend.calls) == 1


def test_partners_are_written_as_they_were_merged(stores: Stores) -> None:
    backend = Backend([RESULT])
    item = PartnerItem(
        metakocka_id="1600",
        partner_hash="h",
        base={"name": "Novak"},
        contact_id=CONTACT,
        expected_version=3,
        changes={"name": "Novak"},
        conflicts=[FieldConflict(field="place", base="a", crm="b", erp="c", decided_by="ask")],
    )
    [result] = stores(backend).apply_partners(ACCOUNT, RUN, [item], quiet=True)
    assert (result.status, result.contact_id) == ("created", CONTACT)
    [(name, sent)] = backend.calls
    assert (name, sent["run_id"], sent["quiet"]) == ("apply_partners", str(RUN), True)
    assert sent["items"] == [
        {
            "metakocka_id": "1600",
            "partner_hash": "h",
            "base": {"name": "Novak"},
            "contact_id": str(CONTACT),
            "expected_version": 3,
            "changes": {"name": "Novak"},
            "conflicts": [
                {
                    "field": "place",
                    "base": "a",
                    "crm": "b",
                    "erp": "c",
                    "decided_by": "ask",
                    "winner": None,
                }
            ],
            "candidates": [],
            "push": False,
            "partner": None,
            "seen_at": None,
        }
    ]


@pytest.mark.parametrize("answer", [[], [RESULT, RESULT], [RESULT | {"metakocka_id": "1601"}]])
def test_results_of_other_partners_are_refused(stores: Stores, answer: object) -> None:
    with pytest.raises(StoreError, match="other partners"):
        stores(Backend(answer)).apply_partners(ACCOUNT, None, [ITEM])


def test_partners_that_are_known_and_those_that_are_not(stores: Stores) -> None:
    candidate = {
        "contact_id": str(CONTACT),
        "version": 2,
        "updated_at": AT,
        "matched_by": ["email"],
        "party": {"name": "Novak"},
    }
    backend = Backend(
        [
            {"metakocka_id": "1", "unchanged": True},
            {"metakocka_id": "2", "unchanged": False, "candidates": [candidate]},
        ]
    )
    refs = [PartnerRef(metakocka_id="1", partner_hash="h"), PartnerRef(metakocka_id="2")]
    known, new = stores(backend).read_partners(ACCOUNT, refs)
    assert (known.unchanged, known.contact_id) == (True, None)
    assert [one.matched_by for one in new.candidates] == [["email"]]
    with pytest.raises(StoreError, match="other partners"):
        stores(backend).read_partners(ACCOUNT, refs[:1])


def test_contacts_are_claimed_with_what_may_have_happened_to_them(stores: Stores) -> None:
    contact = {
        "contact_id": str(CONTACT),
        "changed_seq": 7,
        "attempts": 2,
        "version": 3,
        "updated_at": AT,
        "party": {"name": "Novak"},
        "metakocka_id": None,
        "base": None,
        "base_version": None,
        "state": None,
        "seen_at": None,
        "edits": {"name": AT},
        "not_partners": ["1601"],
        "emails": ["info@novak.si"],
        "phones": [],
        "unproved": ["name"],
        "offered_partners": [],
        "intents": [
            {
                "intent_id": str(INTENT),
                "contact_id": str(CONTACT),
                "operation": "add_partner",
                "fingerprint": "f",
                "sent": {"name": "Kos"},
                "state": "sent",
                "age": 1.5,
            }
        ],
    }
    backend = Backend({"claimed": [contact], "next_in": 0.5})
    claim = stores(backend).claim_dirty_contacts(ACCOUNT, "w", 10)
    [one] = claim.claimed
    assert (one.changed_seq, [call.state for call in one.intents]) == (7, ["sent"])
    assert (one.not_partners, claim.next_in) == (["1601"], 0.5)
    assert (one.emails, one.phones, one.unproved) == (["info@novak.si"], [], ["name"])


def test_what_was_sent_is_settled(stores: Stores) -> None:
    backend = Backend(RESULT | {"status": "adopted", "changed_meanwhile": True})
    settled = stores(backend).settle_partner(ACCOUNT, None, CONTACT, 7, ITEM)
    assert (settled.status, settled.changed_meanwhile) == ("adopted", True)
    [(_, sent)] = backend.calls
    assert (sent["changed_seq"], sent["item"]["metakocka_id"]) == (7, "1600")


def test_what_can_not_be_sent_says_why_and_may_come_later(stores: Stores) -> None:
    backend = Backend(True)
    store = stores(backend)
    assert store.block_contact(ACCOUNT, CONTACT, 7, ["street"]) is True
    backend.answer = None
    store.postpone_contact(ACCOUNT, CONTACT, "w", timedelta(minutes=2))
    assert backend.calls[0][1]["missing"] == ["street"]
    assert backend.calls[1][1]["retry_in"] == "120.0 seconds"


def test_a_call_may_go_on_only_if_the_database_says_so(stores: Stores) -> None:
    begun = {
        "intent_id": str(INTENT),
        "contact_id": str(CONTACT),
        "operation": "add_partner",
        "fingerprint": "f",
        "sent": {"name": "Kos"},
        "state": "intended",
        "metakocka_id": None,
        "age": 0.1,
        "is_new": True,
    }
    intent = stores(Backend(begun)).begin_intent(ACCOUNT, CONTACT, "add_partner", "f", {})
    assert (intent.intent_id, intent.is_new) == (INTENT, True)
    assert stores(Backend(False)).settle_intent(ACCOUNT, INTENT, "sent") is False
    missing = Backend({"code": "PT404", "message": "m", "details": "d", "hint": None}, 404)
    with pytest.raises(NotFound):
        stores(missing).settle_intent(ACCOUNT, INTENT, "sent")


def test_an_error_is_logged_with_its_context(stores: Stores) -> None:
    backend = Backend(str(RUN))
    error = SyncError(operation="push", code="timeout", message="No answer.", attempts=3)
    assert stores(backend).log_sync_error(ACCOUNT, error) == RUN
    [(_, sent)] = backend.calls
    assert sent == {
        "account_id": str(ACCOUNT),
        "operation": "push",
        "code": "timeout",
        "message": "No answer.",
        "run_id": None,
        "user_id": None,
        "contact_id": None,
        "metakocka_id": None,
        "details": {},
        "attempts": 3,
    }


def test_what_is_due_and_how_a_run_ends(stores: Stores) -> None:
    backend = Backend([{"account_id": str(ACCOUNT), "reasons": ["run", "contacts"]}])
    store = stores(backend)
    assert [one.reasons for one in store.connections_due(5)] == [["run", "contacts"]]
    backend.answer = "done"
    store.finish_sync(RUN, "w", "done", datetime(2026, 11, 21, 10, tzinfo=UTC))
    assert backend.calls[1][1]["documents_seen_until"] == AT


def test_answers_of_another_shape_are_refused_without_quoting_them(stores: Stores) -> None:
    calls: list[Callable[[MetakockaStore], object]] = [
        lambda store: store.connections_due(5),
        lambda store: store.claim_dirty_contacts(ACCOUNT, "w", 1),
        lambda store: store.begin_sync(ACCOUNT, "both", "cli", "w"),
    ]
    for call in calls:
        with pytest.raises(StoreError) as caught:
            call(stores(Backend({"name": "Ana Novak"})))
        assert "Ana" not in str(caught.value)
