"""The Graph API's routes: check the token, apply an ordered fault, answer."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
from collections.abc import Awaitable, Callable, Sequence

from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rapport.local.fakes.whatsapp import media, messages, templates
from rapport.local.fakes.whatsapp.behaviour import Endpoint
from rapport.local.fakes.whatsapp.courier import Courier
from rapport.local.fakes.whatsapp.errors import GraphError, unknown_object
from rapport.local.fakes.whatsapp.faulty import otherwise
from rapport.local.fakes.whatsapp.payloads import DISPLAY_NUMBER
from rapport.local.fakes.whatsapp.registration import RegistrationApi
from rapport.local.fakes.whatsapp.state import State

VERSION = re.compile(r"v[0-9]{1,3}\.[0-9]")

Answer = Callable[[Request], Awaitable[Response]]


class GraphApi:
    """The routes over one state, for requests with an accepted token."""

    def __init__(
        self, state: State, courier: Courier, token: str, registration: RegistrationApi
    ) -> None:
        self._state = state
        self._courier = courier
        self._token = token
        self._registration = registration
        version = "/{version:str}"
        self.routes = [
            self._route(f"{version}/{{id:str}}/messages", "POST", self._messages, _of_messages),
            self._route(f"{version}/{{id:str}}/media", "POST", self._upload, _always("media")),
            self._route(
                f"{version}/{{id:str}}/message_templates",
                "GET",
                self._list_templates,
                _always("templates"),
            ),
            self._route(
                f"{version}/{{id:str}}/message_templates",
                "POST",
                self._create_template,
                _always("templates"),
            ),
            self._route(f"{version}/{{id:str}}", "GET", self._object, self._of_object),
            self._route(f"{version}/{{id:str}}", "DELETE", self._remove, _always("media")),
            self._route(
                "/whatsapp_business/attachments/{path:str}",
                "GET",
                self._download,
                _always("download"),
            ),
        ]

    def _route(
        self,
        path: str,
        method: str,
        answer: Answer,
        endpoint_of: Callable[[Request], Awaitable[Endpoint]],
    ) -> Route:
        async def respond(request: Request) -> Response:
            try:
                _require_version(request)
                self._authorize(request)
                fault = self._state.behaviour.take(await endpoint_of(request))
                if fault and fault.answers_otherwise and not fault.after_accepting:
                    await asyncio.sleep(fault.delay_ms / 1000)
                    return otherwise(fault)
                response = await answer(request)
                if fault:
                    await asyncio.sleep(fault.delay_ms / 1000)
                if fault and fault.answers_otherwise:
                    return otherwise(fault)
            except GraphError as error:
                return error.response()
            return response

        return Route(path, respond, methods=[method])

    def _authorize(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        given = token.strip().encode()
        accepted = [
            self._state.behaviour.tokens.get(number or "", self._token)
            for number in self._numbers(request)
        ]
        if scheme.lower() != "bearer" or not any(
            hmac.compare_digest(given, one.encode()) for one in accepted
        ):
            raise GraphError(190, "The access token is missing or wrong.")

    def _numbers(self, request: Request) -> Sequence[str | None]:
        """The numbers whose token opens the requested object; None means the stack's token."""
        asked = request.path_params
        if "path" in asked:
            media_id, _ = self._state.downloads.get(asked["path"], ("", None))
        else:
            media_id = asked["id"]
        if file := self._state.media.get(media_id):
            return [file.phone_number_id]
        return self._state.behaviour.numbers.get(media_id) or [media_id]

    async def _messages(self, request: Request) -> Response:
        number = request.path_params["id"]
        if not number.isascii() or not number.isdigit():
            raise unknown_object(number)
        body = await _json_object(request)
        if "status" in body:
            return JSONResponse(messages.mark_read(self._state, number, body))
        return JSONResponse(messages.accept(self._state, self._courier, number, body))

    async def _upload(self, request: Request) -> Response:
        content_type = request.headers.get("content-type", "")
        number = request.path_params["id"]
        return JSONResponse(media.upload(self._state, number, content_type, await request.body()))

    async def _list_templates(self, request: Request) -> Response:
        query = request.query_params
        limit = query.get("limit", str(templates.PAGE))
        if not limit.isdigit():
            raise GraphError(100, "Parameter limit: a number is needed.")
        return JSONResponse(
            templates.list_templates(
                self._state,
                request.path_params["id"],
                limit=int(limit),
                after=query.get("after"),
                name=query.get("name"),
                base_url=str(request.url.replace(query="")),
            )
        )

    async def _create_template(self, request: Request) -> Response:
        body = await _json_object(request)
        return JSONResponse(templates.create_template(self._state, request.path_params["id"], body))

    async def _of_object(self, request: Request) -> Endpoint:
        return "numbers" if request.path_params["id"] not in self._state.media else "media"

    async def _object(self, request: Request) -> Response:
        id_ = request.path_params["id"]
        if file := self._state.media.get(id_):
            base_url = str(request.base_url).rstrip("/")
            return JSONResponse(media.describe(self._state, file, base_url))
        if number := self._registration.number(id_, request.query_params.get("fields")):
            return JSONResponse(number)
        if not self._is_number(id_):
            raise unknown_object(id_)
        number = {
            "verified_name": "Rapport's stand-in",
            "display_phone_number": f"+{DISPLAY_NUMBER}",
            "quality_rating": "GREEN",
            "throughput": {"level": "STANDARD"},
            "id": id_,
        }
        return JSONResponse(number)

    def _is_number(self, id_: str) -> bool:
        """Whether any message was sent from this number, or came to it."""
        return any(sent.phone_number_id == id_ for sent in self._state.sent.values()) or any(
            window.partition(" ")[0] == id_ for window in self._state.last_inbound
        )

    async def _remove(self, request: Request) -> Response:
        return JSONResponse(media.remove(self._state, request.path_params["id"]))

    async def _download(self, request: Request) -> Response:
        file = media.download(self._state, request.path_params["path"])
        return Response(file.content, media_type=file.mime_type)


def _require_version(request: Request) -> None:
    version = request.path_params.get("version")
    if version is not None and not VERSION.fullmatch(version):
        raise GraphError(2500, "Unknown path components.")


def _always(endpoint: Endpoint) -> Callable[[Request], Awaitable[Endpoint]]:
    async def of(_request: Request) -> Endpoint:
        return endpoint

    return of


async def _of_messages(request: Request) -> Endpoint:
    return "read" if "status" in await _json_object(request) else "messages"


async def _json_object(request: Request) -> dict[str, JsonValue]:
    try:
        body = json.loads(await request.body())
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise GraphError(100, "The body is not a JSON object.")
    return body
