"""What the store sends and takes for contacts; its SQL has tests of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest
from pydantic import HttpUrl, SecretStr

from rapport.errors import NotFound, StoreError
from rapport.settings import StoreSettings
from rapport.store.contacts import Contact, ContactStore, ImportedRow

ID = UUID(int=7)
CREATED = {"row": 1, "outcome": "created", "contact_id": str(ID), "field": None, "reason": None}


class Database:
    """Gives one answer to everything, and remembers what it was asked."""

    status = 200
    answer: object = None

    def __init__(self) -> None:
        self.asked: list[tuple[str, object]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["content-profile"] == "backend"
        self.asked.append((request.url.path, json.loads(request.content)))
        return httpx.Response(self.status, json=self.answer)


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def store(database: Database) -> Iterator[ContactStore]:
    settings = StoreSettings(
        supabase_url=HttpUrl("https://project.example"),
        supabase_service_role_key=SecretStr("service-key"),
    )
    store = ContactStore(settings, httpx.MockTransport(database))
    yield store
    store.close()


def test_what_a_contact_does_not_say_is_not_sent(store: ContactStore, database: Database) -> None:
    database.answer = [CREATED]

    imported = store.import_contacts("alpine", [Contact(phone="+38640111222", tags=["vip"])])

    assert imported == [
        ImportedRow(row=1, outcome="created", contact_id=ID, field=None, reason=None)
    ]
    assert database.asked == [
        (
            "/rest/v1/rpc/import_contacts",
            {
                "account": "alpine",
                "contacts": [{"phone": "+38640111222", "tags": ["vip"]}],
                "dry_run": False,
                "quiet": False,
            },
        )
    ]


def test_a_page_begins_after_an_id(store: ContactStore, database: Database) -> None:
    database.answer = [{"id": str(ID), "name": None, "tags": []}]

    assert store.export_contacts("alpine", after=None, page_size=2) == [Contact(id=ID, tags=[])]
    store.export_contacts("alpine", after=ID, page_size=2)

    assert [asked for _, asked in database.asked] == [
        {"account": "alpine", "after": None, "page_size": 2},
        {"account": "alpine", "after": str(ID), "page_size": 2},
    ]


def test_contacts_are_read_by_their_ids(store: ContactStore, database: Database) -> None:
    database.answer = {str(ID): {"id": str(ID), "phone": "+38640111222", "tags": []}}

    shown = store.contacts_of_ids("alpine", [ID])

    assert shown == {ID: Contact(id=ID, phone="+38640111222", tags=[])}
    assert database.asked == [
        ("/rest/v1/rpc/contacts_of_ids", {"account": "alpine", "ids": [str(ID)]})
    ]


def test_an_account_has_a_country(store: ContactStore, database: Database) -> None:
    database.answer = "SI"

    assert store.account_country("alpine") == "SI"
    assert database.asked == [("/rest/v1/rpc/account_country", {"account": "alpine"})]


def test_an_account_that_is_not_there_has_an_error_of_its_own(
    store: ContactStore, database: Database
) -> None:
    database.status, database.answer = 404, {"code": "PT404", "message": "There is none."}

    with pytest.raises(NotFound):
        store.import_contacts("nobody", [])
    assert len(database.asked) == 1


@pytest.mark.parametrize("answer", [[], [CREATED | {"row": 2}], [{"Ana": 1}], {"Ana": 1}, None])
def test_an_answer_that_is_not_of_these_rows_is_refused_unquoted(
    store: ContactStore, database: Database, answer: object
) -> None:
    database.answer = answer

    with pytest.raises(StoreError) as caught:
        store.import_contacts("alpine", [Contact(name="Ana")])
    assert "Ana" not in str(caught.value)
