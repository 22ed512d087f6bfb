"""The version of the Graph API that is called, and until when Meta serves it.

A new version stands here alone: the settings, the stand-in and `rapport doctor` take it from here.

Source: developers.facebook.com, "Graph API Changelog" and "Platform Versioning": a version ends two
years after the next one came.
"""

from __future__ import annotations

from datetime import date

GRAPH_VERSION = "v26.0"
GRAPH_URL = f"https://graph.facebook.com/{GRAPH_VERSION}"

# the day from which Meta answers calls of a version with the oldest one that there still is
_ENDS = {
    "v21.0": date(2027, 1, 21),
    "v22.0": date(2027, 5, 20),
    "v23.0": date(2027, 10, 8),
    "v24.0": date(2028, 2, 18),
    "v25.0": date(2028, 7, 29),
    # not announced yet: v27.0 came on 4 November 2026
    "v26.0": date(2028, 11, 4),
}
# how long before its end a version is warned of
_DAYS = 90


def ends_on() -> date:
    """The last day on which the version can be relied on."""
    return _ENDS[GRAPH_VERSION]


def ending(today: date) -> str | None:
    """A warning if the version ends within 90 days, or has ended; else None."""
    left = (ends_on() - today).days
    if left >= _DAYS:
        return None
    told = f"ends on {ends_on():%Y-%m-%d}" if left > 0 else f"has ended on {ends_on():%Y-%m-%d}"
    return (
        f"The version {GRAPH_VERSION} of Meta's Graph API {told}."
        " Take a version of Rapport that calls a later one, and deploy it."
    )
