"""Connections to other services, with one set of trusted certificates for the whole process."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    import ssl


@cache
def trusted() -> ssl.SSLContext:
    """The certificates that are trusted; to read them takes longer than all else in a client."""
    return httpx.create_ssl_context()


def http_client(
    *,
    timeout: httpx.Timeout | float | None = None,
    transport: httpx.BaseTransport | None = None,
    headers: Mapping[str, str] | None = None,
) -> httpx.Client:
    """A client whose connections are kept open from one call to the next."""
    return httpx.Client(
        timeout=timeout,
        transport=transport,
        headers=dict(headers or {}),
        # a transport of its own brings its own
        verify=True if transport else trusted(),
    )
