"""Commands that end together with this process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

GUARD = Path(__file__).with_name("guard.py")


class ChildUser(NamedTuple):
    """The user of a child, by numeric ids."""

    uid: int
    gid: int


def guarded(
    command: Sequence[str | Path],
    user: ChildUser | None = None,
    death_signal: signal.Signals = signal.SIGKILL,
) -> list[str]:
    """A command that runs as the user and that the kernel ends with this process.

    Call it on the main thread: on Linux the child ends with the thread that started it.
    """
    user = user or ChildUser(os.getuid(), os.getgid())
    supervision = (os.getpid(), death_signal.value, user.uid, user.gid)
    return [
        *(sys.executable, "-I", "-S", str(GUARD)),
        *map(str, supervision),
        *map(str, command),
    ]
