"""Delivers broadcasts to the listeners of a topic."""

from __future__ import annotations

from collections import defaultdict
from typing import Protocol

from rapport.local.supabase.realtime.frames import Broadcast, Encodings

TOPIC_PREFIX = "realtime:"


class Listener(Protocol):
    """A channel that has joined a topic."""

    def deliver(self, message: Encodings) -> None:
        """Takes a message without waiting for anything."""


class Bus:
    """The topics and their listeners; a private and a public topic of one name are different."""

    def __init__(self) -> None:
        self._listeners: defaultdict[tuple[str, bool], set[Listener]] = defaultdict(set)

    def join(self, topic: str, private: bool, listener: Listener) -> None:
        self._listeners[topic, private].add(listener)

    def leave(self, topic: str, private: bool, listener: Listener) -> None:
        """Removes a listener; does nothing for one that has not joined."""
        listeners = self._listeners.get((topic, private))
        if listeners is None:
            return
        listeners.discard(listener)
        if not listeners:
            del self._listeners[topic, private]

    def publish(
        self, topic: str, private: bool, message: Broadcast, *, sender: Listener | None = None
    ) -> None:
        """Delivers to all listeners of the topic except the sender, if one is named."""
        listeners = self._listeners.get((topic, private))
        if not listeners:
            return
        name = TOPIC_PREFIX + topic
        broadcast = Encodings(lambda version: version.broadcast(name, message), message.id)
        for listener in tuple(listeners):
            if listener is not sender:
                listener.deliver(broadcast)
