"""Files that are whole at any moment, whenever the process or the machine ends."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(file: Path, content: bytes, mode: int = 0o600) -> None:
    """Puts the content in the place of what the file had, on the disk, in one step.

    Readers, and the next start after a crash or on a full disk, find the old content or the new
    one. One process at a time writes a file. Raises OSError; the old content is there then.
    """
    # always the same name, so that what a kill leaves is written over the next time
    new = file.with_name(f".{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as output:
        output.write(content)
        output.flush()
        os.fsync(output.fileno())
    new.replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Puts on the disk which files the folder has."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
