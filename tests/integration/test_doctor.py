from __future__ import annotations

import os
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from tests.commands import rapport


def doctor(home: Path, **variables: str) -> CompletedProcess[str]:
    return rapport(
        ("doctor",), {**os.environ, "RAPPORT_HOME": str(home), "COLUMNS": "200", **variables}
    )


@pytest.mark.usefixtures("binaries")
def test_a_machine_that_can_run_a_stack_is_fine(session_folder: Path) -> None:
    result = doctor(session_folder / "doctor")
    assert result.returncode == 0, result.stdout
    assert "wrong" not in result.stdout
    assert not (session_folder / "doctor").exists(), "looking changes nothing"


def test_a_folder_that_cannot_be_used_is_wrong_and_has_a_remedy(session_folder: Path) -> None:
    file = session_folder / "occupied"
    file.touch()
    result = doctor(file / "home")
    assert result.returncode == 1
    assert "Set RAPPORT_HOME" in result.stdout
    assert result.stderr == ""


@pytest.mark.usefixtures("binaries")
def test_a_key_in_the_place_of_the_other_is_wrong_and_not_shown(session_folder: Path) -> None:
    result = doctor(
        session_folder / "doctor",
        SUPABASE_URL="https://project.example",
        SUPABASE_SECRET_KEY="sb_publishable_private",
    )
    assert result.returncode == 1
    assert "SUPABASE_SECRET_KEY: This is the project's publishable key" in result.stdout
    assert "private" not in result.stdout
