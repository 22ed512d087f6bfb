from __future__ import annotations

import json
from pathlib import Path

import pytest

from rapport.local.errors import StackError
from rapport.local.stack import npm


def test_the_lock_holds_no_download_address() -> None:
    lock = (npm.COMMITTED / "package-lock.json").read_text()
    assert "resolved" not in lock
    assert "://" not in lock


def test_every_package_of_the_lock_has_its_hash() -> None:
    packages = json.loads((npm.COMMITTED / "package-lock.json").read_text())["packages"]
    pinned = [package for name, package in packages.items() if name]
    assert pinned
    assert all(package["integrity"].startswith("sha512-") for package in pinned)


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("linux", "x86_64", "linux-x64"),
        ("linux", "aarch64", "linux-arm64"),
        ("darwin", "x86_64", "darwin-x64"),
    ],
)
def test_a_platform_is_named_as_the_packages_name_it(system: str, machine: str, name: str) -> None:
    assert npm.platform_name(system, machine, "glibc") == name


@pytest.mark.parametrize(
    ("system", "machine", "c_library", "remedy"),
    [
        ("darwin", "arm64", "", "Rosetta"),
        ("freebsd14", "amd64", "", "virtual machine"),
        ("linux", "riscv64", "glibc", "linux-x64"),
        ("linux", "x86_64", "", "glibc"),
    ],
)
def test_a_platform_without_binaries_is_refused_with_a_remedy(
    system: str, machine: str, c_library: str, remedy: str
) -> None:
    with pytest.raises(StackError, match=remedy):
        npm.platform_name(system, machine, c_library)


def test_a_full_disk_is_said_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="RAPPORT_HOME"):
        npm.require_space(tmp_path, needed=10**18)


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("npm error code ENOSPC\nno space left on device", "disk"),
        ("npm error code EUSAGE\n`npm ci` can only install with a lock", "package-lock.json"),
        ("npm error code EINTEGRITY", "package-lock.json"),
        ("npm error code EAI_AGAIN", "network"),
        ("npm error code E500\nsomething else", "something else"),
    ],
)
def test_a_failure_of_npm_is_explained(output: str, sentence: str) -> None:
    assert sentence in str(npm.failure(output))
