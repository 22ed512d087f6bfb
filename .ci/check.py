"""Finds traces of a developer's machine in a checkout: they say nothing about the product.

    python3 .ci/check.py [PROJECT]

Prints each fault on a line and ends with 1 where there is any. It needs Python and git alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# put together here, so that this file does not name them
REGISTRIES = frozenset(
    ".".join(parts)
    for parts in (
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("deb", "debian", "org"),
    )
)
# pyproject.toml configures every tool
STRAYS = frozenset(
    {"setup.cfg", "pytest.ini", "mypy.ini", "tox.ini", "ruff.toml", ".ruff.toml", ".coveragerc"}
)


def committed(project: Path) -> list[Path]:
    """The files that git has, and those that would be added to it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=project,
        check=True,
        capture_output=True,
    ).stdout
    files = [project / os.fsdecode(name) for name in listed.split(b"\0") if name]
    return [file for file in files if file.is_file()]


def configured_registries() -> set[str]:
    """The hosts that this machine's package clients ask, which are no part of the project."""
    settings = " ".join(
        value for name, value in os.environ.items() if re.search(r"(?i)index|registry", name)
    )
    for command in (["pip", "config", "list"], ["npm", "config", "get", "registry"]):
        try:
            result = subprocess.run(command, check=False, capture_output=True, text=True)
        except FileNotFoundError:
            continue
        settings += " " + result.stdout
    hosts = re.findall(r"https?://(?:[^/@\s]*@)?([^/:\s'\"]+)", settings)
    return set(hosts) - {"localhost", "127.0.0.1"}


def faults(project: Path) -> Iterator[str]:
    files = committed(project)
    if not files:
        yield f"{project}: git knows no file here."
    hosts = {host: host.encode() for host in sorted(REGISTRIES | configured_registries())}
    for file in files:
        name = file.relative_to(project)
        content = file.read_bytes()
        for host, searched in hosts.items():
            if searched in content:
                yield f"{name}: names the package registry {host}. Leave the address out."
        if name == Path("uv.lock"):
            yield f"{name}: records download addresses. Pin in pyproject.toml instead."
        if file.name in STRAYS:
            yield f"{name}: configures a tool. Put it into pyproject.toml."


def main() -> None:
    project = Path(sys.argv[1]) if sys.argv[1:] else Path(__file__).parents[1]
    found = list(faults(project))
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
