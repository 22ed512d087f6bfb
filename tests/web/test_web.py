"""The live client in JavaScript: its size, and the promises that it keeps alone.

Its types are checked where it is packed: see `integration/test_web_package.py`.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from tests.web import node


@pytest.mark.parametrize("name", ["scenarios", "errors", "zones"])
def test_what_is_tested_in_node(name: str) -> None:
    tested = node.run("--test", "--test-reporter=tap", node.HERE / f"{name}.test.mjs")

    assert tested.returncode == 0, tested.stdout
    passed = re.search(r"^# pass (\d+)$", tested.stdout, re.MULTILINE)
    assert passed
    assert int(passed[1]) > 0


# what comes when it is asked for: a desk's contacts, and what is written offline
LATER = ("*/read_faces.js", "*/outbox.js")
# what the desk takes of the rest
SHARED = tuple(
    f"*/{name}.js" for name in ("bell", "errors", "scope", "sources", "subscription", "timing")
)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
IMPORTED = re.compile(r"""(?:from|import)\s*\(?\s*"([^"]+)"\)?""")


def test_live_its_desk_and_its_hooks_are_small() -> None:
    """As a bundler hands them out: without what is written for people."""
    live = node.bundled(node.WEB / "live" / "index.js", *LATER)
    desk = node.bundled(node.WEB / "live" / "desk.js", *SHARED)
    hooks = node.bundled(node.WEB / "react.js", "react", "*/live/index.js")

    assert len(gzip.compress(live.encode(), 9)) <= 12 * 1024
    assert len(gzip.compress(desk.encode(), 9)) <= 4.25 * 1024
    assert len(gzip.compress(hooks.encode(), 9)) <= 2 * 1024


def test_a_customers_portal_loads_nothing_of_the_desk() -> None:
    loaded: set[Path] = set()
    waiting = [node.WEB / "pages" / "portal" / "portal.js"]
    while waiting:
        module = waiting.pop()
        if module in loaded:
            continue
        loaded.add(module)
        for name in IMPORTED.findall(COMMENT.sub("", module.read_text())):
            if name == "@rapport/live":
                waiting.append(node.WEB / "live" / "index.js")
            elif name.startswith("@rapport/live/"):
                waiting.append(node.WEB / name.removeprefix("@rapport/live/"))
            elif name.startswith("."):
                waiting.append((module.parent / name).resolve())
    names = {str(module.relative_to(node.WEB)) for module in loaded}

    assert {"live/live.js", "live/outbox.js", "elements/job_list.js"} <= names
    assert not [name for name in names if name.startswith("live/desk")]
