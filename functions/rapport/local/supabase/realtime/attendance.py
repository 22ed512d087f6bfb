"""A channel's presence: whether it watches its topic, and whether it is shown there."""

from __future__ import annotations

import time
import uuid

import psycopg
from pydantic import JsonValue

from rapport.local.supabase.realtime.bus import Listener
from rapport.local.supabase.realtime.frames import encode
from rapport.local.supabase.realtime.joins import PresenceConfig
from rapport.local.supabase.realtime.rights import Rights
from rapport.local.supabase.realtime.tracker import Place, Tracker

# Source: "Realtime Limits" of Supabase's documents
MAX_CALLS = 5
CALLS_SECONDS = 30.0
MAX_PROPERTIES = 10
# limited, since everybody who joins gets the data of all members
MAX_BYTES = 64 * 1024


class PresenceRefusedError(Exception):
    """A request about presence is refused; the message says why."""


class PresenceAbuseError(Exception):
    """The client exceeded a limit; its channel is closed."""


class Attendance:
    """Whether a channel watches the presence on its topic, and is itself present."""

    def __init__(
        self, tracker: Tracker, place: Place, config: PresenceConfig, listener: Listener
    ) -> None:
        self.is_enabled = config.enabled
        self._tracker = tracker
        self._place = place
        self._key = config.key or str(uuid.uuid4())
        self._listener = listener
        self._is_watching = False
        self._has_ended = False
        self._calls = 0
        self._calls_until = 0.0

    def start_watching(self, rights: Rights) -> str | None:
        """The state as JSON, once, when the client has asked for it and may have it."""
        is_due = self.is_enabled and not self._is_watching and not self._has_ended
        if not is_due or not rights.may_read("presence"):
            return None
        self._is_watching = True
        return self._tracker.watch(self._place, self._listener)

    async def handle(self, message: JsonValue, rights: Rights) -> None:
        """Carries out a `presence` message.

        Raises PresenceRefusedError or PresenceAbuseError.
        """
        self._count()
        request = message if isinstance(message, dict) else {}
        match str(request.get("event")).lower():
            case "track":
                await self._track(request.get("payload", {}), rights)
            case "untrack":
                self._tracker.untrack(self._place, self._listener)
            case _:
                raise PresenceRefusedError("a presence event is track or untrack")

    def end(self) -> None:
        """Removes the channel from the topic for good."""
        self._has_ended = True
        self._tracker.leave(self._place, self._listener)

    async def _track(self, payload: JsonValue, rights: Rights) -> None:
        try:
            await rights.ask_to_read(["presence"])
        except psycopg.Error as error:
            raise PresenceRefusedError("the database could not be asked") from error
        if not await rights.may_write("presence"):
            raise PresenceRefusedError(
                "You do not have permissions to track presence on this Channel topic: "
                + self._place.topic
            )
        if not isinstance(payload, dict):
            raise PresenceRefusedError("Presence track payload must be a map")
        if len(payload) > MAX_PROPERTIES:
            raise PresenceRefusedError(f"Presence track payload has over {MAX_PROPERTIES} keys")
        if len(encode(payload).encode()) > MAX_BYTES:
            raise PresenceAbuseError("Track message size exceeded")
        # its token may have expired while the database was asked
        if self._has_ended:
            raise PresenceRefusedError("the channel has closed")
        self._tracker.track(self._place, self._listener, self._key, payload)
        self.is_enabled = True

    def _count(self) -> None:
        now = time.monotonic()
        if now > self._calls_until:
            self._calls, self._calls_until = 0, now + CALLS_SECONDS
        self._calls += 1
        if self._calls > MAX_CALLS:
            raise PresenceAbuseError("Client presence rate limit exceeded")
