"""The folder of a stack: its place, its settings and secrets, and its lock."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from rapport.checkout import CHECKOUT, IS_CHECKOUT
from rapport.local.errors import StackError
from rapport.local.stack.running import Stack

PROJECT = CHECKOUT
HOME_VARIABLE = "RAPPORT_HOME"
# near the Supabase CLI's, but below the ports of outgoing connections, which could take a port
# between our check and the server's start
PREFERRED_PORTS = {
    "gateway_port": 24321,
    "db_port": 24322,
    "postgrest_port": 24323,
    "functions_port": 24324,
    "whatsapp_port": 24325,
    "moto_port": 24326,
    "metakocka_port": 24327,
    "push_port": 24328,
}


class AlreadyRunningError(StackError):
    """Another `rapport up` uses the folder."""


def default_folder(project: Path = PROJECT, *, is_checkout: bool = IS_CHECKOUT) -> Path:
    """The folder of a stack unless RAPPORT_HOME names one: `.rapport` in the project.

    If it can't be written, or if Postgres, which root runs as another user, can't reach it, or if
    Rapport was installed without a checkout, then a folder for this project in this user's or the
    system's data.
    """
    is_root = os.geteuid() == 0
    is_usable = os.access(project, os.W_OK) and (not is_root or is_reachable(project))
    if is_checkout and is_usable:
        return project / ".rapport"
    name = f"rapport-{hashlib.sha256(os.fsencode(project)).hexdigest()[:8]}"
    if is_root:
        return Path("/var/lib") / name
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / name


def folder() -> Path:
    """The folder of the stack that commands use."""
    home = os.environ.get(HOME_VARIABLE)
    return Path(home).absolute() if home else default_folder()


def npm_folder() -> Path:
    """The folder of the binaries, shared by all stacks of this project."""
    return default_folder() / "npm"


def nearest_existing(path: Path) -> Path:
    """The path, or the nearest existing folder above it."""
    # os.access, since Path.exists raises inside a folder that is closed to us
    folders = (path, *path.absolute().parents)
    return next(folder for folder in folders if os.access(folder, os.F_OK))


def is_reachable(path: Path) -> bool:
    """Whether every user may pass through the folder and the folders above it."""
    existing = nearest_existing(path).resolve()
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (existing, *existing.parents))


def require_usable(path: Path) -> None:
    """Raises StackError where a stack can't run in the folder."""
    existing = nearest_existing(path)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise StackError(
            f"{path} cannot be written. Set {HOME_VARIABLE} to a folder that you may write."
        )
    if os.geteuid() == 0 and not is_reachable(path.parent):
        raise StackError(
            f"Postgres does not run as root but as another user, who cannot reach {path}. "
            f"Set {HOME_VARIABLE} to a folder that every user can pass through, "
            "such as /var/lib/rapport, or start Rapport as an ordinary user."
        )


def open_folder(path: Path) -> None:
    """Creates the folder, or raises StackError where a stack can't run in it."""
    require_usable(path)
    path.mkdir(parents=True, exist_ok=True)
    # others may pass through; secret files inside have their own mode
    path.chmod(0o755)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Locks the folder for this process; the kernel releases it when the process ends.

    Raises AlreadyRunningError with the owner's process id and URL.
    """
    with (path / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise AlreadyRunningError(_who_runs(path, lock.read().strip())) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def running_stack(path: Path) -> Stack | None:
    """The settings of the stack that runs on the folder, or is starting; None without one."""
    try:
        with (path / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except BlockingIOError:
        try:
            return Stack.load(settings_file(path))
        except (FileNotFoundError, ValidationError):
            # its first start has not written them yet
            return None
    return None


def aws_folder(path: Path) -> Path:
    """The folder in which the AWS stand-in keeps queues and files."""
    return path / "aws"


def stand_ins_folder(path: Path) -> Path:
    """The folder in which the WhatsApp and Metakocka stand-ins keep their data."""
    return path / "stand-ins"


def forget(path: Path) -> None:
    """Deletes a stack's settings and all its data outside the database."""
    settings_file(path).unlink(missing_ok=True)
    for kept in (aws_folder(path), stand_ins_folder(path)):
        if kept.exists():
            shutil.rmtree(kept)


def settings_file(path: Path) -> Path:
    """The file with a stack's settings for its children."""
    return path / "stack.json"


def load_or_create(path: Path, ports: dict[str, int]) -> Stack:
    """The folder's settings with these ports; secrets are created once.

    Raises StackError for settings that can't be read.
    """
    file = settings_file(path)
    if not file.exists():
        return new_stack(path, ports)
    try:
        return Stack.load(file).model_copy(update={**ports, "folder": path})
    except ValidationError:
        # not chained: the error would quote the secrets
        raise StackError(
            f"{file} is damaged, and without its secrets the data cannot be opened. "
            "Restore it, or start anew with `rapport up --fresh`, which deletes the data."
        ) from None


def new_stack(path: Path, ports: dict[str, int]) -> Stack:
    """The settings of a stack with new secrets."""
    # not above: every process of a stack knows its folder, and few need the cryptography
    from rapport.local.supabase.keys import mint_key

    jwt_secret = secrets.token_urlsafe(32)
    return Stack(
        folder=path,
        **ports,
        db_password=secrets.token_urlsafe(24),
        jwt_secret=jwt_secret,
        anon_key=mint_key(jwt_secret, "anon"),
        service_role_key=mint_key(jwt_secret, "service_role"),
        whatsapp_app_secret=secrets.token_hex(16),
        whatsapp_verify_token=secrets.token_urlsafe(16),
    )


def _who_runs(path: Path, pid: str) -> str:
    message = f"Rapport is running already on {path}, as process {pid or 'unknown'}"
    try:
        url = Stack.load(settings_file(path)).url
    except (OSError, ValidationError):
        return f"{message}. Stop it with Ctrl-C or `kill {pid}`."
    return f"{message}, at {url}. Stop it with Ctrl-C or `kill {pid}`."
