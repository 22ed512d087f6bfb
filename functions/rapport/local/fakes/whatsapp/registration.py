"""The Graph API's routes by which an app is set up: tokens, subscriptions, numbers.

Two kinds of tokens open them: the stack's token, as a system user's, and the app's own, its id and
secret with a bar between them.

Source: developers.facebook.com, "Debug token", "App subscriptions", "WhatsApp Business Account
subscribed apps", "Register a business phone number", "Error codes".
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import parse_qsl

import httpx
from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rapport.connections import trusted
from rapport.local.fakes.whatsapp.errors import GraphError, unknown_object
from rapport.local.fakes.whatsapp.faulty import otherwise
from rapport.local.fakes.whatsapp.payloads import Payload
from rapport.local.fakes.whatsapp.registered import APP_ID, APP_NAME
from rapport.local.fakes.whatsapp.state import State
from rapport.whatsapp.registration import FIELDS

Answer = Callable[[Request], Awaitable[Payload]]

_OBJECT = "whatsapp_business_account"


class RegistrationApi:
    """The routes over one state; `webhook_url` is where the stand-in's webhooks go."""

    def __init__(self, state: State, webhook_url: str, app_secret: str, token: str) -> None:
        self._state = state
        self._webhook_url = webhook_url
        self._app_token = f"{APP_ID}|{app_secret}"
        self._token = token
        version = "/{version:str}"
        self.routes = [
            self._route(f"{version}/app", "GET", self._app),
            self._route(f"{version}/debug_token", "GET", self._debug_token),
            self._route(f"{version}/{{id:str}}/phone_numbers", "GET", self._numbers),
            self._route(f"{version}/{{id:str}}/subscribed_apps", "GET", self._subscribed_apps),
            self._route(f"{version}/{{id:str}}/subscribed_apps", "POST", self._subscribe_app),
            self._route(f"{version}/{{id:str}}/register", "POST", self._register),
            self._route(f"{version}/{{id:str}}/subscriptions", "GET", self._subscriptions),
            self._route(f"{version}/{{id:str}}/subscriptions", "POST", self._subscribe),
        ]

    def number(self, phone_number_id: str, fields: str | None) -> Payload | None:
        """A registered number, with the fields that are asked for; None for another."""
        number = self._state.registered.numbers.get(phone_number_id)
        if number is None:
            return None
        goes_to: Payload = {"application": self._callback_url}
        if number.callback_url:
            goes_to["phone_number"] = number.callback_url
        whole: Payload = {
            "verified_name": APP_NAME,
            "display_phone_number": number.display_phone_number,
            "quality_rating": "GREEN",
            "throughput": {"level": "STANDARD"},
            "code_verification_status": "VERIFIED",
            "status": number.status,
            "webhook_configuration": goes_to,
        }
        asked = fields.split(",") if fields else list(whole)[:4]
        return {name: value for name, value in whole.items() if name in asked} | {
            "id": phone_number_id
        }

    @property
    def _callback_url(self) -> str:
        url = self._state.registered.callback_url
        return self._webhook_url if url is None else url

    def _route(self, path: str, method: str, answer: Answer) -> Route:
        async def respond(request: Request) -> Response:
            fault = self._state.behaviour.take("registration")
            if fault and fault.answers_otherwise:
                return otherwise(fault)
            try:
                return JSONResponse(await answer(request))
            except GraphError as error:
                return error.response()

        return Route(path, respond, methods=[method])

    async def _app(self, request: Request) -> Payload:
        self._require_token(request)
        return {
            "category": "Business",
            "link": f"https://www.facebook.com/games/?app_id={APP_ID}",
            "name": APP_NAME,
            "id": APP_ID,
        }

    async def _debug_token(self, request: Request) -> Payload:
        self._require_app(request)
        registered = self._state.registered
        if not _is(request.query_params.get("input_token", ""), self._token):
            problem: Payload = {
                "code": 190,
                "message": "Invalid OAuth access token.",
                "subcode": 467,
            }
            return {"data": {"error": problem, "is_valid": False, "scopes": []}}
        wabas: list[JsonValue] = list({one.waba_id for one in registered.numbers.values()})
        scopes: list[JsonValue] = list(registered.scopes)
        granular: list[JsonValue] = [
            {"scope": scope, "target_ids": wabas} for scope in registered.scopes
        ]
        return {
            "data": {
                "app_id": APP_ID,
                "type": "SYSTEM_USER",
                "application": APP_NAME,
                "data_access_expires_at": 0,
                "expires_at": registered.token_expires_at,
                "is_valid": not 0 < registered.token_expires_at < time.time(),
                "scopes": scopes,
                "granular_scopes": granular,
                "user_id": "10222270944537964",
            }
        }

    async def _numbers(self, request: Request) -> Payload:
        self._require_token(request)
        waba_id = self._known_waba(request)
        fields = request.query_params.get("fields")
        found: list[JsonValue] = [
            self.number(id_, fields) for id_ in self._state.registered.numbers_of(waba_id)
        ]
        return {"data": found, "paging": {"cursors": {"before": "MAZDZD", "after": "MAZDZD"}}}

    async def _subscribed_apps(self, request: Request) -> Payload:
        self._require_token(request)
        waba_id = self._known_waba(request)
        app: Payload = {
            "id": APP_ID,
            "link": f"https://www.facebook.com/games/?app_id={APP_ID}",
            "name": APP_NAME,
        }
        hears = self._state.registered.hears_of(waba_id)
        found: list[JsonValue] = [{"whatsapp_business_api_data": app}] if hears else []
        return {"data": found}

    async def _subscribe_app(self, request: Request) -> Payload:
        self._require_token(request)
        waba_id = self._known_waba(request)
        if waba_id not in self._state.registered.subscribed_wabas:
            self._state.registered.subscribed_wabas.append(waba_id)
        return {"success": True}

    async def _register(self, request: Request) -> Payload:
        self._require_token(request)
        number = self._state.registered.numbers.get(request.path_params["id"])
        if number is None:
            raise unknown_object(request.path_params["id"])
        pin = (await _form(request)).get("pin", "")
        if len(pin) != 6 or not pin.isdigit():
            raise GraphError(100, "Parameter pin: six digits are needed.")
        number.status = "CONNECTED"
        return {"success": True}

    async def _subscriptions(self, request: Request) -> Payload:
        self._require_app(request)
        fields = self._state.registered.fields
        names = sorted(FIELDS) if fields is None else fields
        listed: list[JsonValue] = [{"name": name, "version": "v26.0"} for name in names]
        subscription: Payload = {
            "object": _OBJECT,
            "callback_url": self._callback_url,
            "active": True,
            "fields": listed,
        }
        found: list[JsonValue] = [subscription] if self._callback_url else []
        return {"data": found}

    async def _subscribe(self, request: Request) -> Payload:
        self._require_app(request)
        given = await _form(request)
        if given.get("object") != _OBJECT:
            raise GraphError(100, "Parameter object: an unknown kind of object.")
        fields = [one for one in given.get("fields", "").split(",") if one]
        if unknown := [one for one in fields if one not in FIELDS]:
            raise GraphError(100, f"Param fields: unknown {unknown[0][:64]}.")
        await _confirm(given.get("callback_url", ""), given.get("verify_token", ""))
        registered = self._state.registered
        registered.callback_url, registered.fields = given["callback_url"], fields
        return {"success": True}

    def _known_waba(self, request: Request) -> str:
        waba_id: str = request.path_params["id"]
        if not self._state.registered.numbers_of(waba_id):
            raise unknown_object(waba_id)
        return waba_id

    def _require_token(self, request: Request) -> None:
        given = _bearer(request)
        if not _is(given, self._token):
            # Meta repeats what it can't read
            raise GraphError(190, "", message=f"Malformed access token {given}")

    def _require_app(self, request: Request) -> None:
        given = _bearer(request)
        if given.partition("|")[0] != APP_ID:
            raise GraphError(101, "")
        if not _is(given, self._app_token):
            raise GraphError(190, "", message="Invalid OAuth access token signature.")


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode(errors="replace")))


async def _confirm(url: str, verify_token: str) -> None:
    """Asks an address as Meta does before it sends webhooks there. Raises GraphError."""
    challenge = str(secrets.randbelow(10**9))
    query = {
        "hub.mode": "subscribe",
        "hub.challenge": challenge,
        "hub.verify_token": verify_token,
    }
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=10, verify=trusted()) as client:
            answer = await client.get(url, params=query)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unconfirmed(f"curl_error = {type(error).__name__}; HTTP Status Code = 0") from None
    if answer.status_code != HTTPStatus.OK:
        raise _unconfirmed(
            f"HTTP Status Code = {answer.status_code}; HTTP Message = {answer.reason_phrase}"
        )
    if answer.text != challenge:
        raise _unconfirmed("the challenge was not answered")


def _unconfirmed(why: str) -> GraphError:
    words = f"(#2200) Callback verification failed with the following errors: {why}"
    return GraphError(2200, why, message=words)


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _is(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())
