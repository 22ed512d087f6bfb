"""Gives memory back that a process needed for its start alone."""

from __future__ import annotations

import ctypes
import gc
import sys


def release_memory() -> None:
    """Returns what imports and compiling have left to the system: some MB of each process."""
    gc.collect()
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        # glibc's own; other C libraries keep less
        if hasattr(libc, "malloc_trim"):
            libc.malloc_trim(0)
