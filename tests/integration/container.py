"""The steps of functions/Dockerfile, run in a folder: a test needs no builder and no base image."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).parents[2]
DOCKERFILE = PROJECT / "functions" / "Dockerfile"
# in the image; here another folder
HOME = "/srv/rapport"


@dataclass
class Image:
    """What the steps have made, and how the container would start."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    user: str = ""

    def size(self) -> int:
        """Bytes beyond the base image."""
        files = (
            path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink()
        )
        return sum(path.stat().st_size for path in files)


def build(folder: Path) -> Image:
    """Runs the steps of both stages, in the order of the file."""
    image = Image(folder)
    folder.mkdir()
    # where packages come from is this machine's affair
    environment = {
        **os.environ,
        "PATH": f"{_tools(folder)}:{os.environ.get('PATH', '')}",
        "UV_PYTHON": sys.executable,
    }
    stages = 0
    for step, told in _steps(folder):
        match step:
            case "FROM":
                stages += 1
            case "ENV" if stages == 1:
                environment |= _pairs(told)
            case "COPY" if stages == 1:
                *sources, target = told.split()
                for source in sources:
                    _copy(PROJECT / source, folder / target)
            # the installer is here
            case "RUN" if not told.startswith("pip install"):
                subprocess.run(["sh", "-ec", told], cwd=folder, env=environment, check=True)
            case "ENV":
                image.environment = _pairs(told)
                # the base's own part
                image.environment["PATH"] = image.environment["PATH"].partition(":")[0]
            case "USER":
                image.user = told
            case "HEALTHCHECK":
                image.health = json.loads(told[told.index("CMD") + 3 :])
            case "CMD":
                image.command = json.loads(told)
    assert stages == 2
    shutil.rmtree(_tools(folder))
    return image


def _steps(folder: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").replace(HOME, str(folder)).splitlines()
    parts = (line.partition(" ") for line in lines if line.strip())
    return [(step, told.strip()) for step, _, told in parts]


def _pairs(told: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in told.split())


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        left_out = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(source, target, ignore=left_out)
    else:
        shutil.copy(source, target)


def _tools(folder: Path) -> Path:
    """A folder with uv."""
    tools = folder / ".tools"
    if not tools.exists():
        tools.mkdir()
        found = os.environ.get("UV") or shutil.which("uv")
        assert found, "run the tests by `uv run pytest`"
        (tools / "uv").symlink_to(found)
    return tools
