"""The check of paths that need no key: only this machine may ask, and no page of another site."""

from __future__ import annotations

from starlette.requests import Request


class OwnOrigin:
    """The address of a server on this machine, by each of the machine's own names.

    A browser lets every site that the developer visits ask here; one that makes its own name point
    here asks with another host.
    """

    def __init__(self, url: str) -> None:
        port = url.rpartition(":")[2]
        self._hosts = {f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]")}
        self._origins = {f"http://{host}" for host in self._hosts}

    def sent(self, request: Request) -> bool:
        """Whether a request comes from a page of this address, or from no page at all."""
        origin = request.headers.get("origin")
        return request.headers.get("host") in self._hosts and (
            origin is None or origin in self._origins
        )
