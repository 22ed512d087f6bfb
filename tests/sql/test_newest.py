"""By `newest` no partner's edit gives way to an older one of ours, as far as it can be known.

Metakocka gives no times. It is known all the same that an edit there is later than ours where a
run has seen the partner without it in between: a run that failed, was cut or read this partner
alone as well as one that went well.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rapport.errors import RapportError
from rapport.local.fakes.metakocka.behaviour import MetakockaBehaviour, MetakockaRequestFault
from rapport.local.fakes.metakocka.fake import Fake, FakeReply
from rapport.store.metakocka_rows import SyncRequest
from tests.sql.syncing import SECRET, Erp, Fuse, Killed
from tests.world import World

Side = Literal["ours", "theirs"]

KOS: dict[str, Any] = {
    "name": "Kos d.o.o.",
    "email": "info@kos.si",
    "street": "Pot 1",
    "post_number": "1000",
    "place": "Ljubljana",
    "country": "Slovenija",
    "tax_id_number": "SI12345678",
}
FIELDS = ("street", "place")

_fields = st.sampled_from(FIELDS)
# an obstacle that keeps an edit from getting across, or none
_faults = st.sampled_from(("none", "refused", "lost", "late", "busy", "closed"))
_steps = st.one_of(
    st.tuples(st.just("ours"), _fields),
    st.tuples(st.just("theirs"), _fields),
    st.tuples(st.just("note")),
    st.tuples(st.just("run"), st.sampled_from(("wake", "schedule")), _faults),
    st.tuples(st.just("read one")),
    st.tuples(st.just("cut")),
    st.tuples(st.just("kill"), st.integers(0, 40)),
)
_HOW: dict[str, dict[str, Any]] = {
    "refused": {"opr_code": "2"},
    "lost": {"drop": True},
    "late": {"after_accepting": True, "drop": True},
    "busy": {"status": 503},
    "closed": {"opr_code": "5"},
}


class Watched(Fake):
    """A stand-in that counts the answers in which somebody is seen."""

    seen = 0

    def reply(self, operation: str, content: bytes) -> FakeReply:
        reply = super().reply(operation, content)
        if operation == "get_partner" and b"partner_list" in reply.content:
            self.seen += 1
        return reply


@dataclass
class Written:
    """One field: when each side has edited it last, as steps, and what it wrote."""

    ours: int | None = None
    theirs: int | None = None
    values: dict[Side, str] = field(default_factory=dict)


@dataclass
class Play:
    """One contact and its partner, and what both sides' people have done since they agreed."""

    erp: Erp
    fake: Watched
    now: int = 0
    # steps at which a run has seen the partner, and was not killed
    looks: list[int] = field(default_factory=list)
    fields: dict[str, Written] = field(default_factory=lambda: {name: Written() for name in FIELDS})

    def __post_init__(self) -> None:
        self.contact = self.erp.add_contact(**KOS)
        assert self.erp.sync().state == "done"
        self.partner = str(self.erp.contact(self.contact)["metakocka_id"])

    def step(self, step: tuple[Any, ...]) -> None:
        self.now += 1
        match step:
            case ("ours", name):
                self.erp.edit_contact(self.contact, **{name: f"ours {self.now}"})
                self.fields[name].ours = self.now
                self.fields[name].values["ours"] = f"ours {self.now}"
            case ("theirs", name):
                self.erp.edit_partner(self.partner, **{name: f"theirs {self.now}"})
                self.fields[name].theirs = self.now
                self.fields[name].values["theirs"] = f"theirs {self.now}"
            case ("note",):
                # of what Metakocka knows nothing of
                with self.erp.world.acting_as("olivia") as connection:
                    connection.execute(
                        "update public.contacts_v2 set notes = %s where id = %s",
                        [f"note {self.now}", self.contact],
                    )
            case ("run", trigger, how):
                if how != "none":
                    self.fake.behaviour.faults = [
                        MetakockaRequestFault(on="update_partner", times=100, **_HOW[how])
                    ]
                self._run("both" if trigger == "schedule" else "to_metakocka", trigger)
            case ("read one",):
                self.fake.behaviour.faults = [
                    MetakockaRequestFault(on="update_partner", times=100, status=503)
                ]
                request = SyncRequest(metakocka_ids=[self.partner])
                self._run("from_metakocka", "user", request)
            case ("cut",):
                self._cut()
            case ("kill", after):
                with suppress(Killed, RapportError):
                    self.erp.sync(fuse=Fuse(after))
        self.fake.behaviour = MetakockaBehaviour()

    def check(self) -> None:
        """Both sides come to agree; a partner's edit that is known to be later stands."""
        for _ in range(4):
            self.erp.sync()
        row = self.erp.contact(self.contact)
        for name, one in self.fields.items():
            value = row[name]
            assert value == self._there(name)
            if one.ours is None and one.theirs is None:
                continue
            assert value in one.values.values()
            if one.ours is None or one.theirs is None:
                continue
            if any(one.ours < look < one.theirs for look in self.looks):
                assert value == one.values["theirs"], name
            # the other way round ours is later, and seen to be
            elif any(one.theirs < look < one.ours for look in self.looks):
                assert value == one.values["ours"], name

    def _run(self, direction: Any, trigger: Any, request: SyncRequest | None = None) -> None:
        seen = self.fake.seen
        self.erp.end_quiet()
        with suppress(RapportError), self.erp.worker() as sync:
            # a wake finds nothing where nothing is to be sent
            sync.run(self.erp.account, direction, trigger, request=request)
        if self.fake.seen > seen:
            self.looks.append(self.now)

    def _cut(self) -> None:
        """The partner is listed, and then the time is over."""
        self.erp.end_quiet()
        seen = self.fake.seen
        with self.erp.worker(remaining=lambda: 600.0 if self.fake.seen == seen else 0.0) as sync:
            sync.run(self.erp.account, "from_metakocka", "schedule")
        if self.fake.seen > seen:
            self.looks.append(self.now)

    def _there(self, name: str) -> str:
        address = next(iter(self.erp.company.partners[self.partner].addresses.values()))
        return address["city" if name == "place" else name]


def _play(world: World) -> Play:
    fake = Watched(SECRET)
    return Play(Erp(world, fake, rule="newest"), fake)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(_steps, min_size=2, max_size=9))
def test_no_edit_of_a_partner_gives_way_to_an_older_one_of_ours(
    world: World, steps: list[tuple[Any, ...]]
) -> None:
    play = _play(world)
    for step in steps:
        play.step(step)
    play.check()


@pytest.mark.parametrize(
    "look",
    [
        ("run", "wake", "refused"),
        ("run", "wake", "lost"),
        ("run", "wake", "closed"),
        ("run", "schedule", "busy"),
        ("read one",),
        ("cut",),
    ],
    ids=lambda step: " ".join(map(str, step)),
)
def test_a_run_that_fails_is_cut_or_reads_one_partner_has_seen_it(
    world: World, look: tuple[Any, ...]
) -> None:
    play = _play(world)
    for step in (("ours", "street"), look, ("theirs", "street")):
        play.step(step)
    assert play.looks == [2]
    play.check()
    assert play.erp.contact(play.contact)["street"] == "theirs 3"


def test_an_edit_of_another_field_makes_an_older_edit_no_newer(world: World) -> None:
    play = _play(world)
    for step in (
        ("ours", "street"),
        ("run", "wake", "refused"),
        ("theirs", "street"),
        ("ours", "place"),
        ("note",),
    ):
        play.step(step)
    play.check()
    row = play.erp.contact(play.contact)
    assert (row["street"], row["place"]) == ("theirs 3", "ours 4")


def test_what_was_decided_for_us_and_not_sent_gives_way_to_what_comes_after(world: World) -> None:
    play = _play(world)
    for step in (
        ("ours", "street"),
        ("theirs", "street"),
        ("run", "wake", "refused"),
        ("theirs", "street"),
    ):
        play.step(step)
    play.check()
    assert play.erp.contact(play.contact)["street"] == "theirs 4"


def test_what_was_decided_for_us_and_not_sent_is_sent_later(world: World) -> None:
    play = _play(world)
    for step in (("ours", "street"), ("theirs", "street"), ("run", "wake", "refused")):
        play.step(step)
    play.check()
    assert play.erp.contact(play.contact)["street"] == "ours 1"


def test_what_nobody_has_seen_in_between_is_ours(world: World) -> None:
    """Nothing tells which of the two is later."""
    play = _play(world)
    for step in (("theirs", "street"), ("ours", "street")):
        play.step(step)
    play.check()
    assert play.erp.contact(play.contact)["street"] == "ours 2"
