"""POST /internal/wake: the database calls it to start a worker; it does not wait for the worker."""

from __future__ import annotations

import hmac
import importlib
import time
from dataclasses import dataclass, field
from functools import cache
from typing import Literal
from uuid import uuid4

from pydantic import BaseModel

from rapport.errors import MethodNotAllowed, NotAllowed
from rapport.handlers.http import HttpRequest, Response, bearer, http_function, json_, read_json
from rapport.log import logger
from rapport.settings import Current, WakeSettings
from rapport.starter import LambdaStarter, Starter, ThreadStarter

BODY_LIMIT = 1024
# How long a worker may run in this process, in seconds: equal to its function's timeout.
RUN_TIME = {
    "deliver_outbound": 60.0,
    "fetch_media": 120.0,
    "metakocka_sync": 300.0,
    "send_later": 90.0,
    "send_notifications": 60.0,
    "sync_templates": 60.0,
}

_settings = Current(WakeSettings.load)


class Wake(BaseModel):
    """The worker to start."""

    worker: Literal[
        "deliver_outbound",
        "fetch_media",
        "metakocka_sync",
        "send_later",
        "send_notifications",
        "sync_templates",
    ]


@dataclass(frozen=True)
class _Run:
    """The context of a worker that runs in this process."""

    ends_at: float
    aws_request_id: str = field(default_factory=lambda: str(uuid4()))

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.ends_at - time.monotonic()) * 1000))


def _run_here(worker: str) -> object:
    module = importlib.import_module(f"rapport.handlers.{worker}")
    return module.handler({"worker": worker}, _Run(time.monotonic() + RUN_TIME[worker]))


@cache
def _starter() -> Starter:
    prefix = _settings().worker_function_prefix
    return LambdaStarter(prefix) if prefix else ThreadStarter(_run_here)


def _is_right(given: str) -> bool:
    secret = _settings().wake_secret
    if secret is None:
        logger.error("WAKE_SECRET is not set: workers run only on their schedule")
        return False
    return hmac.compare_digest(given.encode(), secret.get_secret_value().encode())


@http_function
def handler(request: HttpRequest) -> Response:
    """Answers 202 once the worker is certain to look for work."""
    if request.method != "POST":
        raise MethodNotAllowed
    given = bearer(request)
    if not (_is_right(given) or (_settings.reread() and _is_right(given))):
        raise NotAllowed
    worker = read_json(Wake, request, BODY_LIMIT).worker
    _starter().start(worker)
    return json_(202, {"worker": worker})
