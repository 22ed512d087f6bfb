"""The intervals of the live client."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """All intervals, in seconds.

    `slow_poll` finds changes that no broadcast told. `fast_poll` replaces Realtime while it is
    away.
    """

    slow_poll: float = 30
    fast_poll: float = 2
    heartbeat: float = 15
    # without an answer within this time the socket is dead
    heartbeat_timeout: float = 5
    join_timeout: int = 10
    # the rest of a transaction's broadcasts is waited for, then the log is read
    gather: float = 0.25
    # the upper limit of the first wait before reconnecting; it doubles with each further failure
    first_backoff: float = 0.5
    longest_backoff: float = 20
    # how long before its token expires a client asks for the next one
    refresh_margin: float = 60
    request_timeout: float = 9

    def backoff(self, attempt: int) -> float:
        """How long to wait after the given number of failures in a row, from 0.

        The wait is random, so that the clients of a server that returns do not connect all at once.
        """
        longest = min(self.longest_backoff, self.first_backoff * 2 ** min(attempt, 10))
        return random.uniform(longest / 4, longest)  # noqa: S311 - no secret

    def poll(self, interval: float) -> float:
        """The interval, randomly up to a tenth shorter or longer."""
        return interval * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
