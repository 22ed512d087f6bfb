"""Metakocka's stand-in answers as the documentation's samples do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.metakocka.documented import ADDED, DOCUMENTS, FOUND, UPDATED

from rapport.local.fakes.metakocka.behaviour import MetakockaBehaviour, MetakockaRequestFault
from rapport.local.fakes.metakocka.fake import Fake
from rapport.local.stack.serving import project_values
from rapport.local.stack.state import PREFERRED_PORTS, new_stack

# the request that add_partner is documented with
NEW: dict[str, Any] = {
    "business_entity": "false",
    "taxpayer": "false",
    "buyer": "true",
    "foreign_county": "false",
    "customer": "Test Uporabnik",
    "street": "Test, 4",
    "post_number": "54375",
    "place": "Test",
    "country": "Slovenija",
    "partner_contact": {"name": "Test Kontakt", "gsm": "54367865463", "email": "test@test.com"},
    "partner_delivery_address": {
        "address_type": "Dobava",
        "street": "Tehnološki park 24",
        "post_number": "1000",
        "city": "Ljubljana",
        "country": "Slovenija",
    },
}


@pytest.fixture
def fake() -> Fake:
    return Fake("8899")


def call(fake: Fake, operation: str, **body: object) -> Any:
    sent = {"secret_key": "8899", "company_id": "16", **body}
    reply = fake.reply(operation, json.dumps(sent).encode())
    assert reply.status == 200
    return json.loads(reply.content)


def names(value: object) -> object:
    """The shape of an answer: the names and whether there is a text, a list or an object."""
    if isinstance(value, dict):
        return {name: names(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [names(inner) for inner in value]
    return type(value)


def test_functions_are_given_the_stand_in_and_its_key(tmp_path: Path) -> None:
    stack = new_stack(tmp_path, PREFERRED_PORTS)
    values = project_values(stack)
    assert values["METAKOCKA_URL"] == "http://127.0.0.1:24327/rest/eshop/v1"
    assert values["METAKOCKA_SECRET_KEY"] == stack.metakocka_secret_key
    assert stack.metakocka_secret_key not in repr(stack)


def test_a_partner_is_made_as_documented(fake: Fake) -> None:
    answer = call(fake, "add_partner", partner=NEW)
    assert names(answer) == names(ADDED)
    assert [one["street"] for one in answer["mk_address_id_list"]] == [
        "Test, 4",
        "Tehnološki park 24",
    ]


def test_a_partner_is_found_as_documented(fake: Fake) -> None:
    mk_id = call(fake, "add_partner", partner=NEW)["mk_id"]
    for key, value in (
        ("partner_id", mk_id),
        ("partner_name", "uporab"),
        ("partner_name", ""),
        ("partner_email", "test@test.com"),
        ("partner_phone_number", "54367865463"),
    ):
        found = call(fake, "get_partner", **{key: value})
        assert found["partner_list_count"] == "1"
        (partner,) = found["partner_list"]
        assert partner.keys() == FOUND["partner_list"][1].keys()
        (person,) = partner["partner_contact_list"]
        assert person.keys() == {"name", *FOUND["partner_list"][1]["partner_contact_list"][0]}
        assert [one["address_type"] for one in partner["partner_delivery_address_list"]] == [
            "Račun",
            "Dobava",
        ]
    nothing = call(fake, "get_partner", partner_tax_number="SI1")
    assert nothing == {"partner_list_count": "0"}


def test_a_partner_is_updated_as_documented(fake: Fake) -> None:
    added = call(fake, "add_partner", partner=NEW)
    address_id = added["mk_address_id_list"][1]["mk_id"]
    address = {**NEW["partner_delivery_address"], "address_type": "Poslovna enota"}
    answer = call(
        fake,
        "update_partner",
        partner={
            "mk_id": added["mk_id"],
            "street": "Test 1234",
            "post_number": "2000",
            "partner_contact_list": [
                {
                    "mk_address_id": address_id,
                    "name": "Test Kontakt",
                    "gsm": "031111222",
                    "email": "test123@test.com",
                }
            ],
            "partner_delivery_address_list": [
                {**address, "mk_id": address_id, "street": "Tehnološki park 21"},
                {**address, "street": "Stegne 21c"},
            ],
        },
    )
    assert names(answer) == names(UPDATED)
    (partner,) = answer["partner_list"]
    expected = UPDATED["partner_list"][0]
    for told in ("street", "address_type", "city"):
        assert [one[told] for one in partner["partner_delivery_address_list"]] == [
            one[told] for one in expected["partner_delivery_address_list"]
        ]
    assert [one["contact_address"] for one in partner["partner_contact_list"]] == [
        one["contact_address"] for one in expected["partner_contact_list"]
    ]


def test_an_entry_without_its_id_is_added_and_one_with_it_is_changed(fake: Fake) -> None:
    added = call(fake, "add_partner", partner=NEW)
    address_id = added["mk_address_id_list"][0]["mk_id"]
    entry = {"mk_address_id": address_id, "name": "Ana"}
    for _ in range(2):
        update = {"mk_id": added["mk_id"], "partner_contact_list": [entry]}
        (partner,) = call(fake, "update_partner", partner=update)["partner_list"]
    assert len(partner["partner_contact_list"]) == 3
    known = {"mk_id": added["mk_contact_id"], "email": "", "name": "Bine"}
    update = {"count_code": partner["count_code"], "partner_contact_list": known}
    (partner,) = call(fake, "update_partner", partner=update)["partner_list"]
    assert len(partner["partner_contact_list"]) == 3
    first = partner["partner_contact_list"][0]
    assert (first["name"], first["gsm"], first.get("email")) == ("Bine", "54367865463", None)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"street": ""}, "6"),
        ({"country": None}, "6"),
        ({"customer": "x" * 101}, "6"),
        ({"buyer": True}, "2"),
        ({"taxpayer": "yes"}, "2"),
        ({"partner_contact": {"email": "x" * 256}}, "6"),
        ({"partner_delivery_address": {"address_type": "Garaža"}}, "2"),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(
    fake: Fake, change: dict[str, Any], code: str
) -> None:
    answer = call(fake, "add_partner", partner={**NEW, **change})
    assert names(answer) == {"opr_code": str, "opr_desc": str, "opr_time_ms": str}
    assert answer["opr_code"] == code
    assert fake.company("16").partners == {}


@pytest.mark.parametrize(
    "update",
    [
        {"mk_id": "404"},
        {"partner_contact_list": [{"name": "without an address"}]},
        {"partner_contact_list": [{"mk_id": "404", "name": "x"}]},
        {"partner_contact_list": [{"mk_address_id": "404", "name": "x"}]},
        {"partner_delivery_address_list": [{"mk_id": "404", "street": "x"}]},
        {"customer": ""},
    ],
)
def test_an_update_of_what_is_not_there_is_refused(fake: Fake, update: dict[str, Any]) -> None:
    mk_id = call(fake, "add_partner", partner=NEW)["mk_id"]
    before = call(fake, "get_partner", partner_id=mk_id)
    answer = call(fake, "update_partner", partner={"mk_id": mk_id, "taxpayer": "true", **update})
    assert answer["opr_code"] in ("2", "6")
    assert call(fake, "get_partner", partner_id=mk_id) == before


def test_companies_do_not_see_each_other_and_nobody_sees_them_without_the_key(fake: Fake) -> None:
    call(fake, "add_partner", partner=NEW)
    assert call(fake, "get_partner", partner_name="", company_id="17")["partner_list_count"] == "0"
    assert call(fake, "get_partner", partner_name="", secret_key="wrong")["opr_code"] == "2"
    assert call(fake, "get_partner")["opr_code"] == "2"
    assert call(fake, "delete_partner")["opr_code"] == "2"


def test_documents_are_searched_by_time_and_in_pages(fake: Fake) -> None:
    mk_id = call(fake, "add_partner", partner=NEW)["mk_id"]
    for _ in range(105):
        fake.company("16").issue("sales_order", mk_id)

    def search(**body: object) -> Any:
        return call(fake, "search", **{"doc_type": "sales_order", "result_type": "doc", **body})

    first, second = search(limit="1000"), search(limit=100, offset="100")
    assert (first["result_all_records"], first["result_count"], first["limit"]) == (
        "105",
        "100",
        "100",
    )
    assert (second["result_count"], second["offset"]) == ("5", "100")
    documented = DOCUMENTS["result"][0]
    assert first["result"][0].keys() == documented.keys()
    assert first["result"][0]["partner"].keys() == documented["partner"].keys() - {"tax_id_number"}
    late = {"type": "last_change_from", "value": "2999-01-01T00:00:00+02:00"}
    assert search(query_advance=[late])["result_count"] == "0"
    assert search(doc_type="warehouse_packing_list1")["opr_code"] == "2"
    assert search(query_advance=[{**late, "value": "yesterday"}])["opr_code"] == "6"
    assert search(result_type=None)["result"][0].keys() == {"mk_id", "opr_code", "count_code"}


def test_a_list_of_one_can_come_as_its_element(fake: Fake) -> None:
    call(fake, "add_partner", partner=NEW)
    fake.behaviour = MetakockaBehaviour(bare_lists=True)
    partner = call(fake, "get_partner", partner_name="")["partner_list"]
    assert isinstance(partner["partner_contact_list"], dict)
    assert isinstance(partner["partner_delivery_address_list"], list)


def test_a_fault_comes_as_often_as_it_is_set_and_only_where(fake: Fake) -> None:
    fake.behaviour = MetakockaBehaviour(
        faults=[
            MetakockaRequestFault(on="add_partner", after=1, opr_code="5", opr_desc="no"),
            MetakockaRequestFault(on="add_partner", twice=True),
        ]
    )
    # the first passes the one that waits, and meets the other
    call(fake, "add_partner", partner=NEW)
    assert len(fake.company("16").partners) == 2
    assert call(fake, "get_partner", partner_name="")["partner_list_count"] == "2"
    assert call(fake, "add_partner", partner=NEW) == {
        "opr_code": "5",
        "opr_desc": "no",
        "opr_time_ms": "3",
    }
    call(fake, "add_partner", partner=NEW)
    assert len(fake.company("16").partners) == 3


def test_partners_that_are_joined_leave_one_with_all_entries_and_documents(fake: Fake) -> None:
    keep, drop = (call(fake, "add_partner", partner=NEW)["mk_id"] for _ in range(2))
    company = fake.company("16")
    company.issue("sales_order", drop)
    company.merge(keep, drop)
    (partner,) = call(fake, "get_partner", partner_name="")["partner_list"]
    assert partner["mk_id"] == keep
    assert len(partner["partner_contact_list"]) == 2
    assert len(partner["partner_delivery_address_list"]) == 4
    assert company.documents[0].partner == keep
