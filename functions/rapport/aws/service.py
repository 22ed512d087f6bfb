"""One service of AWS, called over HTTPS."""

from __future__ import annotations

import json
import os
import re
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

from rapport.aws.signature import UNSIGNED, Credentials, Signer
from rapport.connections import Answer, Connections, Stream, Unreachable
from rapport.errors import ConfigError
from rapport.retry import Retries, Sleep, repeated

_XML_CODE = re.compile(r"<Code>([^<]{1,100})</Code>")


class AwsUnreachable(Exception):  # noqa: N818 - what has happened
    """A service of AWS can't be reached; the name of what happened is its text."""


class AwsRefused(Exception):  # noqa: N818 - what has happened
    """A service of AWS refused a call."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{code} (status {status})")
        self.status = status
        # the service's own, such as ParameterNotFound
        self.code = code

    @property
    def passes(self) -> bool:
        """Whether the same call may succeed in a moment."""
        return self.status >= 500 or self.status == 429 or self.code.startswith("Throttl")


class AwsService:
    """Makes signed calls to a service; safe to share between threads.

    Its address is AWS's own, or that of `AWS_ENDPOINT_URL_<SERVICE>` or `AWS_ENDPOINT_URL`. Every
    call raises

        AwsUnreachable: It can't be reached.
        AwsRefused: It refused.
        ConfigError: There are no credentials, or no region.
    """

    def __init__(
        self,
        service: str,
        *,
        timeout: float,
        connect: float | None = None,
        attempts: int = 2,
        # how it pauses before it calls again
        sleep: Sleep = time.sleep,
    ) -> None:
        self._sleep = sleep
        self._service = service
        self._timeout = timeout
        self._connect = connect
        self._attempts = attempts

    @property
    def endpoint(self) -> str:
        """Where the service is, without a slash at the end."""
        own = (
            os.environ.get(f"AWS_ENDPOINT_URL_{self._service.upper()}")
            or os.environ.get("AWS_ENDPOINT_URL")
            or f"https://{self._service}.{region()}.amazonaws.com"
        )
        return own.rstrip("/")

    @property
    def signer(self) -> Signer:
        """With the credentials of now: those of a role change."""
        return Signer(Credentials.of_environment(), self._service, region())

    def ask(self, target: str, version: str, body: Mapping[str, object]) -> dict[str, object]:
        """What an operation of one of the JSON protocols (`version` 1.0 or 1.1) answers."""
        answer = self.send(
            "POST",
            f"{self.endpoint}/",
            {"content-type": f"application/x-amz-json-{version}", "x-amz-target": target},
            json.dumps(body).encode(),
        )
        told = answer.json() if answer.content else {}
        return told if isinstance(told, dict) else {}

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """The answer to one request, tried again after a pause where the failure passes."""

        def once() -> Answer:
            signed = self.signer.headers(method, url, headers, body)
            with _reached():
                answer = self._http.send(method, url, signed, body)
            if not answer.is_success:
                raise _refused(answer)
            return answer

        return repeated(Retries(self._attempts, first_wait=0.2), _may_pass, self._sleep)(once)

    @contextmanager
    def stream(self, method: str, url: str) -> Iterator[Stream]:
        """The answer to one request, whose body is read as it comes."""
        headers = self.signer.headers(method, url, {}, UNSIGNED if url[:6] == "https:" else b"")
        with _reached(), self._http.stream(method, url, headers) as answer:
            if not 200 <= answer.status < 300:
                raise _refused(Answer(answer.status, answer.headers, b"".join(answer.chunks)))
            yield answer

    @cached_property
    def _http(self) -> Connections:
        connections = Connections(timeout=self._timeout, connect=self._connect)
        # they end with the service
        weakref.finalize(self, connections.close)
        return connections


def _may_pass(error: Exception) -> bool:
    """Whether the same call may succeed in a moment."""
    return isinstance(error, AwsUnreachable) or (isinstance(error, AwsRefused) and error.passes)


def region() -> str:
    """The region that the function runs in.

    Raises:
        ConfigError: It is not known.
    """
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not named:
        raise ConfigError("AWS_REGION is not set. Lambda sets it; elsewhere set it yourself.")
    return named


def _refused(answer: Answer) -> AwsRefused:
    return AwsRefused(answer.status, _code_of(answer))


def _code_of(answer: Answer) -> str:
    """The code of a refusal, in JSON, in a header or in XML."""
    named = answer.headers.get("x-amzn-errortype")
    if named:
        return named.partition(":")[0].rpartition("#")[2]
    try:
        told = answer.json()
    except (ValueError, RecursionError):
        found = _XML_CODE.search(answer.text)
        return found[1] if found else "unknown"
    kind = told.get("__type") if isinstance(told, dict) else None
    return kind.rpartition("#")[2] if isinstance(kind, str) else "unknown"


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except Unreachable as error:
        raise AwsUnreachable(str(error)) from None
