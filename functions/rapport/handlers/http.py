"""Between Lambda's HTTP API payload (version 2.0) and a handler: bodies, answers, errors.

Source: docs.aws.amazon.com, "Create AWS Lambda proxy integrations for HTTP APIs".
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from functools import wraps
from typing import TypedDict

from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2
from pydantic import JsonValue

from rapport.errors import MalformedPayload, PayloadTooLarge, RapportError
from rapport.log import correlated, logger


class Response(TypedDict):
    """What API Gateway turns into an HTTP response."""

    statusCode: int
    headers: dict[str, str]
    body: str


def text(status: int, body: str) -> Response:
    """A plain text that no browser takes for anything else."""
    return _response(status, "text/plain; charset=utf-8", body)


def json_(status: int, value: JsonValue) -> Response:
    """A JSON value."""
    return _response(status, "application/json", json.dumps(value))


def _response(status: int, content_type: str, body: str) -> Response:
    return {
        "statusCode": status,
        "headers": {"content-type": content_type, "x-content-type-options": "nosniff"},
        "body": body,
    }


def body_of(event: APIGatewayProxyEventV2, limit: int) -> bytes:
    """The request's body as it was sent.

    Raises:
        PayloadTooLarge: It has more than `limit` bytes.
        MalformedPayload: It is marked as base64 and is not.
    """
    body = event.body or ""
    if event.is_base64_encoded:
        try:
            raw = base64.b64decode(body, validate=True)
        except binascii.Error:
            raise MalformedPayload("The body is not base64.") from None
    else:
        raw = body.encode("utf-8", "surrogatepass")
    if len(raw) > limit:
        raise PayloadTooLarge(f"The body has more than {limit} bytes.")
    return raw


def http_function(
    handle: Callable[[APIGatewayProxyEventV2], Response],
) -> Callable[[dict[str, object], object], Response]:
    """Makes `handle` a Lambda function: errors of Rapport's tree become answers.

    Any other exception is a fault of ours: Lambda records it and API Gateway answers 500.
    """

    @wraps(handle)
    def function(event: dict[str, object], _context: object) -> Response:
        request = APIGatewayProxyEventV2(event)
        with correlated(request.request_context.request_id):
            try:
                return handle(request)
            except RapportError as error:
                level = logger.error if error.http_status >= 500 else logger.warning
                level("refused", code=error.code, status=error.http_status, reason=str(error))
                return _error(error)

    return function


def _error(error: RapportError) -> Response:
    # what is wrong on our side is for the log, not for the caller
    message = str(error) if error.http_status < 500 else type(error).__doc__
    return json_(error.http_status, {"error": error.code, "message": message})
