"""What stands in the repository as a whole: who imports whom, and what must not be written down."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "functions" / "rapport"
NEVER_DEPLOYED = ("local", "web", "client", "cli", "__main__")

# put together here, so that this file does not name them
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("deb", "debian", "org"),
    )
]


def committed() -> list[Path]:
    """The files that git has, and those that would be added to it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT,
        check=True,
        capture_output=True,
    ).stdout
    return [
        PROJECT / os.fsdecode(name)
        for name in listed.split(b"\0")
        if name and (PROJECT / os.fsdecode(name)).is_file()
    ]


def configured_registries() -> list[str]:
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
    return [host for host in hosts if host not in ("localhost", "127.0.0.1")]


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
    }


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "rapport"}


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_no_file_holds_a_package_registry_s_address() -> None:
    files = committed()
    assert len(files) > 50
    hosts = [host.encode() for host in {*REGISTRIES, *configured_registries()}]
    named = [(path.name, host) for path in files for host in hosts if host in path.read_bytes()]
    assert named == []


@pytest.mark.parametrize("folder", ["local", "web"])
def test_the_npm_lock_pins_by_digest_and_names_no_address(folder: str) -> None:
    lock = json.loads((PACKAGE / folder / "package-lock.json").read_text())
    packages = [entry for name, entry in lock["packages"].items() if name]
    assert packages
    assert all(entry["integrity"].startswith("sha512-") for entry in packages)
    assert not any("resolved" in entry for entry in packages)


def test_no_lock_of_uv_is_committed() -> None:
    assert PROJECT / "uv.lock" not in committed()


def test_what_is_deployed_imports_nothing_that_is_not() -> None:
    deployed = {
        name: path for name, path in modules().items() if part_of(name) not in NEVER_DEPLOYED
    }
    assert "rapport.handlers.whatsapp_webhook" in deployed
    wrong = [
        (name, imported)
        for name, path in deployed.items()
        for imported in imports(path)
        if part_of(imported) in NEVER_DEPLOYED
    ]
    assert wrong == []


STORES = (
    "store",
    "contact_store",
    "daily_store",
    "media_store",
    "metakocka_rows",
    "metakocka_sending",
    "metakocka_store",
    "outbound_store",
    "user_store",
    "webhook_rows",
    "webhook_store",
)


@pytest.mark.parametrize(
    ("lower", "upper"),
    [
        *((store, ("handlers", "whatsapp", "metakocka", "chat", "contacts")) for store in STORES),
        ("whatsapp", ("handlers",)),
        ("metakocka", ("handlers",)),
        ("errors", ("handlers", "store")),
    ],
)
def test_data_flows_one_way(lower: str, upper: tuple[str, ...]) -> None:
    """Handlers call whatsapp, whatsapp fills the store's shapes, the store calls SQL."""
    found = {name: path for name, path in modules().items() if part_of(name) == lower}
    assert found
    wrong = [
        (name, imported)
        for name, path in found.items()
        for imported in imports(path)
        if part_of(imported) in upper
    ]
    assert wrong == []


def test_only_settings_of_pyproject_configure_the_tools() -> None:
    strays = {
        "setup.cfg",
        "pytest.ini",
        "mypy.ini",
        "tox.ini",
        "ruff.toml",
        ".ruff.toml",
        ".coveragerc",
    }
    assert strays & {path.name for path in committed()} == set()
