"""Connections to addresses that users name: to the public internet alone, and never for long.

A name is looked up once. The address that was found is checked and connected to, so a name that
changes its address in between leads nowhere else.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import httpcore

if TYPE_CHECKING:
    import ssl


class AddressRefused(Exception):  # noqa: N818 - what has happened
    """The address is of a private network, or of none."""


def is_allowed(address: str, *, allows_loopback: bool) -> bool:
    """Whether functions may connect to an IP address that a user's name led to."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # an address of IPv4 in the clothes of IPv6
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None:
            return is_allowed(str(inner), allows_loopback=allows_loopback)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
            return is_allowed(str(inner), allows_loopback=allows_loopback)
        if ip not in _GLOBAL_UNICAST:
            return allows_loopback and ip.is_loopback
    return (ip.is_global and not ip.is_multicast) or (allows_loopback and ip.is_loopback)


# all that IANA has given to the public internet; other ranges have led to IPv4 or to a site
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class GuardedBackend(httpcore.SyncBackend):
    """Connects to allowed addresses; a thread's exchange ends after its own deadline."""

    def __init__(self, *, allows_loopback: bool) -> None:
        self._allows_loopback = allows_loopback
        self._own = threading.local()

    def start(self, seconds: float) -> None:
        """Begins an exchange of this thread that may last so long."""
        self._own.ends_at = time.monotonic() + seconds

    def rest(self) -> float:
        """The seconds that are left to this thread's exchange. Raises ReadTimeout without any."""
        rest: float = self._own.ends_at - time.monotonic()
        if rest <= 0:
            raise httpcore.ReadTimeout("The exchange takes too long.")
        return rest

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connects to the name's addresses in turn. Raises AddressRefused where one is private."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # UnicodeError: a label of the name is empty or longer than 63 characters
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(str(error)) from None
        addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
        if not all(is_allowed(one, allows_loopback=self._allows_loopback) for one in addresses):
            raise AddressRefused
        failure: Exception = httpcore.ConnectError("The name has no address.")
        for address in addresses:
            limit = min(timeout or self.rest(), self.rest())
            try:
                stream = super().connect_tcp(address, port, limit, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            return _Timed(stream, self)
        raise failure


class _Timed(httpcore.NetworkStream):
    """A connection on which no single wait is longer than the rest of the exchange."""

    def __init__(self, stream: httpcore.NetworkStream, backend: GuardedBackend) -> None:
        self._stream = stream
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - httpcore's
        return self._stream.read(max_bytes, self._backend.rest())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - httpcore's
        self._stream.write(buffer, self._backend.rest())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - httpcore's
    ) -> httpcore.NetworkStream:
        inner = self._stream.start_tls(ssl_context, server_hostname, self._backend.rest())
        return _Timed(inner, self._backend)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)
