"""Errors in the shape of the Graph API's.

Source: developers.facebook.com, WhatsApp Cloud API, "Error codes".
"""

from __future__ import annotations

import secrets
from http import HTTPStatus

from starlette.responses import JSONResponse

from rapport.local.fakes.whatsapp.payloads import Payload

# code: title, HTTP status; unknown codes have status 400
TITLES: dict[int, tuple[str, int]] = {
    0: ("AuthException", 401),
    1: ("API Unknown", 400),
    2: ("API Service", 503),
    3: ("API Method", 500),
    4: ("API Too Many Calls", 400),
    10: ("Permission Denied", 403),
    33: ("Parameter value is not valid", 400),
    100: ("Invalid parameter", 400),
    101: ("Error validating application. Cannot get application info.", 400),
    190: ("Access token has expired", 401),
    200: ("API Permission", 403),
    368: ("Temporarily blocked for policies violations", 403),
    2200: ("Callback verification failed", 400),
    80007: ("Rate limit issues", 400),
    130429: ("Rate limit hit", 400),
    130472: ("User's number is part of an experiment", 400),
    131000: ("Something went wrong", 500),
    131005: ("Access denied", 403),
    131008: ("Required parameter is missing", 400),
    131009: ("Parameter value is not valid", 400),
    131016: ("Service unavailable", 500),
    131021: ("Recipient cannot be sender", 400),
    131026: ("Message undeliverable", 400),
    131031: ("Account has been locked", 403),
    131042: ("Business eligibility payment issue", 400),
    131045: ("Incorrect certificate", 500),
    131047: ("Re-engagement message", 400),
    131048: ("Spam rate limit hit", 400),
    131049: ("Meta chose not to deliver", 400),
    131050: ("User has stopped marketing messages", 400),
    131051: ("Unsupported message type", 400),
    131052: ("Media download error", 400),
    131053: ("Media upload error", 400),
    131056: ("(Business Account, Consumer Account) pair rate limit hit", 400),
    131057: ("Account in maintenance mode", 500),
    131062: ("Recipient needs a phone number", 400),
    132000: ("Template param count mismatch", 400),
    132001: ("Template does not exist", 404),
    132012: ("Template parameter format mismatch", 400),
    132015: ("Template is paused", 400),
    132016: ("Template is disabled", 400),
    133004: ("Server temporarily unavailable", 503),
    133005: ("Two-step verification PIN mismatch", 400),
    133010: ("Phone number not registered", 400),
}


def title(code: int) -> str:
    """Meta's title of the error."""
    return TITLES.get(code, ("Unknown error", 0))[0]


class GraphError(Exception):
    """A request is refused; `retry_after` is in seconds."""

    def __init__(
        self,
        code: int,
        details: str,
        *,
        status: int | None = None,
        subcode: int | None = None,
        retry_after: int | None = None,
        message: str | None = None,
    ) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        # where it is not the code's title
        self.message = message or f"(#{code}) {title(code)}"
        self.status = status or TITLES.get(code, ("", HTTPStatus.BAD_REQUEST))[1]
        self.subcode = subcode
        self.retry_after = retry_after

    def response(self) -> JSONResponse:
        """The response, with a new trace id."""
        error: Payload = {
            "message": self.message,
            "type": "OAuthException",
            "code": self.code,
            "error_data": {"messaging_product": "whatsapp", "details": self.details},
            "fbtrace_id": secrets.token_urlsafe(17),
        }
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        headers = {"retry-after": str(self.retry_after)} if self.retry_after is not None else None
        return JSONResponse({"error": error}, self.status, headers)


def problem(code: int) -> Payload:
    """The error in the form of webhooks."""
    return {
        "code": code,
        "title": title(code),
        "message": title(code),
        "error_data": {"details": title(code)},
        "href": "https://developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes",
    }


def unknown_object(id_: str) -> GraphError:
    """The error for an id that does not exist, or no longer exists."""
    return GraphError(
        100,
        f"Unsupported request. Object with ID '{id_[:64]}' does not exist.",
        subcode=33,
    )
