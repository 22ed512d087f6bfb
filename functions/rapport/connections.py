"""Connections to other services, with one set of trusted certificates for the whole process.

The functions that answer at once call by `Connections`. The others may call by httpx, which does
more, and which takes longer to import than all of our modules.
"""

from __future__ import annotations

import json
import os
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

import httpcore

if TYPE_CHECKING:
    import httpx

# the functions' zip has the certificates here, each in a file that OpenSSL reads when it needs it
CERTIFICATES = Path(__file__).with_name("certificates")
# connections of one client, as httpx has them: at a time, idle, and seconds that one may be idle
_AT_A_TIME, _IDLE, _IDLE_SECONDS = 100, 20, 5.0
_HEADERS: dict[bytes | str, bytes | str] = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "User-Agent": "rapport",
}
_WITH_BODY = ("POST", "PUT", "PATCH")
_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
)


@cache
def trusted(folder: Path = CERTIFICATES) -> ssl.SSLContext:
    """The certificates that SSL_CERT_FILE or SSL_CERT_DIR names, or those of the folder; without a
    folder certifi's, which take long to read.
    """
    file, named = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file or named:
        return ssl.create_default_context(cafile=file or None, capath=None if file else named)
    if folder.is_dir():
        return ssl.create_default_context(capath=folder)
    import certifi

    return ssl.create_default_context(cafile=certifi.where())


class Unreachable(Exception):  # noqa: N818 - it reads better than UnreachableError
    """A service can't be reached, or its answer was cut; the name of what happened is its text."""


class Answer(NamedTuple):
    """An answer as it came; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_success(self) -> bool:
        """Whether the status is one of 200 to 299."""
        return 200 <= self.status < 300

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.content.decode(errors="replace")

    def json(self) -> object:
        """The body's value.

        Raises:
            ValueError: It is not JSON, or has a number with too many digits.
            RecursionError: It is nested too deep.
        """
        value: object = json.loads(self.content)
        return value


class Http(Protocol):
    """Makes calls over HTTP."""

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """The answer of any status. A redirection is an answer too, and is not followed.

        Raises:
            Unreachable: There is none.
        """
        ...

    def close(self) -> None:
        """Closes the connections."""
        ...


class Stream(NamedTuple):
    """An answer whose body is read as it comes."""

    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


class Connections:
    """Calls over HTTP whose connections are kept open from one to the next; for all threads.

    Times are seconds: `timeout` for each wait, `connect` for the connection. Calls go through the
    proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names, unless NO_PROXY names the host.
    """

    def __init__(self, *, timeout: float, connect: float | None = None) -> None:
        self._timeouts = {
            "connect": timeout if connect is None else connect,
            **dict.fromkeys(("read", "write", "pool"), timeout),
        }
        self._trusted = trusted()
        self._lock = threading.Lock()
        # by the proxy
        self._pools: dict[str | None, httpcore.ConnectionPool] = {}

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """As `Http.send`."""
        with self.stream(method, url, headers, body) as answer:
            return Answer(answer.status, answer.headers, b"".join(answer.chunks))

    @contextmanager
    def stream(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes = b""
    ) -> Iterator[Stream]:
        """The answer whose body is read as it comes. Raises Unreachable, also while it is read."""
        try:
            with self._pool(_proxy_for(url)).stream(
                method,
                url,
                headers=[*_HEADERS.items(), *headers.items()],
                content=body if body or method in _WITH_BODY else None,
                extensions={"timeout": self._timeouts},
            ) as answer:
                told = {
                    name.decode("ascii").lower(): value.decode("latin-1")
                    for name, value in answer.headers
                }
                yield Stream(answer.status, told, iter(answer.iter_stream()))
        except _FAILURES as error:
            # its text names hosts
            raise Unreachable(type(error).__name__) from None

    def close(self) -> None:
        """Closes the connections."""
        with self._lock:
            for pool in self._pools.values():
                pool.close()
            self._pools.clear()

    def _pool(self, proxy: str | None) -> httpcore.ConnectionPool:
        with self._lock:
            if proxy not in self._pools:
                self._pools[proxy] = self._new_pool(proxy)
            return self._pools[proxy]

    def _new_pool(self, proxy: str | None) -> httpcore.ConnectionPool:
        if proxy is None:
            return httpcore.ConnectionPool(
                ssl_context=self._trusted,
                max_connections=_AT_A_TIME,
                max_keepalive_connections=_IDLE,
                keepalive_expiry=_IDLE_SECONDS,
            )
        named = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        login = (unquote(named.username or "").encode(), unquote(named.password or "").encode())
        return httpcore.HTTPProxy(
            proxy_url=f"{named.scheme}://{named.netloc.rpartition('@')[2]}",
            proxy_auth=login if any(login) else None,
            ssl_context=self._trusted,
            max_connections=_AT_A_TIME,
            max_keepalive_connections=_IDLE,
            keepalive_expiry=_IDLE_SECONDS,
        )


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for an address."""
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    # imported when needed: functions have no proxy, and it takes its time
    from urllib.request import getproxies, proxy_bypass

    address = urlsplit(url)
    if proxy_bypass(address.netloc.rpartition("@")[2]):
        return None
    proxies = getproxies()
    return proxies.get(address.scheme) or proxies.get("all")


def http_client(
    *,
    timeout: httpx.Timeout | float | None = None,
    transport: httpx.BaseTransport | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Client:
    """A client of httpx, whose connections are kept open from one call to the next."""
    import httpx

    return httpx.Client(
        timeout=timeout,
        transport=transport,
        headers=dict(headers or {}),
        # a transport of its own brings its own
        verify=True if transport else trusted(),
    )
