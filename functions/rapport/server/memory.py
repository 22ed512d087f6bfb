"""Gives memory back that a process needed for its start alone."""

from __future__ import annotations

import ctypes
import gc
import sys


def release_memory() -> None:
    """Returns unused memory to the system: imports and compiling leave some MB in a process."""
    gc.collect()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        # glibc's own; other C libraries keep less
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)
