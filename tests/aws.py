"""In AWS' place: writes down what is asked for, answers for parameters, and hands the rest on."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import httpx

KEY = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_REGION": "eu-central-1",
}
# headers of one connection
_HOP = {"connection", "content-length", "transfer-encoding"}


class Call(NamedTuple):
    """What was done to what, in the words of a role: `ssm:GetParameters`, `/x/y`."""

    action: str
    resource: str


class Aws:
    """What there is, what happened, and what goes wrong."""

    def __init__(self, upstream: str | None = None) -> None:
        # a server that speaks S3 and SQS
        self.upstream = upstream
        self.url = ""
        self.parameters: dict[str, str] = {}
        self.calls: list[Call] = []
        # by action, the status and the code of all its answers
        self.faults: dict[str, tuple[int, str]] = {}
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        # a part of the path of an upload's end: its answer is lost, and S3 knows it no more
        self.lost: str | None = None
        self._is_over = False

    def environment(self) -> dict[str, str]:
        """What leads a function here."""
        return KEY | {"AWS_ENDPOINT_URL": self.url, "AWS_ENDPOINT_URL_S3": self.url}

    def answer(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        self.requests.append((path, headers, body))
        calls = list(_calls_of(method, path, headers, body))
        self.calls += calls
        for call in calls:
            if call.action in self.faults:
                status, code = self.faults[call.action]
                return status, {}, json.dumps({"__type": code}).encode()
        match calls[0].action:
            case "ssm:GetParameters":
                found = [
                    {"Name": call.resource, "Value": self.parameters[call.resource]}
                    for call in calls
                    if call.resource in self.parameters
                ]
                return 200, {}, json.dumps({"Parameters": found}).encode()
            case "lambda:InvokeFunction":
                return 202, {}, b""
        if self._is_over:
            self._is_over, self.lost = False, None
            return 404, {}, b'{"__type": "NoSuchUpload"}'
        if self.upstream is None:
            return 404, {}, b'{"__type": "NotHere"}'
        answer = httpx.request(
            method, self.upstream + path, headers=headers, content=body, trust_env=False, timeout=30
        )
        if method == "POST" and self.lost is not None and self.lost in path:
            self._is_over = True
            return 503, {}, b""
        kept = {name: value for name, value in answer.headers.items() if name not in _HOP}
        return answer.status_code, kept, answer.content


def _calls_of(method: str, path: str, headers: dict[str, str], body: bytes) -> Iterator[Call]:
    target = headers.get("x-amz-target", "")
    if target.startswith("AmazonSSM."):
        for name in json.loads(body)["Names"]:
            yield Call("ssm:GetParameters", name)
    elif target.startswith("AmazonSQS."):
        queue = json.loads(body)["QueueUrl"].rpartition("/")[2]
        yield Call(f"sqs:{target.partition('.')[2]}", queue)
    elif path.startswith("/2015-03-31/functions/"):
        yield Call("lambda:InvokeFunction", path.split("/")[3])
    else:
        yield Call(_s3_action(method, path), path.partition("?")[0].rstrip("/"))


def _s3_action(method: str, path: str) -> str:
    if method == "DELETE" and "uploadId=" in path:
        return "s3:AbortMultipartUpload"
    if "list-type=" in path:
        return "s3:ListBucket"
    # parts and their end need what a whole file needs
    return {
        "DELETE": "s3:DeleteObject",
        "GET": "s3:GetObject",
        "PUT": "s3:PutObject",
        "POST": "s3:PutObject",
    }[method]


@contextmanager
def recording(upstream: str | None = None) -> Iterator[Aws]:
    """Listens on a free port until the end."""
    aws = Aws(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            given = {name.lower(): value for name, value in self.headers.items()}
            status, headers, content = aws.answer(self.command, self.path, given, body)
            self.send_response_only(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    aws.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield aws
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
