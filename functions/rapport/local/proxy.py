"""Keeps proxies away from requests to this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping

_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy"})


def without_proxy(*hosts: str) -> dict[str, str]:
    """Variables that exclude these hosts from the proxy, beside the hosts that are already
    excluded.
    """
    others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    value = ",".join(filter(None, (others, *hosts)))
    return {"no_proxy": value, "NO_PROXY": value}


def without_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that talks only to this machine.

    Proxy variables are removed, since some clients fail on a proxy of a kind that they don't know.
    """
    kept = {name: value for name, value in environment.items() if name.lower() not in _PROXIES}
    # otherwise the settings of macOS would apply
    return kept | {"no_proxy": "*", "NO_PROXY": "*"}


def forget_proxies() -> None:
    """Makes this process one that talks only to this machine."""
    kept = without_proxies(os.environ)
    for name in set(os.environ) - set(kept):
        del os.environ[name]
    os.environ.update(kept)
