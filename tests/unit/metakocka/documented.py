"""The samples of Metakocka's documentation: github.com/metakocka/metakocka_api_base, docs/."""

from __future__ import annotations

from typing import Any

from rapport.metakocka.api.records import PartnerRecord

ADDED: dict[str, Any] = {
    "mk_id": "228000046627",
    "mk_contact_id": "228000046630",
    "mk_address_id_list": [
        {"mk_id": "228000046628", "street": "Test, 4"},
        {"mk_id": "228000046629", "street": "Tehnološki park 24"},
    ],
}

FOUND: dict[str, Any] = {
    "partner_list_count": "2",
    "partner_list": [
        {
            "mk_id": "228000009447",
            "business_entity": "false",
            "foreign_county": "false",
            "customer": "BAJEC JANEZ",
            "count_code": "WE0003085",
            "partner_contact_list": [
                {
                    "mk_id": "228000009449",
                    "mk_address_id": "228000009448",
                    "contact_address": "Tehnološki park 24",
                    "gsm": "051123456",
                    "email": "test@test.si",
                }
            ],
            "partner_delivery_address_list": [
                {
                    "mk_id": "228000009448",
                    "address_type": "Račun",
                    "street": "Tehnološki park 24",
                    "post_number": "1000",
                    "city": "Ljubljana",
                    "payment_due_days": "15",
                    "language": "Slovenski",
                }
            ],
        },
        {
            "mk_id": "228000012291",
            "business_entity": "false",
            "taxpayer": "false",
            "foreign_county": "false",
            "customer": "TESTNI JANEZ",
            "count_code": "140",
            "partner_contact_list": [
                {
                    "mk_id": "228000012293",
                    "mk_address_id": "228000012292",
                    "contact_address": "Tehnološki park 21",
                    "gsm": "031111222",
                    "email": "test1@test.si",
                }
            ],
            "partner_delivery_address_list": [
                {
                    "mk_id": "228000012292",
                    "address_type": "Račun",
                    "street": "Tehnološki park 21",
                    "post_number": "1000",
                    "city": "LJUBLJANA",
                    "country": "Slovenija",
                    "payment_due_days": "10",
                    "language": "Slovenski",
                    "currency_id": "65",
                    "currency": "EUR",
                }
            ],
        },
    ],
}

UPDATED: dict[str, Any] = {
    "partner_list_count": "1",
    "partner_list": [
        {
            "mk_id": "228000046627",
            "business_entity": "false",
            "taxpayer": "false",
            "foreign_county": "false",
            "customer": "Test Uporabnik",
            "count_code": "32156793",
            "partner_contact_list": [
                {
                    "mk_id": "228000046630",
                    "mk_address_id": "228000046628",
                    "contact_address": "Test, 4",
                    "name": "Test Kontakt",
                    "gsm": "54367865463",
                    "email": "test@test.com",
                },
                {
                    "mk_id": "228000046634",
                    "mk_address_id": "228000046629",
                    "contact_address": "Tehnološki park 21",
                    "name": "Test Kontakt",
                    "gsm": "031111222",
                    "email": "test123@test.com",
                },
            ],
            "partner_delivery_address_list": [
                {
                    "mk_id": "228000046628",
                    "address_type": "Račun",
                    "street": "Test, 4",
                    "post_number": "54375",
                    "city": "Test",
                    "country": "Slovenija",
                    "language": "Slovenski",
                },
                {
                    "mk_id": "228000046629",
                    "address_type": "Poslovna enota",
                    "street": "Tehnološki park 21",
                    "post_number": "1000",
                    "city": "Ljubljana",
                    "country": "Slovenija",
                    "language": "Slovenski",
                },
                {
                    "mk_id": "228000046633",
                    "address_type": "Poslovna enota",
                    "street": "Stegne 21c",
                    "post_number": "1000",
                    "city": "Ljubljana",
                    "country": "Slovenija",
                    "language": "Slovenski",
                },
            ],
        }
    ],
}

# of a document's partner, in "Return documents as result"
DOCUMENTS: dict[str, Any] = {
    "opr_code": "0",
    "opr_time_ms": "62",
    "result_all_records": "1",
    "result_count": "1",
    "offset": "0",
    "limit": "1",
    "result": [
        {
            "mk_id": "1600203710",
            "doc_type": "sales_bill_domestic",
            "opr_code": "0",
            "count_code": "PRD1_494",
            "doc_date": "2015-05-10+02:00",
            "partner": {
                "business_entity": "false",
                "taxpayer": "false",
                "foreign_county": "false",
                "tax_id_number": "TAX123",
                "customer": "Dolg1",
                "street": "naslova",
                "post_number": "1000",
                "place": "Komenda",
                "country": "Slovenia",
                "count_code": "50513",
                "useCustomerAsContact": "false",
                "mk_id": "180600025047",
                "mk_address_id": "180600073437",
            },
            "receiver": {"mk_id": "180600025047", "customer": "Dolg1"},
        }
    ],
}

# in "General error" of several calls
REFUSED = {
    "opr_code": "6",
    "opr_desc": "Cannot find sales order with buyer order '5662'",
    "opr_time_ms": "0",
}

JANEZ, TESTNI = (PartnerRecord.model_validate(one) for one in FOUND["partner_list"])
(UPORABNIK,) = (PartnerRecord.model_validate(one) for one in UPDATED["partner_list"])
