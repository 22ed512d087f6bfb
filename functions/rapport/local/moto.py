"""The stand-in for AWS: moto's server, with the queues of serverless.yml and the bucket for files.

What it holds is gone when it stops. Its queues are named by their logical ids.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from moto.backends import get_backend
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from rapport.errors import ConfigError
from rapport.local.queues import Queue
from rapport.local.serverless import SERVERLESS_FILE, Service
from rapport.local.stack import AWS_ACCOUNT, AWS_REGION, MEDIA_BUCKET, STACK_VARIABLE, Stack


def create_queues(queues: Mapping[str, Queue]) -> None:
    """Creates queues in this process's moto, those for dead letters before those that use them."""
    sqs = get_backend("sqs")[AWS_ACCOUNT][AWS_REGION]
    arns: dict[str, str] = {}
    for name, queue in sorted(queues.items(), key=lambda pair: pair[1].redrive is not None):
        arns[name] = sqs.create_queue(name, None, **queue.attributes(arns)).queue_arn


def create_bucket(name: str) -> None:
    """Creates a bucket in this process's moto."""
    # buckets are of no region
    get_backend("s3")[AWS_ACCOUNT]["aws"].create_bucket(name, AWS_REGION)


def main() -> None:
    """Serves until it is stopped."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    stack = Stack.load(Path(os.environ[STACK_VARIABLE]))
    try:
        create_queues(Service.read(SERVERLESS_FILE).resources.queues)
    except ConfigError as error:
        raise SystemExit(str(error)) from error
    create_bucket(MEDIA_BUCKET)
    app = DomainDispatcherApplication(create_backend_app)
    make_server(
        stack.host, stack.moto_port, app, threaded=True, request_handler=MotoRequestHandler
    ).serve_forever()


if __name__ == "__main__":
    main()
