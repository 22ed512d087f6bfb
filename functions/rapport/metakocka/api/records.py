"""Metakocka's answers, as models.

All values are strings, also booleans and numbers. An unknown value is missing or empty. A list of
one element may come as the element itself. An error is an HTTP 200 with an `opr_code`. All other
fields of an answer are ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Annotated, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
)
from pydantic_core import from_json

from rapport.metakocka.agreement.party import clean

M = TypeVar("M", bound=BaseModel)

_TRUE, _FALSE = frozenset({"true", "1"}), frozenset({"false", "0"})


class NotAnAnswer(Exception):  # noqa: N818 - it is another server's answer
    """The answer is a proxy's page, or anything else that is not a JSON object of Metakocka's."""


class Fault(Exception):  # noqa: N818 - Metakocka's word
    """The call failed, with `opr_code` and `opr_desc`."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(f"{code}: {description}")
        self.code = code
        self.description = description


def read_answer(content: bytes) -> dict[str, JsonValue]:
    """The answer to a call that has succeeded.

    Raises:
        NotAnAnswer: It is not an answer of Metakocka's.
        Fault: The call failed.
    """
    try:
        answer = from_json(content)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise NotAnAnswer
    code = _text(answer.get("opr_code"))
    if code not in (None, "0"):
        words = _text(answer.get("opr_desc")) or _text(answer.get("error_desc"))
        raise Fault(str(code), str(words or "without a description"))
    return answer


def _text(value: object) -> str | None:
    """A scalar as text; None for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return clean(value)


def _flag(value: object) -> bool | None:
    word = str(_text(value)).lower()
    return True if word in _TRUE else False if word in _FALSE else None


def elements(value: JsonValue) -> list[JsonValue]:
    """The elements of a list, which may be missing or be its only element itself."""
    if value is None or value == "":
        return []
    return value if isinstance(value, list) else [value]


def _objects(value: JsonValue) -> list[JsonValue]:
    return [element for element in elements(value) if isinstance(element, dict)]


Text = Annotated[str | None, BeforeValidator(_text)]
Flag = Annotated[bool | None, BeforeValidator(_flag)]
Id = Annotated[str, BeforeValidator(_text)]


class _Wire(BaseModel):
    model_config = ConfigDict(
        defer_build=True,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        populate_by_name=True,
    )


class PersonRecord(_Wire):
    """An entry of partner_contact_list."""

    mk_id: Text = None
    mk_address_id: Text = None
    # the documentation's table calls it contact
    name: Text = Field(default=None, validation_alias=AliasChoices("name", "contact"))
    email: Text = None
    phone: Text = None
    gsm: Text = None
    fax: Text = None


class AddressRecord(_Wire):
    """An entry of partner_delivery_address_list."""

    mk_id: Text = None
    address_type: Text = None
    street: Text = None
    post_number: Text = None
    city: Text = None
    province: Text = None
    country: Text = None


class PartnerRecord(_Wire):
    """A partner, as get_partner lists it and as documents carry it."""

    mk_id: Id
    count_code: Text = None
    customer: Text = None
    business_entity: Flag = None
    taxpayer: Flag = None
    foreign_county: Flag = None
    buyer: Flag = None
    supplier: Flag = None
    tax_id_number: Text = None
    registration_number: Text = None
    street: Text = None
    post_number: Text = None
    place: Text = None
    province: Text = None
    country: Text = None
    people: Annotated[list[PersonRecord], BeforeValidator(_objects)] = Field(
        default=[], validation_alias=AliasChoices("partner_contact_list", "partner_contact")
    )
    addresses: Annotated[list[AddressRecord], BeforeValidator(_objects)] = Field(
        default=[],
        validation_alias=AliasChoices("partner_delivery_address_list", "partner_delivery_address"),
    )

    @cached_property
    def hash(self) -> str:
        """A hash of all fields that are read, in hexadecimal; the order of lists is ignored."""
        people, addresses = _sorted(self.people), _sorted(self.addresses)
        fields = self.model_dump_json(
            exclude={"people", "addresses"}, exclude_none=True, exclude_defaults=True
        )
        return hashlib.sha256("\n".join((fields, *people, "", *addresses)).encode()).hexdigest()


def _sorted(entries: Iterable[_Wire]) -> list[str]:
    """The entries that say something, as JSON in an order of their own."""
    return sorted(
        one for entry in entries if (one := entry.model_dump_json(exclude_none=True)) != "{}"
    )


def in_order(mk_id: str) -> tuple[int, str]:
    """The sort key of an id: ids are numbers, given in order."""
    return (len(mk_id), mk_id)


class PartnerList:
    """The partners of an answer; each is read while the list is walked.

    An element that is not a partner is left out. `is_complete` is false after that, and also if
    Metakocka counts more partners than it lists.
    """

    def __init__(self, answer: dict[str, JsonValue]) -> None:
        self._elements = elements(answer.get("partner_list"))
        self._counted = _text(answer.get("partner_list_count"))
        self.is_complete = self._counted is None or self._counted == str(len(self._elements))

    def __len__(self) -> int:
        return len(self._elements)

    def __iter__(self) -> Iterator[PartnerRecord]:
        yield from self._read(self._elements)

    def in_order(self, after: str | None = None) -> Iterator[PartnerRecord]:
        """The partners by id, from the first one after `after`."""
        first = in_order(after) if after is not None else None
        keyed = [
            (in_order(_text(element.get("mk_id")) or ""), place)
            for place, element in enumerate(self._elements)
            if isinstance(element, dict)
        ]
        self.is_complete = self.is_complete and len(keyed) == len(self._elements)
        keyed = [one for one in sorted(keyed) if first is None or one[0] > first]
        yield from self._read(self._elements[place] for _, place in keyed)

    def _read(self, elements: Iterable[JsonValue]) -> Iterator[PartnerRecord]:
        for element in elements:
            record = read(PartnerRecord, element)
            if record is None:
                self.is_complete = False
            else:
                yield record


def read(model: type[M], value: JsonValue) -> M | None:
    """The value as the model; None if it does not fit."""
    try:
        return model.model_validate(value)
    except ValidationError:
        return None


class CreatedAddress(_Wire):
    """An address of a new partner."""

    mk_id: Text = None
    street: Text = None


class CreatedPartner(_Wire):
    """The ids that a new partner has been given."""

    mk_id: Id
    mk_contact_id: Text = None
    mk_address_id_list: Annotated[list[CreatedAddress], BeforeValidator(_objects)] = []


class _DocumentPartner(_Wire):
    mk_id: Text = None


def _object(value: object) -> object:
    return value if isinstance(value, dict) else None


class _Document(_Wire):
    partner: Annotated[_DocumentPartner | None, BeforeValidator(_object)] = None
    receiver: Annotated[_DocumentPartner | None, BeforeValidator(_object)] = None


class DocumentPage:
    """A page of documents, and the partners that they name, each once.

    `count` is the number of documents on the page; `total` is the number on all pages, if known.
    """

    def __init__(self, answer: dict[str, JsonValue]) -> None:
        documents = elements(answer.get("result"))
        known = [read(_Document, document) for document in documents]
        named = [one for doc in known if doc for one in (doc.partner, doc.receiver) if one]
        self.partner_ids = list(dict.fromkeys(one.mk_id for one in named if one.mk_id))
        self.count = len(documents)
        total = str(_text(answer.get("result_all_records")))
        self.total = int(total) if total.isascii() and total.isdigit() else None
