"""The import of partners that a user would otherwise write: a merge by dlt (PyPI), one way.

dlt is no dependency: `uv run --with 'dlt[postgres]' rapport bench sync` has it.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from rapport.local.stack.running import Stack


def seconds(stack: Stack, records: Sequence[Mapping[str, JsonValue]]) -> float | None:
    """How long dlt takes to merge these records of partners; None where it is not installed."""
    if not importlib.util.find_spec("dlt"):
        return None
    # it would report each run to its makers
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    dlt = importlib.import_module("dlt")
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "bench",
            destination=dlt.destinations.postgres(stack.db_url()),
            dataset_name="bench_dlt",
            pipelines_dir=folder,
        )
        partners = dlt.resource(
            records, name="partners", primary_key="mk_id", write_disposition="merge"
        )
        begun = time.perf_counter()
        pipeline.run(partners)
        return time.perf_counter() - begun
