"""`python -m rapport.server`: where the command line is not installed, as in the container."""

import sys

# httpx imports its command line where rich is installed, as on a developer's machine: 4 MB. None is
# Python's way of saying that a module can't be imported, for which httpx is prepared.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # typeshed knows modules alone

from rapport.server.serve import main  # noqa: E402 - after the line above

main()
