"""A small stand-in for the part of the Graph API that holds files and templates."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "graph-token"


@dataclass
class Graph:
    """What WhatsApp has, and how it misbehaves next."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    # for each answer to come: a status instead of it, or "cut" for half of the bytes
    troubles: deque[int | str] = field(default_factory=deque)
    # (phone number id, body) of what was uploaded
    uploads: list[tuple[str, bytes]] = field(default_factory=list)
    templates: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    # of a number, a file or a WhatsApp Business account with a token of its own
    tokens: dict[str, str] = field(default_factory=dict)


@contextmanager
def serving() -> Iterator[Graph]:
    """The stand-in on a free port."""
    graph = Graph()

    class Handler(_Handler):
        state = graph

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    graph.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield graph
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: Graph

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Says nothing."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        self.state.asked.append(address.path)
        trouble = self.state.troubles.popleft() if self.state.troubles else None
        if not self._is_authorized():
            self._answer(401, {"error": {"code": 190}})
        elif isinstance(trouble, int):
            self._answer(trouble, {"error": {"code": 131000 if trouble >= 500 else 100}})
        else:
            match address.path.strip("/").split("/"):
                case ["files", name]:
                    self._send(self.state.files[name], cut=trouble == "cut")
                case [waba, "message_templates"] if waba in self.state.templates:
                    self._page(waba, parse_qs(address.query))
                case [name] if name in self.state.files:
                    self._describe(name)
                case _:
                    self._answer(400, {"error": {"code": 100}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        number = self.path.split("/")[1]
        if not self._is_authorized():
            self._answer(401, {"error": {"code": 190}})
            return
        self.state.uploads.append((number, body))
        self._answer(200, {"id": f"up{len(self.state.uploads)}"})

    def _is_authorized(self) -> bool:
        about = urlsplit(self.path).path.strip("/").removeprefix("files/").split("/")[0]
        token = self.state.tokens.get(about, TOKEN)
        return bool(self.headers["authorization"] == f"Bearer {token}")

    def _describe(self, name: str) -> None:
        content = self.state.files[name]
        self._answer(
            200,
            {
                "messaging_product": "whatsapp",
                "id": name,
                "url": f"{self.state.url}/files/{name}",
                "mime_type": "image/jpeg",
                "sha256": hashlib.sha256(content).hexdigest(),
                "file_size": str(len(content)),
            },
        )

    def _page(self, waba: str, query: dict[str, list[str]]) -> None:
        start = int(query.get("after", ["0"])[0])
        listed = self.state.templates[waba]
        paging: dict[str, object] = {"cursors": {"after": str(start + 2)}}
        if start + 2 < len(listed):
            paging["next"] = "https://evil.example/next"
        self._answer(200, {"data": listed[start : start + 2], "paging": paging})

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send(self, content: bytes, *, cut: bool) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        # a client that has read enough may hang up
        with suppress(ConnectionError):
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = True


def digest(content: bytes) -> str:
    """As webhooks write it."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()
