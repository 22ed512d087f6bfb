"""The pages for people: dashboard, portal and phone, served at the project's own address."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import httpx
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from rapport.local.origins import OwnOrigin
from rapport.local.stack.logins import LOGINS, PHONES
from rapport.local.stack.running import Stack
from rapport.local.stack.state import npm_folder

WEB = Path(__file__).parents[1] / "web"
MAX_BODY_BYTES = 32 * 1024
# the npm packages that the pages import, by the folder that they are in
LIBRARIES = ("lit", "lit-html", "lit-element", "@lit/reactive-element")
OFFICIAL_CLIENT = "@supabase/supabase-js/dist/umd/supabase.js"

_IMPORT_MAP = re.compile(rb'<script type="importmap">(.*?)</script>', re.DOTALL)

Handler = Callable[[Request], Awaitable[Response]]
Digits = Annotated[str, StringConstraints(pattern=r"^[0-9]{5,20}$")]


class PhoneMessage(BaseModel):
    """A customer's message on the phone page."""

    model_config = ConfigDict(extra="forbid")

    phone_number_id: Digits
    sender: Annotated[Digits, Field(alias="from")]
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    text: Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class Pages:
    """The routes of the pages of a stack."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        own = OwnOrigin(stack.url)
        # where the pages read and put the files of messages
        self._elsewhere = (stack.functions_url, stack.aws_url)
        self._http = httpx.AsyncClient(trust_env=False, timeout=10)
        modules = npm_folder() / "node_modules"
        self.routes: list[BaseRoute] = [
            Route("/", self._start),
            Route("/config.json", _kept_to(own, self._config)),
            Route("/phone/messages", _kept_to(own, self._shown)),
            Route("/phone/messages", _kept_to(own, self._write), methods=["POST"]),
            Route("/vendor/supabase.js", _file(modules / OFFICIAL_CLIENT)),
            *(Mount(f"/vendor/{name}", _Files(modules / name)) for name in LIBRARIES),
            *(Mount(f"/{name}", _Files(WEB / name)) for name in ("elements", "live")),
            *(
                Mount(f"/{name}", _Pages(WEB / "pages" / name, self._elsewhere))
                for name in ("common", "dashboard", "portal", "phone")
            ),
        ]

    async def stop(self) -> None:
        await self._http.aclose()

    async def _start(self, _request: Request) -> Response:
        return _page(FileResponse(WEB / "pages" / "index.html"), self._elsewhere)

    async def _config(self, request: Request) -> Response:
        """The facts that a page needs: no secret, and logins that are for this machine alone."""
        return JSONResponse(
            {
                "url": str(request.base_url).rstrip("/"),
                "functions_url": self._stack.functions_url,
                "publishable_key": self._stack.publishable_key,
                "logins": [login._asdict() for login in LOGINS],
                "phones": [phone._asdict() for phone in PHONES],
            },
            headers={"cache-control": "no-store"},
        )

    async def _write(self, request: Request) -> Response:
        """Brings a message as the customer's phone would."""
        body = await request.body()
        if len(body) > MAX_BODY_BYTES:
            return _refused(413, f"A message has at most {MAX_BODY_BYTES} bytes.")
        try:
            message = PhoneMessage.model_validate_json(body)
        except ValidationError as error:
            fault = error.errors()[0]
            return _refused(422, f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}")
        order = {
            "phone_number_id": message.phone_number_id,
            "from": message.sender,
            "name": message.name,
            "text": message.text,
        }
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


class _Files(StaticFiles):
    """A folder's files; a browser asks each time whether one has changed."""

    def __init__(self, directory: Path, *, html: bool = False) -> None:
        # installed packages come after the gateway was made
        super().__init__(directory=directory, html=html, check_dir=False)

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        return _kept_fresh(super().file_response(full_path, stat_result, scope, status_code))


class _Pages(_Files):
    """A folder with a page; `elsewhere` are the addresses beside its own that it calls."""

    def __init__(self, directory: Path, elsewhere: Sequence[str]) -> None:
        super().__init__(directory, html=True)
        self._elsewhere = elsewhere

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        return _page(response, self._elsewhere, Path(full_path))


def policy(page: bytes, elsewhere: Sequence[str] = ()) -> str:
    """The Content-Security-Policy of a page: its own files alone, nothing inline but its import
    map, and no HTML that is made of texts except by the library that renders. `elsewhere` are the
    addresses of the functions and of the bucket with the files of messages.
    """
    maps = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(found).digest()).decode()}'"
        for found in _IMPORT_MAP.findall(page)
    )
    others = " ".join(elsewhere)
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' {maps}".rstrip(),
            "style-src 'self'",
            # blob: is a file that the user has chosen
            f"img-src 'self' blob: {others}".rstrip(),
            f"media-src blob: {others}".rstrip(),
            f"connect-src 'self' {others}".rstrip(),
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types lit-html",
        )
    )


def _kept_fresh(response: Response) -> Response:
    response.headers["cache-control"] = "no-cache"
    response.headers["x-content-type-options"] = "nosniff"
    response.headers["referrer-policy"] = "no-referrer"
    return response


def _page(response: Response, elsewhere: Sequence[str], path: Path | None = None) -> Response:
    file = path or (Path(response.path) if isinstance(response, FileResponse) else None)
    if file and file.suffix == ".html":
        response.headers["content-security-policy"] = policy(file.read_bytes(), elsewhere)
    return _kept_fresh(response)


def _file(path: Path) -> Handler:
    async def answer(_request: Request) -> Response:
        return _kept_fresh(FileResponse(path))

    return answer


def _kept_to(own: OwnOrigin, handler: Handler) -> Handler:
    """Answers pages of this address alone, and programs of this machine."""

    async def answer(request: Request) -> Response:
        # the browser says so of a request that has no origin, too
        site = request.headers.get("sec-fetch-site", "same-origin")
        if not own.sent(request) or site not in ("same-origin", "none"):
            return _refused(403, "Only pages of this address and this machine may ask this.")
        return await handler(request)

    return answer


def _refused(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)
