"""Names in the API's JSON: camelCase outward, either way inward."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from rapport.api_json import camel, camel_field, snake


def test_names_are_the_api_s_at_every_depth() -> None:
    told: JsonValue = {
        "sender_type": "client",
        "reactions": [{"sender_id": "any_body"}],
        "invoice_data": {"amount_minor": 1},
        # no names of ours: an id, a header
        "1f_a": {"content-type": "a_b"},
        "A_B": 1,
    }
    assert camel(told) == {
        "senderType": "client",
        "reactions": [{"senderId": "any_body"}],
        "invoiceData": {"amountMinor": 1},
        "1f_a": {"content-type": "a_b"},
        "A_B": 1,
    }


def test_whatsapp_s_own_json_keeps_its_names() -> None:
    message: JsonValue = {"reply_to": None, "content": {"phone_number": {"country_code": 1}}}
    assert camel(message) == {"replyTo": None, "content": {"phone_number": {"country_code": 1}}}


def test_names_of_a_request_become_the_database_s() -> None:
    given: JsonValue = {"invoiceId": [{"amountMinor": 1}], "invoice_no": {"Odd Name": 1}}
    assert snake(given) == {"invoice_id": [{"amount_minor": 1}], "invoice_no": {"Odd Name": 1}}


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("message", "message"),
        ("client_ref", "clientRef"),
        ("invoice_data.amount_minor", "invoiceData.amountMinor"),
        ("contact_ids.3", "contactIds.3"),
        ("content.phone_number", "content.phone_number"),
    ],
)
def test_a_field_in_an_error_has_the_name_that_requests_have(field: str, told: str) -> None:
    assert camel_field(field) == told
