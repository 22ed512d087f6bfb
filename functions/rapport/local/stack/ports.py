"""TCP ports on loopback."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Iterator

from rapport.local.errors import StackError

HOST = "127.0.0.1"
# Below what Linux and macOS hand out for outgoing connections, so that a port found free is
# still free when a server binds it a moment later.
UNASSIGNED = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Tells whether a server could listen on the port."""
    with socket.socket() as probe:
        # as servers do: a connection of the last run that lingers is no obstacle
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def reserved(preferred: dict[str, int]) -> Iterator[dict[str, int]]:
    """Yields what `choose` returns; until the end no other stack is given any of these ports.

    Of two stacks that start at once each would find a port free before the other's server has
    bound it. So whoever is given a TCP port holds the UDP port of its number, which nobody uses
    and the kernel gives back however the process ends.
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
    """Returns a distinct free port for each name: the preferred one, or the next that is free.

    `take` says whether a port may be had. Raises StackError where none of the 1,000 ports above
    a preferred one is free.
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
                "Stop what listens there and try again."
            )
        chosen[name] = port
        reserved.add(port)
    return chosen


def choose_any(*names: str) -> dict[str, int]:
    """Returns a distinct free port for each name, each time others."""
    starts = random.sample(UNASSIGNED, len(names))
    return choose(dict(zip(names, starts, strict=True)))
