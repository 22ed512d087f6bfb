"""One version everywhere, and what functions of one release do with the schema of another."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from rapport.release import VERSION, Fit, fit

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "functions" / "rapport"
(RELEASE_SQL,) = PROJECT.glob("sql/0_foundation/*_release.sql")
README = (PROJECT / "README.md").read_text()


def test_everything_that_is_released_has_one_version() -> None:
    lock = json.loads((PACKAGE / "web" / "package-lock.json").read_text())
    said = {
        "pyproject.toml": tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"][
            "version"
        ],
        "package.json": json.loads((PACKAGE / "web" / "package.json").read_text())["version"],
        "package-lock.json": lock["version"],
        "openapi.json": json.loads((PACKAGE / "handlers" / "openapi.json").read_text())["info"][
            "version"
        ],
        "package-lock.json, itself": lock["packages"][""]["version"],
    }
    for name, pattern in {
        "the schema": r"select '(\d+\.\d+\.\d+)'",
        "its comment": r"say it: (\d+\.\d+\.\d+)\.'",
    }.items():
        (said[name],) = re.findall(pattern, RELEASE_SQL.read_text())
    # the newest stands first
    said["the notes"] = re.findall(
        r"^## (\S+)$", (PACKAGE / "releases.md").read_text(), re.MULTILINE
    )[0]
    said |= {
        f"README, {at}": one for at, one in enumerate(re.findall(r"live-(\d+\.\d+\.\d+)", README))
    }

    assert said == dict.fromkeys(said, VERSION)


@pytest.mark.parametrize(
    ("schema", "functions", "expected"),
    [
        ("0.1.0", "0.1.0", Fit.SAME),
        ("0.1.3", "0.1.0", Fit.SAME),
        ("0.1.9", "0.2.0", Fit.SCHEMA_BEHIND),
        ("0.2.0", "0.1.4", Fit.FUNCTIONS_BEHIND),
        ("0.1.0", "0.3.0", Fit.SCHEMA_FAR_BEHIND),
        ("0.10.0", "0.9.0", Fit.FUNCTIONS_BEHIND),
        ("1.0.0", "0.9.0", Fit.FUNCTIONS_FAR_BEHIND),
        ("0.9.0", "1.0.0", Fit.SCHEMA_FAR_BEHIND),
    ],
)
def test_functions_go_with_the_schema_of_the_release_beside_their_own(
    schema: str, functions: str, expected: Fit
) -> None:
    assert fit(schema, functions) is expected
    assert expected.is_far == ("FAR" in expected.name)
    assert bool(expected.value) == (expected is not Fit.SAME)
