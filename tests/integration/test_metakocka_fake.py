"""Metakocka's stand-in over HTTP: as our client, and the people who make it misbehave, see it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from tests.stacks import Start, served

from rapport.errors import (
    MetakockaOutcomeUnknown,
    MetakockaRefused,
    MetakockaUnavailable,
)
from rapport.local.fakes.metakocka.app import application
from rapport.local.stack.running import METAKOCKA_PATH
from rapport.metakocka.agreement.party import Party, Person
from rapport.metakocka.api.bodies import new_partner, partner_update
from rapport.metakocka.api.client import POLICIES, Company, MetakockaClient, Policy
from rapport.metakocka.api.from_partner import from_record
from rapport.parameters import OneSecret
from rapport.retry import Retries

SECRET = "a secret key"
COMPANY = "16"
PATIENCE_S = 15.0
NOVAK = Party(
    name="Novak",
    street="Cesta 1",
    post_number="1000",
    place="Kranj",
    country="Slovenija",
    email="novak@example.com",
)


@dataclass(frozen=True)
class Stand:
    url: str
    http: httpx.Client

    def order(self, what: str, **fields: Any) -> Any:
        answer = self.http.post(f"{self.url}/_fake/{what}", json=fields)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()

    def partners(self, company_id: str = COMPANY) -> list[dict[str, Any]]:
        shown = self.http.get(f"{self.url}/_fake/partners", params={"company_id": company_id})
        partners: list[dict[str, Any]] = shown.json()["partners"]
        return partners

    def client(self, company_id: str = COMPANY, timeout: float = PATIENCE_S) -> MetakockaClient:
        policy = Policy(timeout, Retries(attempts=3, first_wait=0.01))
        return MetakockaClient(
            Company("an account", company_id, f"{self.url}{METAKOCKA_PATH}"),
            OneSecret(SecretStr(SECRET)),
            dict.fromkeys(POLICIES, policy),
        )


@pytest.fixture(scope="module")
def reused() -> Iterator[Stand]:
    with (
        served(application(SECRET)) as url,
        httpx.Client(trust_env=False, timeout=PATIENCE_S) as http,
    ):
        yield Stand(url, http)


@pytest.fixture
def stand(reused: Stand) -> Stand:
    reused.order("reset")
    return reused


@pytest.fixture
def client(stand: Stand) -> Iterator[MetakockaClient]:
    with stand.client() as client:
        yield client


def test_it_is_part_of_a_stack(start: Start) -> None:
    stack = start("metakocka")
    company = Company("an account", COMPANY, stack.metakocka_url)
    with MetakockaClient(company, OneSecret(SecretStr(stack.metakocka_secret_key))) as client:
        created = client.add_partner(new_partner(NOVAK))
        record = client.get_partner(created.mk_id)
        assert record
        assert from_record(record).party.email == "novak@example.com"
    with (
        MetakockaClient(company, OneSecret(SecretStr("wrong"))) as client,
        pytest.raises(MetakockaRefused),
    ):
        client.list_partners()


@pytest.mark.parametrize("bare", [False, True])
def test_a_partner_is_made_listed_updated_and_found_by_its_documents(
    stand: Stand, client: MetakockaClient, bare: bool
) -> None:
    stand.order("behaviour", bare_lists=bare)
    created = client.add_partner(new_partner(NOVAK))
    (record,) = client.list_partners()
    partner = from_record(record)
    assert partner.mk_id == created.mk_id
    update = partner_update(
        partner, {"place": "Celje", "email": None, "people": (Person(name="Ana", gsm="112"),)}
    )
    assert update
    updated = client.update_partner(update)
    assert updated
    party = from_record(updated).party
    assert (party.place, party.email) == ("Celje", None)
    assert [one.name for one in party.people] == ["Ana"]

    before = datetime.now(UTC) - timedelta(minutes=1)
    assert client.search_documents("sales_order", before).partner_ids == []
    stand.order("document", company_id=COMPANY, partner=created.mk_id)
    page = client.search_documents("sales_order", before)
    assert (page.partner_ids, page.total) == ([created.mk_id], 1)


@pytest.mark.parametrize(
    "fault",
    [
        {"drop": True},
        {"status": 200},
        {"status": 502},
        {"opr_code": "1", "opr_desc": "java.lang.InterruptedException"},
    ],
)
def test_a_lost_answer_leaves_one_partner_and_is_not_asked_for_again(
    stand: Stand, client: MetakockaClient, fault: dict[str, Any]
) -> None:
    stand.order("behaviour", faults=[{"on": "add_partner", "after_accepting": True, **fault}])
    with pytest.raises(MetakockaOutcomeUnknown):
        client.add_partner(new_partner(NOVAK))
    assert len(stand.partners()) == 1


def test_an_answer_that_comes_too_late_is_a_lost_one(stand: Stand) -> None:
    # a company of its own, since the next request of this one has to wait
    stand.order("behaviour", faults=[{"delay_ms": 3000}])
    with stand.client("late", timeout=1) as client, pytest.raises(MetakockaOutcomeUnknown):
        client.add_partner(new_partner(NOVAK))
    assert len(stand.partners("late")) == 1


@pytest.mark.parametrize("fault", [{"drop": True}, {"status": 200}, {"status": 503}])
def test_a_lost_answer_to_an_update_that_adds_nothing_is_asked_for_again(
    stand: Stand, client: MetakockaClient, fault: dict[str, Any]
) -> None:
    client.add_partner(new_partner(NOVAK))
    (record,) = client.list_partners()
    stand.order("behaviour", faults=[{"on": "update_partner", "after_accepting": True, **fault}])
    update = partner_update(from_record(record), {"email": "new@example.com"})
    assert update
    assert client.update_partner(update)
    (partner,) = stand.partners()
    assert [one["email"] for one in partner["people"].values()] == ["new@example.com"]


def test_too_many_requests_are_asked_again_and_an_update_of_metakocka_is_told(
    stand: Stand, client: MetakockaClient
) -> None:
    client.add_partner(new_partner(NOVAK))
    stand.order("behaviour", faults=[{"status": 429, "retry_after": 0, "times": 2}])
    assert len(client.list_partners()) == 1
    stand.order("behaviour", updating=True)
    with pytest.raises(MetakockaUnavailable):
        client.list_partners()
    with pytest.raises(MetakockaOutcomeUnknown):
        client.add_partner(new_partner(NOVAK))
    stand.order("behaviour")
    assert len(client.list_partners()) == 1


def test_people_there_rename_join_and_delete_partners(
    stand: Stand, client: MetakockaClient
) -> None:
    both = [new_partner(NOVAK).body, new_partner(NOVAK).body]
    made = stand.order("partners", company_id=COMPANY, partners=both)["partners"]
    first, second = (one["mk_id"] for one in made)
    stand.order("edit", company_id=COMPANY, partner={"mk_id": first, "customer": "Novak s.p."})
    record = client.get_partner(first)
    assert record
    renamed = from_record(record)
    assert (renamed.party.name, renamed.party.email) == ("Novak s.p.", "novak@example.com")
    stand.order("merge", company_id=COMPANY, keep=first, drop=second)
    assert client.get_partner(second) is None
    (joined,) = client.list_partners()
    assert len(joined.addresses) == 2
    stand.order("remove", company_id=COMPANY, mk_id=first)
    assert len(client.list_partners()) == 0


def test_one_company_is_answered_one_request_after_the_other(stand: Stand) -> None:
    stand.order("behaviour", latency_ms=100)

    def ask(company_id: str) -> None:
        body = {"secret_key": SECRET, "company_id": company_id, "partner_name": ""}
        httpx.post(
            f"{stand.url}{METAKOCKA_PATH}/get_partner",
            json=body,
            trust_env=False,
            timeout=PATIENCE_S,
        )

    def overlaps() -> int:
        waited: int = stand.http.get(f"{stand.url}/_fake/calls").json()["overlaps"]
        return waited

    def at_once(*calls: Any) -> None:
        threads = [threading.Thread(target=call) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    at_once(lambda: ask("1"), lambda: ask("2"))
    assert overlaps() == 0
    # our client queues by itself
    with stand.client() as one, stand.client() as other:
        at_once(one.list_partners, other.list_partners, one.list_partners)
    assert overlaps() == 0
    at_once(lambda: ask("1"), lambda: ask("1"))
    assert overlaps() == 1


def test_a_large_company_is_listed_in_one_answer(stand: Stand, client: MetakockaClient) -> None:
    assert stand.order("fill", company_id=COMPANY, count=2000) == {"partners": 2000}
    listed = client.list_partners()
    assert len(listed) == 2000
    parties = [from_record(record).party for record in listed]
    assert listed.is_complete
    assert len({party.email for party in parties}) == 2000
    assert sum(bool(party.business_entity) for party in parties) == 400


@pytest.mark.parametrize(
    ("what", "order"),
    [
        ("partners", {"partners": []}),
        ("partners", {"company_id": COMPANY, "partners": [{"customer": "x"}]}),
        ("fill", {"company_id": COMPANY, "count": 0}),
        ("edit", {"company_id": COMPANY, "partner": {"mk_id": "404"}}),
        ("merge", {"company_id": COMPANY, "keep": "1", "drop": "2"}),
        ("behaviour", {"faults": [{"drop": True, "status": 500}]}),
        ("behaviour", {"nonsense": True}),
    ],
)
def test_an_order_that_cannot_be_is_refused(stand: Stand, what: str, order: dict[str, Any]) -> None:
    assert stand.http.post(f"{stand.url}/_fake/{what}", json=order).status_code == 422
