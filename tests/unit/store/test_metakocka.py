"""Answers that the database never gives: the sync's store refuses them and quotes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from uuid import UUID

import httpx
import pytest
from pydantic import HttpUrl, SecretStr
from tests.answering import Answering

from rapport.errors import StoreError
from rapport.settings import StoreSettings
from rapport.store.metakocka import MetakockaStore, RunStore
from rapport.store.metakocka_rows import PartnerItem, PartnerRef

SETTINGS = StoreSettings(
    supabase_url=HttpUrl("https://project.example"),
    supabase_secret_key=SecretStr("service-key"),
)
ACCOUNT, CONTACT, RUN = (UUID(int=n) for n in range(1, 4))
RESULT = {"metakocka_id": "1600", "status": "created", "contact_id": str(CONTACT), "reason": None}
KNOWN = {"metakocka_id": "1600", "unchanged": True}

Stores = Callable[[object], MetakockaStore]


@pytest.fixture
def stores() -> Iterator[Stores]:
    """Makes stores whose database gives one answer to every call."""
    opened: list[MetakockaStore] = []

    def opens(answer: object) -> MetakockaStore:
        # as PostgREST has it: a null is the text, no empty body
        content = json.dumps(answer).encode()
        answering = Answering(lambda _: httpx.Response(200, content=content))
        opened.append(MetakockaStore(SETTINGS, answering))
        return opened[-1]

    yield opens
    for store in opened:
        store.close()


def run_of(store: MetakockaStore) -> RunStore:
    return store.of_run(ACCOUNT, RUN, "w")


@pytest.mark.parametrize("answer", [[], [RESULT, RESULT], [RESULT | {"metakocka_id": "1601"}]])
def test_results_of_other_partners_are_refused(stores: Stores, answer: object) -> None:
    run = run_of(stores(answer))
    item = PartnerItem(metakocka_id="1600", partner_hash="h", base={"name": "Novak"})
    with pytest.raises(StoreError, match="other partners"):
        run.apply_partners([item])


@pytest.mark.parametrize("answer", [[], [KNOWN, KNOWN], [KNOWN | {"metakocka_id": "1601"}]])
def test_what_is_known_of_other_partners_is_refused(stores: Stores, answer: object) -> None:
    with pytest.raises(StoreError, match="other partners"):
        run_of(stores(answer)).read_partners([PartnerRef(metakocka_id="1600")])


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.connections_due(5),
        lambda store: store.begin_sync(ACCOUNT, "both", "cli", "w"),
        lambda store: run_of(store).claim_contacts(1),
        lambda store: run_of(store).unsettled_intents(),
    ],
)
def test_answers_of_another_shape_are_refused_without_quoting_them(
    stores: Stores, call: Callable[[MetakockaStore], object]
) -> None:
    with pytest.raises(StoreError) as caught:
        call(stores({"name": "Ana Novak"}))
    assert "Ana" not in str(caught.value)
