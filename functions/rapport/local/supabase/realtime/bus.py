"""Who listens to which topic, and how a broadcast gets there."""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

from rapport.local.supabase.realtime.frames import Broadcast, Encodings

TOPIC_PREFIX = "realtime:"


class Listener(Protocol):
    """Someone who has joined a topic."""

    def deliver(self, message: Encodings) -> None:
        """Takes what all on the topic are told, without waiting for anything."""


class Bus:
    """The topics that someone has joined; the private and the public one of a name are two."""

    def __init__(self) -> None:
        self._listeners: defaultdict[tuple[str, bool], set[Listener]] = defaultdict(set)

    def join(self, topic: str, private: bool, listener: Listener) -> None:
        self._listeners[topic, private].add(listener)

    def leave(self, topic: str, private: bool, listener: Listener) -> None:
        """Does nothing for a listener that has not joined."""
        listeners = self._listeners.get((topic, private))
        if listeners is None:
            return
        listeners.discard(listener)
        if not listeners:
            del self._listeners[topic, private]

    def publish(
        self, topic: str, private: bool, message: Broadcast, *, sender: Listener | None = None
    ) -> None:
        """Delivers to everyone on the topic but the sender, if one is named."""
        listeners = self._listeners.get((topic, private))
        if not listeners:
            return
        name = TOPIC_PREFIX + topic
        broadcast = Encodings(lambda version: version.broadcast(name, message))
        for listener in tuple(listeners):
            if listener is not sender:
                listener.deliver(broadcast)
