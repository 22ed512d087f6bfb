"""Runs a command that ends together with its supervisor: `guard.py parent signal uid gid command…`.

It is started as a file with `python -I -S`, so it needs only the standard library. It gives up
privileges and asks the kernel for a signal at the supervisor's death. Both must happen between fork
and exec, where neither is safe in a program with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent, death_signal, uid, gid = (int(argument) for argument in sys.argv[1:5])
    command = sys.argv[5:]
    if uid != os.getuid():
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # after the change of user, which clears it
    end_with_parent(parent, death_signal)
    os.execv(command[0], command)  # noqa: S606 - that is its purpose


def end_with_parent(parent: int, death_signal: int) -> None:
    """Asks the kernel for a signal at the parent's death; on Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
