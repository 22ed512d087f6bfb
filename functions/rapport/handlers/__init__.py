"""One module for each deployed function: verify, parse, call, map errors."""

from __future__ import annotations

import gc

# A start makes many objects that stay. Looking for garbage among them takes a tenth of it.
gc.set_threshold(100_000, 50, 50)
