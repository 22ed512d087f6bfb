"""TCP ports on loopback."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Iterator

from rapport.local.errors import StackError

HOST = "127.0.0.1"
# Below the ports of outgoing connections on Linux and macOS, so that a free port is still free when
# a server binds it a moment later.
UNASSIGNED = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on the port."""
    with socket.socket() as probe:
        # as servers do: a lingering connection of the last run is no obstacle
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def reserved(preferred: dict[str, int]) -> Iterator[dict[str, int]]:
    """Yields the result of `choose`; until the end no other stack gets these ports.

    Two stacks that start at the same time would both find a port free before one of them binds it.
    So the holder of a TCP port also binds the UDP port of the same number, which nobody else uses;
    the kernel frees it when the process ends.
    """
    with contextlib.ExitStack() as held:

        def take(port: int) -> bool:
            with contextlib.ExitStack() as attempt:
                claim = attempt.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                try:
                    claim.bind((HOST, port))
                except OSError:
                    return False
                if is_free(port):
                    held.push(attempt.pop_all())
                    return True
            return False

        yield choose(preferred, take)


def choose(preferred: dict[str, int], take: Callable[[int], bool] = is_free) -> dict[str, int]:
    """A distinct free port for each name: the preferred one, or the next free one.

    `take` says whether a port may be used. Raises StackError where none of the 1,000 ports from the
    preferred one on is free.
    """
    chosen: dict[str, int] = {}
    reserved = set(preferred.values())
    for name, wish in preferred.items():
        above = (port for port in range(wish + 1, min(wish + 1_000, 65_536)))
        candidates = [wish, *(port for port in above if port not in reserved)]
        port = next((port for port in candidates if take(port)), None)
        if port is None:
            raise StackError(
                f"No free port for {name} between {wish} and {candidates[-1]}. "
                "Stop the programs that use these ports and try again."
            )
        chosen[name] = port
        reserved.add(port)
    return chosen


def choose_any(*names: str) -> dict[str, int]:
    """A distinct free port for each name, different in each call."""
    starts = random.sample(UNASSIGNED, len(names))
    return choose(dict(zip(names, starts, strict=True)))
