"""The adapter between Lambda's events and handlers."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from rapport.errors import (
    ConfigError,
    MalformedPayload,
    NotFound,
    PayloadTooLarge,
    TooManyRequests,
)
from rapport.handlers.http import HttpRequest, Response, body_of, http_function, json_, text
from rapport.log import Crash


def event(**fields: object) -> dict[str, Any]:
    return {
        "requestContext": {"requestId": "request-1", "http": {"method": "POST"}},
        **fields,
    }


def request(**fields: object) -> HttpRequest:
    return HttpRequest.of(event(**fields))


def test_a_text_body_is_read_as_utf_8() -> None:
    assert body_of(request(body="č", isBase64Encoded=False), 10) == "č".encode()


def test_a_base64_body_is_decoded() -> None:
    body = base64.b64encode(b"\xff\x00").decode()
    assert body_of(request(body=body, isBase64Encoded=True), 10) == b"\xff\x00"


def test_no_body_is_an_empty_one() -> None:
    assert body_of(request(), 10) == b""


@pytest.mark.parametrize("body", ["{}", "č", "abc"])
def test_what_is_marked_as_base64_and_is_not_is_malformed(body: str) -> None:
    with pytest.raises(MalformedPayload):
        body_of(request(body=body, isBase64Encoded=True), 10)


def test_the_limit_counts_decoded_bytes() -> None:
    body = base64.b64encode(b"x" * 10).decode()
    assert len(body_of(request(body=body, isBase64Encoded=True), 10)) == 10
    with pytest.raises(PayloadTooLarge):
        body_of(request(body="č" * 6), 10)


def test_an_error_of_the_tree_is_answered_with_its_status_and_code() -> None:
    @http_function
    def handler(_request: HttpRequest) -> Response:
        raise NotFound("There is no such contact.")

    answer = handler(event(), None)
    assert answer["statusCode"] == 404
    assert json.loads(answer["body"]) == {
        "code": "not_found",
        "message": "There is no such contact.",
    }


def test_too_many_requests_are_told_when_to_come_again() -> None:
    @http_function
    def handler(_request: HttpRequest) -> Response:
        raise TooManyRequests("You have written 3 messages.", hint="Wait.", retry_after=42)

    answer = handler(event(), None)
    assert answer["statusCode"] == 429
    assert answer["headers"]["retry-after"] == "42"
    assert json.loads(answer["body"]) == {
        "code": "too_many_requests",
        "message": "You have written 3 messages.",
        "hint": "Wait.",
    }


def test_a_fault_of_ours_is_not_explained_to_the_caller() -> None:
    @http_function
    def handler(_request: HttpRequest) -> Response:
        raise ConfigError("SUPABASE_URL: Field required")

    answer = handler(event(), None)
    assert answer["statusCode"] == 500
    assert "SUPABASE_URL" not in answer["body"]


def test_a_crash_is_left_to_lambda() -> None:
    @http_function
    def handler(_request: HttpRequest) -> Response:
        raise ZeroDivisionError

    with pytest.raises(Crash, match="ZeroDivisionError"):
        handler(event(), None)


def test_no_answer_is_sniffed() -> None:
    assert text(200, "<b>")["headers"] == {
        "content-type": "text/plain; charset=utf-8",
        "x-content-type-options": "nosniff",
    }
    assert json_(200, {})["headers"]["x-content-type-options"] == "nosniff"
