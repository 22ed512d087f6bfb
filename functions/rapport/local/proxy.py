"""A proxy is for what is outside of this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping

_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy"})


def without_proxy(*hosts: str) -> dict[str, str]:
    """Variables by which these hosts are reached directly, beside those that are already."""
    others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    value = ",".join(filter(None, (others, *hosts)))
    return {"no_proxy": value, "NO_PROXY": value}


def without_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that talks to this machine alone.

    Proxies are left out, and not only not used: one of a kind that a client doesn't know keeps
    the client from being made.
    """
    kept = {name: value for name, value in environment.items() if name.lower() not in _PROXIES}
    # or macOS' settings count in their place
    return kept | {"no_proxy": "*", "NO_PROXY": "*"}


def forget_proxies() -> None:
    """Makes this process one that talks to this machine alone."""
    kept = without_proxies(os.environ)
    for name in set(os.environ) - set(kept):
        del os.environ[name]
    os.environ.update(kept)
