"""The stand-in for AWS: moto's server, with the queues of serverless.yml and the bucket for files.

Queues are named by their logical ids. The contents of queues and bucket are kept on disk. It
accepts only requests that are signed with the stack's own key, and presigned addresses. Otherwise
any web page in a browser on this machine could call it.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path

from moto.backends import get_backend
from moto.core.base_backend import AccountSpecificBackend
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from rapport.errors import ConfigError
from rapport.local.fakes.aws_signatures import Verifier
from rapport.local.fakes.aws_state import AwsState
from rapport.local.stack.running import (
    AWS_ACCOUNT,
    AWS_KEY_ID,
    AWS_REGION,
    MEDIA_BUCKET,
    STACK_VARIABLE,
    Stack,
)
from rapport.local.stack.state import aws_folder
from rapport.server.memory import release_memory
from rapport.server.queues import QueueProperties
from rapport.server.serverless import SERVERLESS_FILE, Service

log = logging.getLogger("rapport.local.fakes.aws")

_QUEUES = "AmazonSQS."


class Application:
    """A WSGI application around moto: checks signatures, and stores changes before it answers."""

    def __init__(self, verifier: Verifier, state: AwsState) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._verifier = verifier
        self._state = state
        # moto loses a message that is sent while another one is deleted
        self._queues = threading.Lock()

    def __call__(self, environ: dict[str, object], start_response: object) -> Iterable[bytes]:
        return self._respond(Request(environ))(environ, start_response)  # type: ignore[arg-type]  # WSGI's own

    def _respond(self, request: Request) -> Response:
        if request.path == "/health":
            return Response("ok")
        if request.method == "OPTIONS":
            return Response.from_app(self._moto, request.environ)
        if not self._verifier.is_signed(request):
            return Response(
                "The request is not signed with this stack's key, or is out of date.", 403
            )
        if request.method in ("GET", "HEAD"):
            return Response.from_app(self._moto, request.environ)
        operation = request.headers.get("x-amz-target", "")
        waits = operation == f"{_QUEUES}ReceiveMessage"
        with self._queues if operation.startswith(_QUEUES) and not waits else nullcontext():
            response = Response.from_app(self._moto, request.environ, buffered=True)
        try:
            self._state.keep()
        except (OSError, sqlite3.Error):
            log.exception("what changed is not on the disk")
            return Response("The disk does not take it.", 503)
        return response


def create_queues(queues: Mapping[str, QueueProperties]) -> None:
    """Creates queues in this process's moto; dead-letter queues first."""
    sqs = get_backend("sqs")[AWS_ACCOUNT][AWS_REGION]
    arns: dict[str, str] = {}
    for name, queue in sorted(queues.items(), key=lambda pair: pair[1].redrive is not None):
        arns[name] = sqs.create_queue(name, None, **queue.attributes(arns)).queue_arn


def create_bucket(name: str) -> None:
    """Creates a bucket in this process's moto."""
    # buckets belong to no region
    get_backend("s3")[AWS_ACCOUNT]["aws"].create_bucket(name, AWS_REGION)


def main() -> None:
    """Serves until it is stopped."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    stack = Stack.load(Path(os.environ[STACK_VARIABLE]))
    try:
        create_queues(Service.read(SERVERLESS_FILE).resources.queues)
    except ConfigError as error:
        raise SystemExit(str(error)) from error
    create_bucket(MEDIA_BUCKET)
    sqs = get_backend("sqs")[AWS_ACCOUNT][AWS_REGION]
    s3 = get_backend("s3")[AWS_ACCOUNT]["aws"]
    state = AwsState(aws_folder(stack.folder), sqs, s3, MEDIA_BUCKET)
    state.restore()
    # it has the addresses of all of AWS (8 MB), and moto has read those that it needs
    AccountSpecificBackend.get_session.cache_clear()
    host = stack.aws_url.removeprefix("http://")
    app = Application(Verifier(AWS_KEY_ID, stack.aws_secret, host), state)
    release_memory()
    make_server(
        stack.listen, stack.moto_port, app, threaded=True, request_handler=MotoRequestHandler
    ).serve_forever()


if __name__ == "__main__":
    main()
