"""A server in the Graph API's place: remembers what it is sent and answers as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
# status and body; None closes the connection without an answer
Answer = tuple[int, Body] | None


def accepted(body: Body) -> Answer:
    """What WhatsApp answers to a message, and to a read mark."""
    if "status" in body:
        return 200, {"success": True}
    return 200, {"messages": [{"id": f"wamid.{body['biz_opaque_callback_data']}"}]}


def refused(code: int) -> Answer:
    """An error of WhatsApp's."""
    return 400, {"error": {"message": "refused", "code": code}}


class GraphServer:
    """Runs until closed; `answer` may be replaced at any time."""

    def __init__(self, port: int, token: str) -> None:
        self.answer: Callable[[Body], Answer] = accepted
        self.received: list[tuple[str, Body]] = []
        self.arrived = threading.Semaphore(0)
        graph = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.headers["Authorization"] != f"Bearer {token}":
                    answer = refused(190)
                else:
                    graph.received.append((self.path, body))
                    answer = graph.answer(body)
                graph.arrived.release()
                if answer is None:
                    self.close_connection = True
                    return
                content = json.dumps(answer[1]).encode()
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )
        self._thread.start()

    def texts(self) -> list[str]:
        """The texts that it was sent, in order."""
        return [body["text"]["body"] for _, body in self.received if "text" in body]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
