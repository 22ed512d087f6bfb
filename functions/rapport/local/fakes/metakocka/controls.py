"""/_fake/…: how a test or the demo controls the stand-in and reads its state."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rapport.local.fakes.faults import refused_order
from rapport.local.fakes.metakocka.answers import show
from rapport.local.fakes.metakocka.behaviour import MetakockaBehaviour
from rapport.local.fakes.metakocka.fake import Fake
from rapport.local.fakes.metakocka.fields import MetakockaFault, Payload

M = TypeVar("M", bound=BaseModel)


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid")

    company_id: Annotated[str, Field(min_length=1, max_length=50)]


class Add(_Order):
    """Partners to create, each with the fields of add_partner."""

    partners: list[Payload]


class Fill(_Order):
    """The number of ordinary partners to create."""

    count: Annotated[int, Field(ge=1, le=200_000)]


class EditOrder(_Order):
    """A partner that a person edits in Metakocka, with the fields of update_partner."""

    partner: Payload


class Merge(_Order):
    """Two partners that a person joins in Metakocka."""

    keep: str
    drop: str


class Remove(_Order):
    """A partner that a person deletes in Metakocka."""

    mk_id: str


class Issue(_Order):
    """A document that a person creates in Metakocka."""

    doc_type: str = "sales_order"
    partner: str
    receiver: str | None = None
    changed_at: AwareDatetime | None = None


class Nothing(BaseModel):
    """An order without fields."""

    model_config = ConfigDict(extra="forbid")


class MetakockaControls:
    """The control routes of one stand-in."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake
        self.routes = [
            self._route("partners", Add, self._add),
            self._route("fill", Fill, self._fill),
            self._route("edit", EditOrder, self._edit),
            self._route("merge", Merge, self._merge),
            self._route("remove", Remove, self._remove),
            self._route("document", Issue, self._issue),
            self._route("behaviour", MetakockaBehaviour, self._behave),
            self._route("reset", Nothing, self._reset),
            Route("/_fake/behaviour", self._show_behaviour),
            Route("/_fake/partners", self._partners),
            Route("/_fake/calls", self._calls),
        ]

    def _add(self, order: Add) -> JsonValue:
        company = self._fake.company(order.company_id)
        return {"partners": [show(company.add(partner)) for partner in order.partners]}

    def _fill(self, order: Fill) -> JsonValue:
        company = self._fake.company(order.company_id)
        first = len(company.partners) + 1
        for number in range(first, first + order.count):
            company.add(filler(number))
        return {"partners": len(company.partners)}

    def _edit(self, order: EditOrder) -> JsonValue:
        return show(self._fake.company(order.company_id).update(order.partner))

    def _merge(self, order: Merge) -> JsonValue:
        return show(self._fake.company(order.company_id).merge(order.keep, order.drop))

    def _remove(self, order: Remove) -> JsonValue:
        company = self._fake.company(order.company_id)
        del company.partners[company.known({"mk_id": order.mk_id}).mk_id]
        return {"removed": order.mk_id}

    def _issue(self, order: Issue) -> JsonValue:
        company = self._fake.company(order.company_id)
        at: datetime | None = order.changed_at
        return {"mk_id": company.issue(order.doc_type, order.partner, order.receiver, at).mk_id}

    def _behave(self, behaviour: MetakockaBehaviour) -> JsonValue:
        self._fake.behaviour = behaviour
        shown: JsonValue = behaviour.model_dump(mode="json")
        return shown

    def _reset(self, _order: Nothing) -> JsonValue:
        self._fake.clear()
        return {"reset": True}

    async def _show_behaviour(self, _request: Request) -> Response:
        """The present behaviour; a fault that has no `times` left is gone."""
        return JSONResponse(self._fake.behaviour.model_dump(mode="json"))

    async def _partners(self, request: Request) -> Response:
        """A company's partners, with the fields that get_partner hides."""
        company = self._fake.company(request.query_params.get("company_id", ""))
        with self._fake.lock:
            every: list[JsonValue] = [
                {
                    "mk_id": one.mk_id,
                    **one.fields,
                    "people": {id_: {**person} for id_, person in one.people.items()},
                    "addresses": {id_: {**place} for id_, place in one.addresses.items()},
                }
                for one in company.partners.values()
            ]
        return JSONResponse({"partners": every})

    async def _calls(self, _request: Request) -> Response:
        return JSONResponse({"calls": dict(self._fake.calls), "overlaps": self._fake.overlaps})

    def _route(self, name: str, model: type[M], act: Callable[[M], JsonValue]) -> Route:
        def obey(body: bytes) -> JsonValue:
            order = model.model_validate_json(body or b"{}")
            with self._fake.lock:
                return act(order)

        async def endpoint(request: Request) -> Response:
            try:
                return JSONResponse(await run_in_threadpool(obey, await request.body()))
            except ValidationError as error:
                return refused_order(error)
            except MetakockaFault as fault:
                return JSONResponse({"error": fault.description}, 422)

        return Route(f"/_fake/{name}", endpoint, methods=["POST"])


def filler(number: int) -> Payload:
    """An ordinary partner; every fifth is a company."""
    is_company = number % 5 == 0
    partner: Payload = {
        "business_entity": "true" if is_company else "false",
        "taxpayer": "true" if is_company else "false",
        "foreign_county": "false",
        "buyer": "true",
        "customer": f"Podjetje {number} d.o.o." if is_company else f"Novak {number} Janez",
        "street": f"Slovenska cesta {number % 300 + 1}",
        "post_number": str(1000 + number % 9000),
        "place": "Ljubljana",
        "country": "Slovenija",
        "partner_contact": {
            "useCustomerAsContact": "true",
            "email": f"partner{number}@example.com",
            "gsm": f"+3864{number % 10_000_000:07d}",
        },
    }
    if is_company:
        partner["tax_id_number"] = f"SI{10_000_000 + number}"
    return partner
