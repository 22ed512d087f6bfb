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

import httpx

from rapport.aws.signature import UNSIGNED, Credentials, Signer
from rapport.connections import http_client
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
        timeout: httpx.Timeout,
        attempts: int = 2,
        # how it pauses before it calls again
        sleep: Sleep = time.sleep,
    ) -> None:
        self._sleep = sleep
        self._service = service
        self._timeout = timeout
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
        told = json.loads(answer.content or b"{}")
        return told if isinstance(told, dict) else {}

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes = b""
    ) -> httpx.Response:
        """The answer to one request, tried again after a pause where the failure passes."""

        def once() -> httpx.Response:
            with _reached():
                response = self._http.request(
                    method,
                    url,
                    headers=self.signer.headers(method, url, headers, body),
                    content=body,
                )
            return require_good(response)

        return repeated(Retries(self._attempts, first_wait=0.2), _may_pass, self._sleep)(once)

    @contextmanager
    def stream(self, method: str, url: str) -> Iterator[httpx.Response]:
        """The answer to one request, whose body is read as it comes."""
        headers = self.signer.headers(method, url, {}, UNSIGNED if url[:6] == "https:" else b"")
        with _reached(), self._http.stream(method, url, headers=headers) as response:
            if not response.is_success:
                response.read()
            yield require_good(response)

    @cached_property
    def _http(self) -> httpx.Client:
        client = http_client(timeout=self._timeout)
        # its connections end with the service
        weakref.finalize(self, client.close)
        return client


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


def require_good(response: httpx.Response) -> httpx.Response:
    """The response, unless it is a refusal. Raises AwsRefused."""
    if response.is_success:
        return response
    raise AwsRefused(response.status_code, _code_of(response))


def _code_of(response: httpx.Response) -> str:
    """The code of a refusal, in JSON, in a header or in XML."""
    named: str | None = response.headers.get("x-amzn-errortype")
    if named:
        return named.partition(":")[0].rpartition("#")[2]
    try:
        told = response.json()
    except (ValueError, RecursionError):
        found = _XML_CODE.search(response.text)
        return found[1] if found else "unknown"
    kind = told.get("__type") if isinstance(told, dict) else None
    return kind.rpartition("#")[2] if isinstance(kind, str) else "unknown"


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except httpx.RequestError as error:
        # its text names hosts
        raise AwsUnreachable(type(error).__name__) from None
