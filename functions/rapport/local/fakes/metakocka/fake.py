"""The stand-in itself: takes a request's body and returns the reply.

`app` serves it over HTTP; `FakeTransport` serves it to HTTP clients of the same process.
"""

from __future__ import annotations

import hmac
import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from pydantic import JsonValue

from rapport.local.fakes.metakocka import answers
from rapport.local.fakes.metakocka.behaviour import MetakockaBehaviour, MetakockaRequestFault
from rapport.local.fakes.metakocka.company import FakeCompany
from rapport.local.fakes.metakocka.fields import MetakockaFault, Payload
from rapport.local.fakes.shelf import Shelf

PAGE_OF_A_PROXY = "<!DOCTYPE html><title>Prijava</title><p>Sistem se posodablja.</p>"

_OPERATIONS = {
    "add_partner": answers.add_partner,
    "get_partner": answers.get_partner,
    "search": answers.search,
    "update_partner": answers.update_partner,
}


@dataclass(frozen=True)
class FakeReply:
    """A reply to send after `delay_ms`; a dropped one closes the connection instead."""

    content: bytes = b""
    status: int = 200
    media_type: str = "application/json"
    retry_after: int | None = None
    delay_ms: int = 0
    is_dropped: bool = False


@dataclass
class Fake:
    """The partners and documents of all companies, and the ordered faults."""

    secret: str = field(repr=False)
    behaviour: MetakockaBehaviour = field(default_factory=MetakockaBehaviour)
    companies: dict[str, FakeCompany] = field(default_factory=dict)
    # requests by operation, failed ones included
    calls: Counter[str] = field(default_factory=Counter)
    # requests that came while another one of their company was being answered
    overlaps: int = 0
    # held while a company is read or changed
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    # what survives a restart; the behaviour does not
    shelf: Shelf | None = field(default=None, repr=False)

    def company(self, company_id: str) -> FakeCompany:
        """The company; an unknown one is created empty."""
        if company_id not in self.companies:
            self.companies[company_id] = (
                FakeCompany.kept(self.shelf, company_id) if self.shelf else FakeCompany()
            )
        return self.companies[company_id]

    def clear(self) -> None:
        """Deletes everything, in place."""
        self.behaviour = MetakockaBehaviour()
        self.companies.clear()
        if self.shelf:
            self.shelf.clear()
        self.calls.clear()
        self.overlaps = 0

    def reply(self, operation: str, content: bytes) -> FakeReply:
        """Carries out a request, or fails it, as the behaviour says."""
        with self.lock:
            self.calls[operation] += 1
            latency = self.behaviour.latency_ms
            if self.behaviour.updating:
                return FakeReply(PAGE_OF_A_PROXY.encode(), 503, "text/html", delay_ms=latency)
            fault = self.behaviour.take(operation)
            delay = latency + (fault.delay_ms if fault else 0)
            if fault and fault.answers_otherwise and not fault.after_accepting:
                return _otherwise(fault, delay)
            answer = self._answer(operation, content)
            if fault and fault.twice and "opr_desc" not in answer:
                self._answer(operation, content)
            if fault and fault.answers_otherwise:
                return _otherwise(fault, delay)
            shown: JsonValue = answer
            if self.behaviour.bare_lists:
                shown = answers.with_bare_lists(answer)
            return FakeReply(_encoded(shown), delay_ms=delay)

    def _answer(self, operation: str, content: bytes) -> Payload:
        try:
            body = _object(content)
            company = self._company_of(body)
            if operation == "add_partner" and self.behaviour.same_partner is not None:
                return {"mk_id": self.behaviour.same_partner}
            return _operation(operation)(company, body)
        except MetakockaFault as fault:
            return _failure(fault.code, fault.description)

    def _company_of(self, body: Payload) -> FakeCompany:
        secret, company_id = body.get("secret_key"), body.get("company_id")
        if (
            not isinstance(secret, str)
            or not isinstance(company_id, str)
            or not hmac.compare_digest(secret.encode(), self.secret.encode())
        ):
            raise MetakockaFault("2", "secret_key or company_id is wrong")
        return self.company(company_id)


class FakeTransport(httpx.BaseTransport):
    """Answers without a server, at once; a delay beyond the client's timeout is a timeout."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        operation = request.url.path.rpartition("/")[2]
        reply = self._fake.reply(operation, request.read())
        patience = request.extensions.get("timeout", {}).get("read")
        if patience is not None and reply.delay_ms / 1000 > patience:
            raise httpx.ReadTimeout("The answer came too late.", request=request)
        if reply.is_dropped:
            raise httpx.RemoteProtocolError("The connection was closed.", request=request)
        headers = {"content-type": reply.media_type}
        if reply.retry_after is not None:
            headers["retry-after"] = str(reply.retry_after)
        return httpx.Response(reply.status, content=reply.content, headers=headers)


def _operation(name: str) -> Callable[[FakeCompany, Payload], Payload]:
    if name not in _OPERATIONS:
        raise MetakockaFault("2", f"Unknown operation : {name}")
    return _OPERATIONS[name]


def company_of(content: bytes) -> str:
    """The company of a request; empty if the request names none."""
    try:
        return str(_object(content).get("company_id", ""))
    except MetakockaFault:
        return ""


def _object(content: bytes) -> Payload:
    try:
        body = json.loads(content)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise MetakockaFault("2", "Request is not valid JSON")
    return body


def _otherwise(fault: MetakockaRequestFault, delay: int) -> FakeReply:
    if fault.drop:
        return FakeReply(delay_ms=delay, is_dropped=True)
    if fault.opr_code is not None:
        return FakeReply(_encoded(_failure(fault.opr_code, fault.opr_desc)), delay_ms=delay)
    return FakeReply(
        PAGE_OF_A_PROXY.encode(), fault.status or 500, "text/html", fault.retry_after, delay
    )


def _failure(code: str, description: str) -> Payload:
    return {"opr_code": code, "opr_desc": description, "opr_time_ms": "3"}


def _encoded(value: JsonValue) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
