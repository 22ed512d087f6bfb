"""Connections to other services, with one set of trusted certificates for the whole process."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import httpx

# the functions' zip has the certificates here, each in a file that OpenSSL reads when it needs it
CERTIFICATES = Path(__file__).with_name("certificates")


@cache
def trusted(folder: Path = CERTIFICATES) -> ssl.SSLContext:
    """The certificates that SSL_CERT_FILE or SSL_CERT_DIR names, or those of the folder; without a
    folder certifi's, which take long to read.
    """
    is_told = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if folder.is_dir() and not is_told:
        return ssl.create_default_context(capath=folder)
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
