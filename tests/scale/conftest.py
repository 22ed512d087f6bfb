"""A big database for all tests of scale, and a report of what they measure."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest
from tests.scale.explained import Populated

from rapport.commands.bench.population import Population, populate
from rapport.local.stack.postgres import Cluster, Database

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def populated(
    pytestconfig: pytest.Config, cluster: Cluster, template: Database
) -> Iterator[Populated]:
    database = cluster.clone_database(template, "populated")
    start = time.perf_counter()
    with cluster.connect(database.name) as superuser:
        populate(superuser, Population())
    seconds = time.perf_counter() - start
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    pytestconfig.stash.setdefault(_FIGURES, []).append(
        f"{os.cpu_count()} processors, load {load}; populated in {seconds:.0f} s"
    )
    yield Populated(database)
    cluster.drop_database(database.name)


@pytest.fixture
def report(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Adds a line to what is shown at the end."""
    return pytestconfig.stash.setdefault(_FIGURES, []).append


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash.get(_FIGURES, []):
        terminalreporter.write_line(line)
