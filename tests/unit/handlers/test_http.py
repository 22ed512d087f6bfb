"""The adapter between Lambda's events and handlers."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import Field

from rapport.api_json import ApiRequest
from rapport.errors import (
    ConfigError,
    MalformedPayload,
    NotFound,
    PayloadTooLarge,
    TooManyRequests,
)
from rapport.handlers.http import (
    HttpRequest,
    Response,
    body_of,
    http_function,
    json_,
    read_json,
    text,
)
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


class Asked(ApiRequest):
    account_id: UUID
    contact_ids: Annotated[list[UUID] | None, Field(max_length=2)] = None
    note: Annotated[str | None, Field(min_length=1, max_length=3)] = None
    limit: Annotated[int, Field(ge=1, le=9)] = 1
    code: Annotated[str | None, Field(pattern="^[a-z]+$")] = None
    is_new: bool = False
    more: dict[str, str] | None = None


ID = "0b7c6f0e-58a1-4f5e-9d6c-1f2a3b4c5d6e"


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "accountId", "accountId is missing."),
        (
            {"accountId": "695a15a5c526dbe7c085ece2"},
            "accountId",
            f"accountId is not a UUID, such as {ID}.",
        ),
        ({"accountId": 7}, "accountId", "accountId is not a UUID in a text."),
        ({"accountId": ID, "id": 1}, "id", "There is no field id here."),
        ({"accountId": ID, "contactIds": ID}, "contactIds", "contactIds is not a list."),
        (
            {"accountId": ID, "contactIds": [ID, "x"]},
            "contactIds.1",
            f"contactIds.1 is not a UUID, such as {ID}.",
        ),
        (
            {"accountId": ID, "contactIds": [ID] * 3},
            "contactIds",
            "contactIds has more than 2 entries.",
        ),
        ({"accountId": ID, "note": 7}, "note", "note is not a text."),
        ({"accountId": ID, "note": ""}, "note", "note has less than 1 characters."),
        ({"accountId": ID, "note": "four"}, "note", "note has more than 3 characters."),
        ({"accountId": ID, "limit": "x"}, "limit", "limit is not a whole number."),
        ({"accountId": ID, "limit": 1.5}, "limit", "limit is not a whole number."),
        ({"accountId": ID, "limit": 0}, "limit", "limit is less than 1."),
        ({"accountId": ID, "limit": 10}, "limit", "limit is greater than 9."),
        ({"accountId": ID, "code": "7"}, "code", "code has characters that it may not have."),
        ({"accountId": ID, "isNew": "x"}, "isNew", "isNew is neither true nor false."),
        ({"accountId": ID, "more": []}, "more", "more is not an object."),
    ],
)
def test_a_wrong_field_is_named_as_the_api_does(
    body: dict[str, object], field: str, words: str
) -> None:
    @http_function
    def handler(request: HttpRequest) -> Response:
        read_json(Asked, request, 1000)
        return json_(200, {})

    answer = handler(event(body=json.dumps(body)), None)
    told = json.loads(answer["body"])
    assert (answer["statusCode"], told["field"], told["message"]) == (422, field, words)


def test_a_fault_of_ours_is_not_explained_to_the_caller() -> None:
    @http_function
    def handler(_request: HttpRequest) -> Response:
        raise ConfigError("SUPABASE_URL is not set.")

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
