"""A smoke test against a deployment, as an owner or admin of a connected account.

Run by tests/metakocka/run-contact-sync-test.sh, or `pytest -m smoke tests/smoke`, with

AUTH_TOKEN   an access token of theirs
CONTACT_ID   a contact that has what Metakocka needs: name, street, post number, place, country
METAKOCKA_ID a partner, to be read as well (optional)
API_URL      where the functions are; the local stack's if it is not set
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

API_URL = "http://127.0.0.1:24324"
BASE = "/api/integrations/metakocka/contacts"

pytestmark = pytest.mark.smoke


def needed(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        pytest.fail(f"{name} is not set: this test is for a deployment, see this file's beginning")
    return value


@pytest.fixture
def api() -> Iterator[httpx.Client]:
    token = needed("AUTH_TOKEN")
    with httpx.Client(
        base_url=os.environ.get("API_URL") or API_URL,
        headers={"Authorization": f"Bearer {token}"},
        timeout=40,
    ) as api:
        yield api


def done(answer: httpx.Response) -> Any:
    assert answer.status_code in (200, 202), answer.text
    return answer.json()


def test_a_contact_is_sent_and_has_a_mapping(api: httpx.Client) -> None:
    contact = needed("CONTACT_ID")
    done(api.post(f"{BASE}/sync-to-metakocka", json={"contactId": contact}))
    mapping = done(api.get(f"{BASE}/mappings", params={"contactId": contact}))["mapping"]
    assert mapping["contactId"] == contact
    assert mapping["metakockaId"]


def test_several_contacts_are_sent(api: httpx.Client) -> None:
    body = {"contactIds": [needed("CONTACT_ID")]}
    told = done(api.post(f"{BASE}/sync-to-metakocka", params={"bulk": "true"}, json=body))
    if "runId" not in told:
        assert (told["total"], told["succeeded"], told["failed"]) == (1, 1, 0), told


def test_a_partner_is_read(api: httpx.Client) -> None:
    partner = os.environ.get("METAKOCKA_ID")
    if not partner:
        pytest.skip("METAKOCKA_ID is not set: no partner to read")
    done(api.post(f"{BASE}/sync-from-metakocka", json={"metakockaId": partner}))
    told = done(api.post(f"{BASE}/sync-all-from-metakocka", json={"metakockaIds": [partner]}))
    assert "runId" in told or told["failed"] == 0, told


def test_what_is_there_is_listed(api: httpx.Client) -> None:
    assert isinstance(done(api.get(f"{BASE}/sync-from-metakocka"))["partners"], list)
    assert isinstance(done(api.get(f"{BASE}/mappings"))["mappings"], list)


def test_a_mistake_is_named(api: httpx.Client) -> None:
    answer = api.post(f"{BASE}/sync-to-metakocka", json={})
    assert (answer.status_code, answer.json()["field"]) == (422, "contactId")


def test_without_a_token_nobody_is_served(api: httpx.Client) -> None:
    answer = api.get(f"{BASE}/mappings", headers={"Authorization": ""})
    assert answer.status_code == 401
