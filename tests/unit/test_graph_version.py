"""A version of the Graph API is warned of before Meta ends it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from rapport.graph_version import GRAPH_URL, GRAPH_VERSION, ending, ends_on
from rapport.settings import GraphSettings

SERVERLESS_FILE = Path(__file__).parents[2] / "serverless.yml"


def test_it_is_warned_of_in_its_last_90_days_and_after_them() -> None:
    end = ends_on()
    assert ending(end - timedelta(days=90)) is None
    for days, told in ((89, "ends"), (1, "ends"), (0, "has ended"), (-7, "has ended")):
        warning = ending(end - timedelta(days=days))
        assert warning is not None
        assert f"{GRAPH_VERSION} of Meta's Graph API {told} on {end:%Y-%m-%d}" in warning


def test_the_version_stands_in_one_place() -> None:
    assert GRAPH_URL.endswith(f"/{GRAPH_VERSION}")
    assert str(GraphSettings.model_fields["whatsapp_graph_url"].default) == GRAPH_URL
    assert "graph.facebook.com" not in SERVERLESS_FILE.read_text()
