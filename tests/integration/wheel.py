"""The package as others install it: a wheel, in an environment of its own, without a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rapport.local.stack.state import PROJECT, npm_folder

NAME = "rapport-live"


def build(folder: Path) -> Path:
    """Builds the wheel; returns it."""
    _uv("build", "--wheel", "--quiet", "--out-dir", str(folder))
    (wheel,) = folder.glob("*.whl")
    return wheel


def files(wheel: Path) -> dict[str, bytes]:
    """What is in a wheel."""
    with zipfile.ZipFile(wheel) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def installed(wheel: Path, extra: str, folder: Path) -> Path:
    """Installs the wheel with an extra, by the pins of pyproject.toml; returns its `bin`."""
    _uv("venv", "--quiet", "--python", sys.executable, str(folder))
    programs = folder / "bin"
    _uv(
        "pip",
        "install",
        "--quiet",
        # what is cached already is not copied
        *("--link-mode", "symlink"),
        *("--python", str(programs / "python")),
        f"{wheel}[{extra}]",
    )
    return programs


@contextmanager
def with_our_binaries(programs: Path) -> Iterator[None]:
    """Lets an installation find the binaries that are here, so that it need not fetch them."""
    script = "from rapport.local.stack.state import npm_folder; print(npm_folder())"
    told = subprocess.run(
        [programs / "python", "-c", script], capture_output=True, text=True, check=True, cwd="/"
    )
    theirs = Path(told.stdout.strip())
    theirs.parent.mkdir(parents=True)
    theirs.symlink_to(npm_folder())
    yield
    shutil.rmtree(theirs.parent)


def _uv(*arguments: str) -> None:
    # `uv run` says where it is
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv is not None
    # there uv finds the pins
    done = subprocess.run(
        [uv, *arguments], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
