"""The live client in JavaScript: its size, and the promises that it keeps alone.

Its types are checked where it is packed: see `integration/test_web_package.py`.
"""

from __future__ import annotations

import gzip
import re

import pytest
from tests.web import node


@pytest.mark.parametrize("name", ["scenarios", "errors"])
def test_what_is_tested_in_node(name: str) -> None:
    tested = node.run("--test", "--test-reporter=tap", node.HERE / f"{name}.test.mjs")

    assert tested.returncode == 0, tested.stdout
    passed = re.search(r"^# pass (\d+)$", tested.stdout, re.MULTILINE)
    assert passed
    assert int(passed[1]) > 0


# what comes when it is asked for: a desk's contacts, and what is written offline
LATER = ("*/face_feed.js", "*/faces.js", "*/outbox.js")


def test_live_and_its_hooks_are_small() -> None:
    """As a bundler hands them out: without what is written for people."""
    live = node.bundled(node.WEB / "live" / "index.js", *LATER)
    hooks = node.bundled(node.WEB / "react.js", "react", "*/live/index.js")

    assert len(gzip.compress(live.encode(), 9)) <= 12 * 1024
    assert len(gzip.compress(hooks.encode(), 9)) <= 2 * 1024
