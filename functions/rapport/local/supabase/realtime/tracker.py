"""Presence: who is on which topic; kept in memory, and sent as it changes."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from rapport.local.supabase.realtime.bus import TOPIC_PREFIX, Listener
from rapport.local.supabase.realtime.frames import Encodings, encode

# arrivals and departures within this time go into one frame
DELAY_SECONDS = 0.02

REF = "phx_ref"
PREVIOUS_REF = "phx_ref_prev"


@dataclass(frozen=True)
class _Meta:
    """A member's entry, kept as JSON text, since it is read far more often than written.

    `body` is the client's object, `text` the same with refs.
    """

    key: str
    body: str
    ref: str
    text: str

    @classmethod
    def of(cls, key: str, body: str, previous: _Meta | None) -> _Meta:
        ref = secrets.token_urlsafe(9)
        refs: dict[str, JsonValue] = {REF: ref}
        if previous is not None:
            refs[PREVIOUS_REF] = previous.ref
        head = encode(refs)
        text = head if body == "{}" else f"{head[:-1]},{body[1:]}"
        return cls(encode(key), body, ref, text)


class Place(NamedTuple):
    """A topic; a private and a public one of the same name are different."""

    topic: str
    private: bool


class Tracker:
    """The topics with members or watchers."""

    def __init__(self) -> None:
        self._rooms: dict[Place, _TrackedTopic] = {}

    @property
    def is_empty(self) -> bool:
        return not self._rooms

    def watch(self, place: Place, watcher: Listener) -> str:
        """Sends the watcher all changes from now on; returns the present state, as JSON."""
        room = self._room(place)
        # the others first get the changes that this state already contains
        room.flush()
        room.watchers.add(watcher)
        return room.state()

    def track(
        self, place: Place, member: Listener, key: str, payload: dict[str, JsonValue]
    ) -> None:
        """Adds a member under the key, or changes its data.

        Equal data changes nothing.
        """
        own = {name: payload[name] for name in payload if name not in {REF, PREVIOUS_REF}}
        self._room(place).put(member, key, encode(own))

    def untrack(self, place: Place, member: Listener) -> None:
        """Removes a member; does nothing if it is not present."""
        room = self._rooms.get(place)
        if room is not None:
            room.drop(member)
            self._tidy(place, room)

    def leave(self, place: Place, listener: Listener) -> None:
        """Ends the listener's watching, and then its presence."""
        room = self._rooms.get(place)
        if room is not None:
            room.watchers.discard(listener)
            room.drop(listener)
            self._tidy(place, room)

    def _room(self, place: Place) -> _TrackedTopic:
        if place not in self._rooms:
            self._rooms[place] = _TrackedTopic(place.topic)
        return self._rooms[place]

    def _tidy(self, place: Place, room: _TrackedTopic) -> None:
        if room.is_empty:
            # nobody gets it, but its timer must end with the topic
            room.flush()
            del self._rooms[place]


class _TrackedTopic:
    """One topic: its members, its watchers, and the changes that are not sent yet."""

    def __init__(self, topic: str) -> None:
        self.watchers: set[Listener] = set()
        self._topic = topic
        self._members: dict[Listener, _Meta] = {}
        self._joins: dict[str, _Meta] = {}
        self._leaves: dict[str, _Meta] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_empty(self) -> bool:
        return not self.watchers and not self._members

    def state(self) -> str:
        return _by_key(self._members.values())

    def put(self, member: Listener, key: str, body: str) -> None:
        earlier = self._members.get(member)
        if earlier is not None and earlier.body == body:
            return
        meta = _Meta.of(key, body, earlier)
        self.drop(member)
        self._members[member] = meta
        self._joins[meta.ref] = meta
        self._plan()

    def drop(self, member: Listener) -> None:
        meta = self._members.pop(member, None)
        if meta is None:
            return
        # its arrival was never sent, so its departure need not be
        if self._joins.pop(meta.ref, None) is None:
            self._leaves[meta.ref] = meta
            self._plan()

    def flush(self) -> None:
        """Sends the waiting changes to the watchers now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._joins and not self._leaves:
            return
        joins, leaves = _by_key(self._joins.values()), _by_key(self._leaves.values())
        self._joins.clear()
        self._leaves.clear()
        payload = f'{{"joins":{joins},"leaves":{leaves}}}'
        topic = TOPIC_PREFIX + self._topic
        diff = Encodings(
            lambda version: version.push(topic, "presence_diff", payload, ref=None, join_ref=None)
        )
        for watcher in tuple(self.watchers):
            watcher.deliver(diff)

    def _plan(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_SECONDS, self.flush)


def _by_key(metas: Iterable[_Meta]) -> str:
    """JSON of `{key: {"metas": [meta, …]}}`."""
    texts: defaultdict[str, list[str]] = defaultdict(list)
    for meta in metas:
        texts[meta.key].append(meta.text)
    members = (f'{key}:{{"metas":[{",".join(texts[key])}]}}' for key in texts)
    return "{" + ",".join(members) + "}"
