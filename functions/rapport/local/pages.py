"""The pages for people: dashboard, portal and phone, served at the project's own address."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated

import httpx
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from rapport.connections import trusted
from rapport.local import site
from rapport.local.origins import OwnOrigin
from rapport.local.stack.logins import LOGINS, PHONES
from rapport.local.stack.running import Stack
from rapport.server.bodies import Bodies, BodyError

MAX_BODY_BYTES = 32 * 1024
BODIES_ROOM = 100 * MAX_BODY_BYTES
# what a name by content stands for never changes
KEPT_FOR_EVER = "public, max-age=31536000, immutable"

Handler = Callable[[Request], Awaitable[Response]]
Digits = Annotated[str, StringConstraints(pattern=r"^[0-9]{5,20}$")]


class PhoneMessage(BaseModel):
    """A customer's message on the phone page."""

    model_config = ConfigDict(extra="forbid")

    phone_number_id: Digits
    sender: Annotated[Digits, Field(alias="from")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    text: Annotated[str, StringConstraints(min_length=1, max_length=4096)]
    # by which the page finds it again
    id: Annotated[str, StringConstraints(pattern=r"^wamid\.[A-Za-z0-9_-]{1,100}$")] | None = None


class Pages:
    """The routes of the pages of a stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._bodies = Bodies(limit=MAX_BODY_BYTES, room=BODIES_ROOM)
        own = OwnOrigin.of(stack)
        self._http = httpx.AsyncClient(trust_env=False, timeout=10, verify=trusted())
        files = _Site(stack)
        self.routes: list[BaseRoute] = [
            Route("/config.json", _kept_to(own, self._config)),
            Route("/phone/messages", _kept_to(own, self._shown)),
            Route("/phone/messages", _kept_to(own, self._write), methods=["POST"]),
            Route("/", files),
            *(
                Mount(f"/{name}", files)
                for name in (*site.LOCAL, site.ASSETS)
                if name not in (site.START, site.MISSING)
            ),
        ]
        # what answers an address that no route has, with or without a slash at its end
        self.missing: ASGIApp = _Missing(files)

    async def stop(self) -> None:
        await self._http.aclose()

    async def _config(self, request: Request) -> Response:
        """The facts that a page needs: no secret, and logins that are for this machine alone."""
        return JSONResponse(
            {
                "url": str(request.base_url).rstrip("/"),
                "publishable_key": self._stack.publishable_key,
                "functions_url": _at_host_of(request, self._stack.functions_port),
                "logins": [login._asdict() for login in LOGINS],
                "phones": [phone._asdict() for phone in PHONES],
            },
            headers={"cache-control": "no-store"},
        )

    async def _write(self, request: Request) -> Response:
        """Brings a message as the customer's phone would."""
        try:
            async with self._bodies.read(request) as body:
                message = PhoneMessage.model_validate_json(body)
        except BodyError as error:
            return _refused(error.status, str(error), error.headers)
        except ClientDisconnect:
            return Response(status_code=400)
        except ValidationError as error:
            fault = error.errors()[0]
            return _refused(422, f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}")
        order = {
            "phone_number_id": message.phone_number_id,
            "from": message.sender,
            "name": message.name,
            "text": message.text,
        } | ({"provider_id": message.id} if message.id else {})
        return await self._ask("POST", "inbound", json=order)

    async def _shown(self, request: Request) -> Response:
        """The messages of the business, as the phone shows them."""
        return await self._ask("GET", "messages", params=dict(request.query_params))

    async def _ask(
        self,
        method: str,
        what: str,
        *,
        json: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Response:
        url = f"{self._stack.whatsapp_url}/_fake/{what}"
        try:
            answer = await self._http.request(method, url, json=json, params=params)
        except httpx.TransportError:
            return _refused(502, "The WhatsApp stand-in can't be reached.")
        return Response(answer.content, answer.status_code, media_type="application/json")


class _Missing:
    """Answers what has no route: people by a page, programs by a word."""

    def __init__(self, files: _Site) -> None:
        self._files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_asked = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        if is_asked and _is_read(scope):
            await self._files(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        else:
            await PlainTextResponse("Not Found", 404)(scope, receive, send)


class _Site(StaticFiles):
    """The pages as `site` makes them: at the first visit, and again when a source has changed."""

    def __init__(self, stack: Stack) -> None:
        # made when somebody asks: most stacks show nothing
        super().__init__(directory=None, html=True)
        self._stack = stack
        self._folder = stack.folder / "pages"
        self._made_of = 0
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(f"/{site.ASSETS}/"):
            async with self._making:
                newest = await run_in_threadpool(site.newest_source)
                if newest > self._made_of:
                    await run_in_threadpool(self._make, newest)
        await super().__call__(scope, receive, send)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if response.status_code != httpx.codes.NOT_FOUND:
            return response
        if not _is_read(scope):
            return PlainTextResponse("Not Found", httpx.codes.NOT_FOUND)
        # Starlette's own answer has neither our policy nor what is compressed
        page, stat_result = await run_in_threadpool(self.lookup_path, site.MISSING_FILE)
        if stat_result is None:
            return response
        return self.file_response(page, stat_result, scope, httpx.codes.NOT_FOUND)

    def get_path(self, scope: Scope) -> str:
        """The path from the root, wherever it is mounted."""
        path: str = scope["path"]
        return os.path.normpath(os.path.join(*path.split("/")))  # noqa: PTH118 - as Starlette's

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        path = Path(full_path)
        packed = path.with_name(f"{path.name}.gz")
        is_packed = "gzip" in Headers(scope=scope).get("accept-encoding", "") and packed.exists()
        if is_packed:
            full_path, stat_result = packed, packed.stat()
        response = super().file_response(full_path, stat_result, scope, status_code)
        if is_packed:
            response.headers["content-encoding"] = "gzip"
        response.headers["vary"] = "accept-encoding"
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["referrer-policy"] = "no-referrer"
        is_kept = path.parent.name == site.ASSETS
        response.headers["cache-control"] = KEPT_FOR_EVER if is_kept else "no-cache"
        if path.suffix == ".html":
            request = Request(scope)
            origins = site.Origins(
                connect=(_at_host_of(request, self._stack.functions_port),),
                media=(_at_host_of(request, self._stack.moto_port),),
            )
            response.headers["content-security-policy"] = site.policy(origins)
        return response

    def _make(self, newest: int) -> None:
        folder = self._folder / str(newest)
        modules, esbuild = site.installed()
        with site.replaced(folder) as made:
            site.make(made, site.LOCAL, modules=modules, esbuild=esbuild, missing_up="/")
        for other in self._folder.iterdir():
            # a page that is open may still ask for a part of the last ones
            if other != folder and str(other) not in map(str, self.all_directories[:1]):
                shutil.rmtree(other, ignore_errors=True)
        self.all_directories = [folder, *self.all_directories[:1]]
        self._made_of = newest


def _is_read(scope: Scope) -> bool:
    """Whether a person asks, whose browser shows pages."""
    return "text/html" in Headers(scope=scope).get("accept", "")


def _at_host_of(request: Request, port: int) -> str:
    """Another port of this machine, by the name that the browser has for it."""
    host = request.url.hostname or ""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _kept_to(own: OwnOrigin, handler: Handler) -> Handler:
    """Answers pages of this address alone, and programs of this machine."""

    async def answer(request: Request) -> Response:
        # the browser says so of a request that has no origin, too
        site = request.headers.get("sec-fetch-site", "same-origin")
        if not own.sent(request) or site not in ("same-origin", "none"):
            return _refused(403, "Only pages of this address and this machine may ask this.")
        return await handler(request)

    return answer


def _refused(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status_code=status, headers=headers)
