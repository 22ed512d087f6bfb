"""Rate limits, counted in this process."""

from __future__ import annotations

import time
from collections import OrderedDict, deque

from starlette.requests import Request

from rapport.local.supabase.auth.errors import AuthError
from rapport.local.supabase.auth.settings import RateLimits

HOUR = 3_600.0
FIVE_MINUTES = 300.0
# addresses that are remembered; the longest unheard is forgotten
REMEMBERED = 10_000


class Limiter:
    """Counts the requests within a time that slides along. `period` in seconds."""

    def __init__(self, allowed: int, period: float, refusal: AuthError) -> None:
        self._allowed = allowed
        self._period = period
        self._refusal = refusal
        self._asked: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, who: str = "") -> None:
        """Counts one more. Raises AuthError (429) if that is one too many."""
        now = time.monotonic()
        asked = self._asked.setdefault(who, deque())
        self._asked.move_to_end(who)
        if len(self._asked) > REMEMBERED:
            self._asked.popitem(last=False)
        while asked and asked[0] <= now - self._period:
            asked.popleft()
        if len(asked) >= self._allowed:
            raise self._refusal
        asked.append(now)

    def take_for(self, request: Request) -> None:
        """Counts one more of the caller's IP address. Raises AuthError (429)."""
        self.take(request.client.host if request.client else "")


class Limits:
    """One limiter for each of the project's rate limits."""

    def __init__(self, allowed: RateLimits) -> None:
        requests = AuthError(429, "over_request_rate_limit", "Request rate limit reached")
        emails = AuthError(429, "over_email_send_rate_limit", "email rate limit exceeded")
        sms = AuthError(429, "over_sms_send_rate_limit", "SMS rate limit exceeded")
        self.emails = Limiter(allowed.email_sent, HOUR, emails)
        self.sms = Limiter(allowed.sms_sent, HOUR, sms)
        self.anonymous = Limiter(allowed.anonymous_users, HOUR, requests)
        self.sign_ins = Limiter(allowed.sign_in_sign_ups, FIVE_MINUTES, requests)
        self.refreshes = Limiter(allowed.token_refresh, FIVE_MINUTES, requests)
        self.verifications = Limiter(allowed.token_verifications, FIVE_MINUTES, requests)
