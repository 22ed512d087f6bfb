"""Figures for alarms, as lines of the log that CloudWatch reads (embedded metric format).

A line holds a figure, its unit and its name: no account, no number, no person.

Source: docs.aws.amazon.com, "Specification: Embedded metric format".
"""

from __future__ import annotations

import json
import sys
import time
from functools import cache
from typing import Literal

from rapport.settings import MetricsSettings

Unit = Literal["Count", "Seconds"]

# each figure that a function tells, and its unit; the alarms in serverless.yml name them
FIGURES: dict[str, Unit] = {
    "DailyRuns": "Count",
    "FailingSyncs": "Count",
    "OldestOutboundAge": "Seconds",
    "OldestWebhookAge": "Seconds",
    "RefusedSignatures": "Count",
    "StoppedNumbers": "Count",
    "UnregisteredNumbers": "Count",
}


@cache
def _namespace() -> str | None:
    return MetricsSettings.load().metrics_namespace


def tell(**figures: float) -> None:
    """Writes the figures; nothing where no namespace is set, as on a developer's machine."""
    namespace = _namespace()
    if namespace is None:
        return
    line = {
        "_aws": {
            "Timestamp": int(time.time() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": namespace,
                    "Dimensions": [[]],
                    "Metrics": [{"Name": name, "Unit": FIGURES[name]} for name in figures],
                }
            ],
        },
        **figures,
    }
    # one write, so that lines of two threads don't mix
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
