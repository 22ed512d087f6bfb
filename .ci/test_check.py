"""The check fails where it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).with_name("check.py")
# put together here, so that this file does not name it
PUBLIC = ".".join(("files", "pythonhosted", "org"))


def check(project: Path, **variables: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(CHECK), str(project)],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("build/\n")
    return tmp_path


def test_a_checkout_without_a_fault_passes(project: Path) -> None:
    (project / "build").mkdir()
    (project / "build" / "what git does not see").write_text(PUBLIC)
    assert check(project) == (0, "")


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        ("notes.md", f"from https://{PUBLIC}/packages", f"names the package registry {PUBLIC}"),
        ("pinned.bin", f"\xff{PUBLIC}\0", f"names the package registry {PUBLIC}"),
        ("a lock", "https://mirror.example/simple", "names the package registry mirror.example"),
        ("uv.lock", "", "Pin in pyproject.toml"),
        ("pytest.ini", "", "Put it into pyproject.toml"),
        ("functions/mypy.ini", "", "Put it into pyproject.toml"),
    ],
)
@pytest.mark.parametrize("is_added", [True, False])
def test_a_fault_is_named_with_its_file(
    project: Path, file: str, content: str, fault: str, is_added: bool
) -> None:
    (project / file).parent.mkdir(exist_ok=True)
    (project / file).write_text(content, encoding="latin-1")
    if is_added:
        subprocess.run(["git", "-C", str(project), "add", "."], check=True)

    status, faults = check(project, PIP_INDEX_URL="https://user:word@mirror.example/simple")

    assert status == 1
    [line] = faults.splitlines()
    assert line.startswith(f"{file}: ")
    assert fault in line


def test_a_folder_without_files_or_without_git_does_not_pass(tmp_path: Path) -> None:
    assert check(tmp_path)[0] == 1
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert "git knows no file" in check(tmp_path)[1]
