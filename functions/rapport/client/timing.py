"""When the live client asks again."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds, all of them.

    `slow_poll` finds what no broadcast told; `fast_poll` stands in for Realtime while it is away.
    """

    slow_poll: float = 30
    fast_poll: float = 2
    heartbeat: float = 15
    # without an answer by then the socket is dead
    heartbeat_timeout: float = 5
    join_timeout: int = 10
    # the first wait before connecting again is up to this, then twice that …
    first_backoff: float = 0.5
    longest_backoff: float = 20
    # before its token expires a client asks for the next one
    refresh_margin: float = 60
    request_timeout: float = 9

    def backoff(self, attempt: int) -> float:
        """How long to wait after the given failure in a row, from 0: at random, so that the
        clients of a server that comes back do not all come at once."""
        longest = min(self.longest_backoff, self.first_backoff * 2 ** min(attempt, 10))
        return random.uniform(longest / 4, longest)  # noqa: S311 - no secret

    def poll(self, interval: float) -> float:
        """The interval, give or take a tenth."""
        return interval * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
