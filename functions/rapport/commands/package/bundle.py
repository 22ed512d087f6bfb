"""The functions' zip: our modules and their dependencies, compiled for Lambda's runtime.

The same sources give the same bytes. Compiled files are not checked against their sources, which
can't change there.

Sources: docs.aws.amazon.com, "Working with .zip file archives for Python Lambda functions"; PEP
552.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rapport.checkout import CHECKOUT, PACKAGE
from rapport.commands.package.certificates import write_certificates
from rapport.connections import CERTIFICATES
from rapport.errors import ConfigError
from rapport.handlers.api_document import DOCUMENT

_ROOM = "rapport."
# where Lambda unpacks the zip: tracebacks name files there
HOME = "/var/task"
# wheels by Lambda's names of architectures; its newer runtimes have glibc 2.34
PLATFORMS = {"arm64": "aarch64-manylinux_2_28", "x86_64": "x86_64-manylinux_2_28"}
# Lambda's limit of what is unpacked
UNPACKED_LIMIT = 262_144_000

# Never imported there: names of places, carriers and time zones of phone numbers; asynchronous
# HTTP; pydantic as it was; what writes C. A test runs every function without them.
_UNUSED_FOLDERS = (
    "anyio",
    "bin",
    "cffi",
    "phonenumbers/carrierdata",
    "phonenumbers/geodata",
    "phonenumbers/tzdata",
    "pycparser",
    "pydantic/v1",
    "sniffio",
)
_UNUSED_FILES = (
    "phonenumbers/carrier.py",
    "phonenumbers/geocoder.py",
    "phonenumbers/prefix.py",
    "phonenumbers/timezone.py",
)
_UNUSED_ENDINGS = (".pyi", ".typed", ".c", ".h", ".pyx", ".pxd")
_TIME = (1980, 1, 1, 0, 0, 0)
_SHOWN = 2000

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Bundle:
    """A zip, and the bytes of what is in it."""

    file: Path
    size: int
    unpacked: int
    # of each part at the top
    parts: dict[str, int]


def build(
    file: Path, *, architecture: str, runtime: str, progress: Progress = lambda _: None
) -> Bundle:
    """Writes the zip. `runtime` is Lambda's name of it, such as python3.13.

    Raises:
        ConfigError: There is no uv or no such Python, or a package has no wheel for it.
    """
    version = runtime.removeprefix("python")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        progress(f"Wheels for {architecture}, Python {version} …")
        _install(root, architecture, version)
        _prune(root)
        progress("Our modules …")
        for module in [*modules_of_functions(), DOCUMENT]:
            target = root / "rapport" / module.relative_to(PACKAGE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(module, target)
        bundle = root / "certifi" / "cacert.pem"
        write_certificates(bundle, root / "rapport" / CERTIFICATES.relative_to(PACKAGE))
        bundle.unlink()
        progress("Compiling …")
        _compile(root, version)
        progress("Packing …")
        parts, unpacked = _pack(root, file)
    if unpacked > UNPACKED_LIMIT:
        raise ConfigError(f"{unpacked} bytes are in the zip; Lambda takes {UNPACKED_LIMIT}.")
    return Bundle(file, file.stat().st_size, unpacked, parts)


def modules_of_functions() -> list[Path]:
    """Our modules that the functions import, one from another, with the packages they are in.

    What commands, clients and this machine's stack alone import stays out of the zip.
    """
    waiting = sorted((PACKAGE / "handlers").glob("*.py"))
    found: set[Path] = set()
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        folders = [each for each in module.parents if each.is_relative_to(PACKAGE)]
        waiting += [folder / "__init__.py" for folder in folders]
        waiting += _imported_by(module)
    return sorted(found)


def _imported_by(module: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.ImportFrom(module=str(name), names=names):
                imported = [name, *(f"{name}.{one.name}" for one in names)]
            case ast.Import(names=names):
                imported = [one.name for one in names]
            case _:
                continue
        for name in imported:
            if name.startswith(_ROOM):
                path = PACKAGE.joinpath(*name.split(".")[1:])
                yield from (
                    file
                    for file in (path.with_suffix(".py"), path / "__init__.py")
                    if file.exists()
                )


def _install(root: Path, architecture: str, version: str) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    with tempfile.TemporaryDirectory() as name:
        wanted, pins = Path(name, "wanted.txt"), Path(name, "pins.txt")
        wanted.write_text("\n".join(project["project"]["dependencies"]))
        pins.write_text("\n".join(project["tool"]["uv"]["constraint-dependencies"]))
        _uv(
            "pip",
            "install",
            *("--requirements", str(wanted), "--constraints", str(pins)),
            *("--target", str(root), "--link-mode", "copy"),
            *("--python-platform", PLATFORMS[architecture], "--python-version", version),
            # nothing is built here, where it would be built for this machine
            *("--only-binary", ":all:"),
            "--no-compile-bytecode",
            "--quiet",
        )


def _prune(root: Path) -> None:
    for folder in _UNUSED_FOLDERS:
        shutil.rmtree(root / folder, ignore_errors=True)
    for name in _UNUSED_FILES:
        (root / name).unlink(missing_ok=True)
    # pydantic would look for plugins in each of them
    for metadata in root.glob("*.dist-info"):
        shutil.rmtree(metadata)
    for file in _files(root):
        # a dot: what the installer keeps for itself
        if file.name.endswith(_UNUSED_ENDINGS) or file.name.startswith("."):
            file.unlink()


def _compile(root: Path, version: str) -> None:
    script = (
        "import sys, compileall, py_compile\n"
        "sys.exit(not compileall.compile_dir(sys.argv[1], quiet=1, ddir=None, maxlevels=50,"
        " stripdir=sys.argv[1], prependdir=sys.argv[2],"
        " invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH))\n"
    )
    command = [*_python(version), "-I", "-S", "-c", script, str(root), HOME]
    _run(command, env={**os.environ, "PYTHONHASHSEED": "0"})


def _python(version: str) -> list[str]:
    """An interpreter of the version: compiled files are good for theirs alone."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return [sys.executable]
    try:
        return [_uv("python", "find", "--no-project", version).strip()]
    except ConfigError:
        raise ConfigError(
            f"There is no Python {version} here, and what is compiled has to be compiled by it. Get"
            f" it by `uv python install {version}`, or deploy on the Python that runs this:"
            f" --runtime python{sys.version_info.major}.{sys.version_info.minor}"
        ) from None


def _uv(*arguments: str) -> str:
    # `uv run` says where it is
    found = os.environ.get("UV") or shutil.which("uv")
    if found is None:
        raise ConfigError("uv is needed for this, and is not here: pip install uv")
    return _run([found, *arguments])


def _run(command: list[str], env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    if done.returncode != 0:
        raise ConfigError(f"{Path(command[0]).name} failed: {done.stderr.strip()[-_SHOWN:]}")
    return done.stdout


def _pack(root: Path, file: Path) -> tuple[dict[str, int], int]:
    file.parent.mkdir(parents=True, exist_ok=True)
    unpacked = 0
    parts: dict[str, int] = {}
    partial = file.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for one in _files(root):
            name = one.relative_to(root).as_posix()
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix
            entry.external_attr = 0o100644 << 16
            zipped.writestr(entry, one.read_bytes(), compresslevel=9)
            part = name.partition("/")[0]
            parts[part] = parts.get(part, 0) + entry.compress_size
            unpacked += entry.file_size
    partial.replace(file)
    return parts, unpacked


def _files(root: Path) -> Iterator[Path]:
    """All files, in the order of their names: the same everywhere."""
    return iter(sorted(path for path in root.rglob("*") if path.is_file()))
