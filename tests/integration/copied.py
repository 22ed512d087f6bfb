"""A part of a stack for tests: says what it was given, and goes on as it is told."""

from __future__ import annotations

import json
import os
import signal
import sys


def main() -> None:
    told = {
        "arguments": sys.argv[1:],
        "folder": os.getcwd(),  # noqa: PTH109 - as the process has it
        "variables": sorted(name for name in os.environ if name.startswith("COPIED_")),
        "leads_its_session": os.getsid(0) == os.getpid(),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    if "fail" in sys.argv:
        raise SystemExit(3)
    signal.pause()
