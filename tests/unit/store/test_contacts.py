"""An import's answer is of the rows that were sent, or is none."""

from __future__ import annotations

from contextlib import closing
from uuid import UUID

import httpx
import pytest
from pydantic import HttpUrl, SecretStr
from tests.answering import Answering

from rapport.errors import StoreError
from rapport.settings import StoreSettings
from rapport.store.contacts import Contact, ContactStore

SETTINGS = StoreSettings(
    supabase_url=HttpUrl("https://project.example"),
    supabase_secret_key=SecretStr("service-key"),
)
CREATED = {
    "row": 1,
    "outcome": "created",
    "contact_id": str(UUID(int=7)),
    "field": None,
    "reason": None,
}


@pytest.mark.parametrize("answer", [[], [CREATED | {"row": 2}], [{"Ana": 1}], {"Ana": 1}, None])
def test_an_answer_that_is_not_of_these_rows_is_refused_unquoted(answer: object) -> None:
    answering = Answering(lambda _: httpx.Response(200, json=answer))
    with closing(ContactStore(SETTINGS, answering)) as store, pytest.raises(StoreError) as caught:
        store.import_contacts("alpine", [Contact(name="Ana")])
    assert "Ana" not in str(caught.value)
