"""The live client in JavaScript: its types, its size, and the promises that it keeps alone."""

from __future__ import annotations

import gzip
import re

import pytest
from tests.web import node


def test_types_are_right() -> None:
    modules = node.install()

    checked = node.run(modules / "typescript" / "bin" / "tsc", "--project", node.WEB)

    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", ["scenarios"])
def test_what_is_tested_in_node(name: str) -> None:
    tested = node.run("--test", "--test-reporter=tap", node.HERE / f"{name}.test.mjs")

    assert tested.returncode == 0, tested.stdout
    passed = re.search(r"^# pass (\d+)$", tested.stdout, re.MULTILINE)
    assert passed
    assert int(passed[1]) > 0


def test_live_is_small() -> None:
    """As a bundler hands it out: without what is written for people."""
    size = len(gzip.compress(node.bundled(node.WEB / "live" / "index.js").encode(), 9))

    assert size <= 12 * 1024
