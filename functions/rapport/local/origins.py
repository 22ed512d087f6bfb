"""The addresses of a stack's servers, and the check of paths that need no key: only this machine
may ask, or its network where the stack is open to it, and no page of another site.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from rapport.local.stack.running import Stack

if TYPE_CHECKING:
    # `rapport up` itself serves nothing
    from starlette.requests import Request

# no host is here: which of our addresses leads outside is asked of the kernel, and nothing is sent
_SOMEWHERE = ("192.0.2.1", 9)


class OwnOrigin:
    """The address of a server on this machine, by each of the machine's own names.

    A browser lets every site that the developer visits ask here; one that makes its own name point
    here asks with another host. No site can do so with a number for a host.
    """

    def __init__(self, url: str, *, is_open: bool = False) -> None:
        self._port = url.rpartition(":")[2]
        self._is_open = is_open
        self._hosts = {f"{host}:{self._port}" for host in ("127.0.0.1", "localhost", "[::1]")}
        self._origins = {f"http://{host}" for host in self._hosts}

    @classmethod
    def of(cls, stack: Stack) -> OwnOrigin:
        """The address of a stack's gateway."""
        return cls(stack.url, is_open=stack.is_open)

    def sent(self, request: Request) -> bool:
        """Whether a request comes from a page of this address, or from no page at all."""
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        is_own = host in self._hosts or (self._is_open and self._is_of_the_network(host))
        return is_own and (origin is None or origin == f"http://{host}" or origin in self._origins)

    def _is_of_the_network(self, host: str) -> bool:
        name, _, port = host.rpartition(":")
        if port != self._port:
            return False
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return name.lower() in _names()
        return True


def network_urls(stack: Stack) -> list[str]:
    """Where others in the network find the stack, the likeliest first; nothing if it isn't open."""
    if not stack.is_open:
        return []
    return [f"http://{host}:{stack.gateway_port}" for host in (*_addresses(), *_names())]


def _addresses() -> list[str]:
    """This machine's IPv4 addresses in networks, the one that leads outside first."""
    # not above: few stacks are open
    import psutil

    states = psutil.net_if_stats()
    found = [
        address.address
        for name, addresses in psutil.net_if_addrs().items()
        if name in states and states[name].isup
        for address in addresses
        if address.family is socket.AF_INET and not address.address.startswith("127.")
    ]
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_SOMEWHERE)
            outward = probe.getsockname()[0]
        except OSError:
            outward = ""
    return sorted(found, key=lambda address: address != outward)


def _names() -> tuple[str, str]:
    name = socket.gethostname().lower()
    return name, f"{name.removesuffix('.local')}.local"
