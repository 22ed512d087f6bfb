"""A proxy is for what is outside of this machine."""

from __future__ import annotations

import os


def without_proxy(host: str) -> dict[str, str]:
    """Lets functions reach the stack on a machine that is behind a proxy."""
    others = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    return {"no_proxy": f"{others},{host}" if others else host}
