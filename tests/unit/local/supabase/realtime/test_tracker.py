from __future__ import annotations

import asyncio
import json
from typing import Any

from rapport.local.supabase.realtime.frames import SERIALIZERS, Encodings
from rapport.local.supabase.realtime.tracker import Place, Tracker

DESK = Place("desk", private=True)
V2 = SERIALIZERS["2.0.0"]


class Ear:
    """A listener that keeps each diff that it is told."""

    def __init__(self) -> None:
        self.diffs: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def deliver(self, message: Encodings) -> None:
        join_ref, ref, topic, event, payload = json.loads(message.by(V2) or "")
        assert (join_ref, ref, topic, event) == (None, None, "realtime:desk", "presence_diff")
        self.diffs.put_nowait(payload)


def said(grouped: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What each key's members say of themselves, without refs."""
    return {
        key: [
            {name: meta[name] for name in meta if not name.startswith("phx_ref")}
            for meta in entry["metas"]
        ]
        for key, entry in grouped.items()
    }


async def test_who_comes_and_goes_together_is_told_in_one_diff() -> None:
    tracker, ear = Tracker(), Ear()
    old, first, second = Ear(), Ear(), Ear()
    tracker.track(DESK, old, "o", {"n": 0})
    assert said(json.loads(tracker.watch(DESK, ear))) == {"o": [{"n": 0}]}

    tracker.track(DESK, first, "a", {"n": 1})
    tracker.track(DESK, second, "a", {"n": 2})
    tracker.leave(DESK, old)

    diff = await ear.diffs.get()
    assert said(diff["joins"]) == {"a": [{"n": 1}, {"n": 2}]}
    assert said(diff["leaves"]) == {"o": [{"n": 0}]}
    assert ear.diffs.empty()


async def test_one_who_came_and_went_unseen_is_not_told_of() -> None:
    tracker, ear, ghost, other = Tracker(), Ear(), Ear(), Ear()
    tracker.watch(DESK, ear)

    tracker.track(DESK, ghost, "g", {})
    tracker.untrack(DESK, ghost)
    tracker.track(DESK, other, "o", {})

    diff = await ear.diffs.get()
    assert diff["joins"].keys() == {"o"}
    assert diff["leaves"] == {}


async def test_the_state_and_the_diffs_after_it_do_not_overlap() -> None:
    tracker, early, late, member = Tracker(), Ear(), Ear(), Ear()
    tracker.watch(DESK, early)
    tracker.track(DESK, member, "m", {"n": 1})

    state = json.loads(tracker.watch(DESK, late))
    told = early.diffs.get_nowait()
    tracker.track(DESK, member, "m", {"n": 2})
    change = await late.diffs.get()

    assert state == told["joins"]
    (before,) = state["m"]["metas"]
    (after,) = change["joins"]["m"]["metas"]
    assert after["phx_ref"] != before["phx_ref"]
    assert after == {"phx_ref": after["phx_ref"], "phx_ref_prev": before["phx_ref"], "n": 2}
    assert change["leaves"] == state
    assert late.diffs.empty()


async def test_saying_the_same_again_changes_nothing() -> None:
    tracker, ear, member = Tracker(), Ear(), Ear()
    tracker.watch(DESK, ear)
    tracker.track(DESK, member, "m", {"n": 1})
    tracker.track(DESK, member, "m", {"n": 1})
    await ear.diffs.get()
    tracker.track(DESK, member, "m", {"n": 1})
    # true is not 1
    tracker.track(DESK, member, "m", {"n": True})

    assert said((await ear.diffs.get())["joins"]) == {"m": [{"n": True}]}


async def test_a_client_can_not_make_up_refs() -> None:
    tracker, ear, member = Tracker(), Ear(), Ear()
    tracker.track(DESK, member, "m", {"phx_ref": "x", "phx_ref_prev": "y"})

    state = json.loads(tracker.watch(DESK, ear))
    (meta,) = state["m"]["metas"]
    assert meta.keys() == {"phx_ref"}
    assert meta["phx_ref"] != "x"


async def test_the_private_and_the_public_topic_of_a_name_are_two() -> None:
    tracker, member, ear = Tracker(), Ear(), Ear()
    tracker.track(DESK, member, "m", {})

    assert tracker.watch(Place("desk", private=False), ear) == "{}"


async def test_nothing_is_kept_of_a_topic_that_all_have_left() -> None:
    tracker, ear = Tracker(), Ear()
    for _ in range(100):
        tracker.watch(DESK, ear)
        tracker.track(DESK, ear, "e", {})
        tracker.leave(DESK, ear)

    assert tracker.is_empty
    assert ear.diffs.empty()
    assert tracker.watch(DESK, ear) == "{}"
