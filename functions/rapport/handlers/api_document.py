"""GET /api/openapi.json: the HTTP API's description, which `rapport.commands.openapi` writes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from rapport.handlers.http import HttpRequest, Response, http_function

DOCUMENT = Path(__file__).with_name("openapi.json")


@cache
def _text() -> str:
    return DOCUMENT.read_text()


@http_function
def handler(_request: HttpRequest) -> Response:
    """Answers the document, the same to everybody."""
    return {
        "statusCode": 200,
        "headers": {
            "content-type": "application/json",
            "cache-control": "public, max-age=300",
            "x-content-type-options": "nosniff",
        },
        "body": _text(),
    }
