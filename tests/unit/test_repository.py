"""How the package and its tests are built: who imports whom, and where a module stands."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
PACKAGE = PROJECT / "functions" / "rapport"
TESTS = PROJECT / "tests"
# to AWS, or into the container
NEVER_DEPLOYED = ("local", "web", "client", "commands", "__main__")
# into the container alone
HOST = "server"


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
    }


def imported_names(path: Path) -> set[str]:
    """The modules that a file imports, and the names that it imports from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports."""
    return {name for name in imported_names(path) if name.split(".")[0] == "rapport"}


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


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


def foreign_imports(path: Path) -> set[str]:
    """The packages of others that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
    # stubs are for the type checker alone
    ours = {"rapport", *(name for name in found if name.startswith("types_"))}
    return found - sys.stdlib_module_names - ours


def test_what_is_deployed_imports_its_own_dependencies_alone() -> None:
    """So that a function starts with few packages, and misses none."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    # it comes with pydantic
    declared = named(project["project"]["dependencies"]) | {"pydantic_core"}
    # it is imported by another name
    declared = declared - {"pyjwt"} | {"jwt"}
    found = {
        name: foreign_imports(path)
        for name, path in modules().items()
        if part_of(name) not in (*NEVER_DEPLOYED, HOST)
    }
    assert "httpcore" in found["rapport.connections"]
    assert {name: odd for name, ones in found.items() if (odd := ones - declared)} == {}
    # and none that nothing imports
    assert declared == set().union(*found.values())


def test_what_serves_the_functions_imports_what_the_container_has() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    own = named(project["project"]["optional-dependencies"]["server"]) - {"pyyaml"} | {"yaml"}
    found: set[str] = set().union(
        *(foreign_imports(path) for name, path in modules().items() if part_of(name) == HOST)
    )
    functions = {"httpx", "pydantic"}
    assert found == own | functions
    assert functions <= named(project["project"]["dependencies"])


def named(requirements: list[str]) -> set[str]:
    """The packages of a list in pyproject.toml, as they are imported."""
    return {re.split(r"[\[<>=]", one)[0].replace("-", "_") for one in requirements}


# from the ground up: a folder, or a file beside the folders, imports what stands before it
FLOORS = (
    {"errors", "api_keys", "connections", "deferred", "graph_version", "release", "checkout"},
    {"retry"},
    {"aws"},
    {"log", "settings", "phone", "email_address", "api_json"},
    {"parameters", "storage", "starter", "metrics"},
    {"store"},
    {"whatsapp", "metakocka", "chat", "contacts", "privacy", "push"},
    {"handlers"},
    {"server"},
    {"client"},
    {"local"},
    {"commands"},
    {"__main__"},
)


def test_every_room_stands_on_a_floor() -> None:
    rooms = {part_of(module) for module in modules()} - {""}
    assert rooms - {"__init__"} == set().union(*FLOORS)


@pytest.mark.parametrize("room", sorted(set().union(*FLOORS)))
def test_no_arrow_runs_upward(room: str) -> None:
    """Handlers call whatsapp, whatsapp fills the store's shapes, the store calls SQL."""
    (floor,) = (number for number, rooms in enumerate(FLOORS) if room in rooms)
    allowed = set().union(*FLOORS[:floor]) | {room, ""}
    found = {name: path for name, path in modules().items() if part_of(name) == room}
    assert found
    wrong = [
        (name, imported)
        for name, path in found.items()
        for imported in imports(path)
        if part_of(imported) not in allowed
    ]
    assert wrong == []


def test_tests_share_what_is_in_helpers_alone() -> None:
    """A fixture is found by its name; what else several modules need has a module of its own."""
    files = {path.relative_to(PROJECT): path for path in TESTS.rglob("*.py")}
    assert Path("tests/world.py") in files
    wrong = [
        (str(name), module)
        for name, path in files.items()
        for module in imported_names(path)
        if module.split(".")[0] == "tests"
        and any(part == "conftest" or part.startswith("test_") for part in module.split("."))
    ]
    assert wrong == []


def test_unit_tests_stand_in_the_rooms_of_the_package() -> None:
    rooms = {folder.relative_to(PACKAGE) for folder in PACKAGE.rglob("*") if folder.is_dir()}
    tested = {path.parent.relative_to(TESTS / "unit") for path in TESTS.glob("unit/**/test_*.py")}
    assert Path("store") in tested
    assert tested - {Path()} <= rooms


def test_no_sql_file_is_cited_by_its_number() -> None:
    """A number is a place in a folder: a file is cited by its name, or by an object of its own."""
    files = [*PROJECT.glob("sql/**/*.sql"), *PACKAGE.glob("local/**/*.sql")]
    numbered = {path.stem for path in files}
    assert any(name.endswith("_accounts") for name in numbered)
    texts = [PROJECT / "README.md", *files, *PACKAGE.rglob("*.py"), *TESTS.rglob("*.py")]
    cited = {
        (str(path.relative_to(PROJECT)), name)
        for path in texts
        for name in re.findall(r"\b\d\d_\w+", path.read_text())
    }
    assert {(path, name) for path, name in cited if name in numbered} == set()
