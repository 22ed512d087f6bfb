"""Runs one function's handler with the zip's folder and Python's own library alone.

Reads {"handler", "events", "timeout"} from stdin; writes what each event was answered, as JSON, to
the file that it is given. The function's log goes to stdout.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import uuid
from pathlib import Path


class Context:
    """What Lambda tells a function of its run."""

    function_name = "bare"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:eu-central-1:1:function:bare"

    def __init__(self, timeout: float) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self._ends_at = time.monotonic() + timeout

    def get_remaining_time_in_millis(self) -> int:
        """Until the function would be stopped."""
        return int(max(0, self._ends_at - time.monotonic()) * 1000)


def main(folder: str, answers: str) -> None:
    """Runs the events one after the other."""
    sys.path.insert(0, folder)
    asked = json.load(sys.stdin)
    module, _, name = asked["handler"].rpartition(".")
    handler = getattr(importlib.import_module(module), name)
    told = [handler(event, Context(asked["timeout"])) for event in asked["events"]]
    # what was imported is of the zip or of Python itself
    foreign = [
        file
        for one in list(sys.modules.values())
        if (file := getattr(one, "__file__", None)) and "site-packages" in file
    ]
    Path(answers).write_text(json.dumps({"answers": told, "foreign": foreign}))


if __name__ == "__main__":
    main(*sys.argv[1:])
