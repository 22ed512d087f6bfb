"""What runs on one machine: the embedded Supabase and the stand-ins, beside `rapport serve`; never
deployed.
"""

from __future__ import annotations

import sys

# httpx imports its command line where rich is installed: 4 MB in each process that is not one.
# None is Python's way of saying that a module can't be imported, for which httpx is prepared.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # typeshed knows modules alone
