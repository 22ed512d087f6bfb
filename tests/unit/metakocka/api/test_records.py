"""The reading of Metakocka's answers, in any shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.metakocka.documented import ADDED, DOCUMENTS, FOUND, JANEZ, UPDATED, UPORABNIK

from rapport.local.fakes.metakocka.answers import with_bare_lists
from rapport.metakocka.api.records import (
    CreatedPartner,
    DocumentPage,
    Fault,
    NotAnAnswer,
    PartnerList,
    PartnerRecord,
    read,
    read_answer,
)

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("answer", [ADDED, FOUND, UPDATED, DOCUMENTS])
def test_a_documented_answer_is_one(answer: dict[str, Any]) -> None:
    assert read_answer(json.dumps(answer).encode()) == answer


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ({"opr_code": "6", "opr_desc": "datetime is not valid"}, "6", "datetime is not valid"),
        ({"opr_code": 2, "opr_desc": " x "}, "2", "x"),
        ({"opr_code": "1", "error_desc": "InterruptedException"}, "1", "InterruptedException"),
        ({"opr_code": "7"}, "7", "without a description"),
    ],
)
def test_an_error_comes_with_its_code_and_words(
    answer: dict[str, Any], code: str, words: str
) -> None:
    with pytest.raises(Fault) as caught:
        read_answer(json.dumps(answer).encode())
    assert (caught.value.code, caught.value.description) == (code, words)


@pytest.mark.parametrize(
    "content", [b"", b"<!DOCTYPE html><p>Prijava", b"[]", b'"ok"', b"null", b"\xff\xfe", b'{"a"']
)
def test_a_page_of_somebody_else_is_no_answer(content: bytes) -> None:
    with pytest.raises(NotAnAnswer):
        read_answer(content)


def test_strings_are_booleans_and_what_is_missing_is_not_known() -> None:
    assert JANEZ.business_entity is False
    assert JANEZ.taxpayer is None
    assert JANEZ.tax_id_number is None
    assert JANEZ.people[0].gsm == "051123456"


def test_a_bare_element_is_a_list_of_one() -> None:
    bare = with_bare_lists(UPDATED)
    assert isinstance(bare, dict)
    assert isinstance(bare["partner_list"], dict)
    assert list(PartnerList(bare)) == [UPORABNIK]
    created = read(CreatedPartner, {"mk_id": 5, "mk_address_id_list": {"mk_id": "6"}})
    assert created
    assert (created.mk_id, created.mk_address_id_list[0].mk_id) == ("5", "6")


@pytest.mark.parametrize(
    "empty", [{}, {"partner_list": ""}, {"partner_list": []}, {"partner_list_count": "0"}]
)
def test_an_empty_list_may_be_missing(empty: dict[str, Any]) -> None:
    found = PartnerList(empty)
    assert (list(found), found.is_complete) == ([], True)


def test_what_is_no_partner_does_not_spoil_the_list() -> None:
    listed = [*FOUND["partner_list"], {"customer": "without an id"}, "nonsense", None]
    found = PartnerList({"partner_list_count": "5", "partner_list": listed})
    assert [one.mk_id for one in found] == ["228000009447", "228000012291"]
    assert not found.is_complete


def test_a_list_that_is_shorter_than_counted_is_not_complete() -> None:
    assert not PartnerList({**FOUND, "partner_list_count": "3"}).is_complete


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(
            [*PartnerRecord.model_fields, "partner_contact_list", "partner_delivery_address_list"]
        ),
        anything,
    )
)
def test_any_partner_with_an_id_can_be_read(fields: dict[str, Any]) -> None:
    assert read(PartnerRecord, {**fields, "mk_id": "1"}) is not None


@given(anything)
def test_any_answer_can_be_listed(value: Any) -> None:
    list(PartnerList({"partner_list": value}))
    assert DocumentPage({"result": value, "result_all_records": value}).count >= 0


def test_a_page_of_documents_names_each_partner_once() -> None:
    page = DocumentPage(DOCUMENTS)
    assert (page.partner_ids, page.count, page.total) == (["180600025047"], 1, 1)


def test_the_hash_is_of_what_a_partner_is_and_not_of_how_it_is_listed() -> None:
    partner: dict[str, Any] = UPDATED["partner_list"][0]
    shuffled = {
        **partner,
        "partner_contact_list": partner["partner_contact_list"][::-1],
        "partner_delivery_address_list": partner["partner_delivery_address_list"][::-1],
        "tax_id_number": "",
        "province": None,
        "supplier": " ",
        "payment_due_days": "8",
    }
    assert PartnerRecord.model_validate(shuffled).hash == UPORABNIK.hash
    for change in (
        {"customer": "Another"},
        {"buyer": "true"},
        {"partner_contact_list": partner["partner_contact_list"][0]},
        {"tax_id_number": "SI1"},
    ):
        assert PartnerRecord.model_validate({**partner, **change}).hash != UPORABNIK.hash
