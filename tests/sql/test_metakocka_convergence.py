"""After all edits, failures and ends of workers, both sides come to agree."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rapport.errors import RapportError
from rapport.local.fakes.metakocka.answers import get_partner
from rapport.local.fakes.metakocka.behaviour import MetakockaBehaviour, MetakockaRequestFault
from rapport.local.fakes.metakocka.fake import Fake
from rapport.metakocka.agreement.compare import same
from rapport.metakocka.agreement.party import Party
from rapport.metakocka.api.from_partner import from_record
from rapport.metakocka.api.records import PartnerRecord
from tests.sql.faces import ask
from tests.sql.sync_model import OTHER, Model, Side
from tests.sql.syncing import SECRET, Erp, Fuse, Killed
from tests.world import World

FIELDS = ("name", "email", "street", "place", "gsm", "tax_id_number")

# few of each, or hardly anything would ever happen to the same field twice
_names = st.sampled_from(("name", "gsm", "street", "name", "gsm", "email", "place"))
_who = st.sampled_from((0, 1, 0, 1, 2, 3))
_sides = st.sampled_from(("crm", "metakocka"))
_steps = st.one_of(
    st.tuples(st.just("contact")),
    st.tuples(st.just("partner")),
    st.tuples(st.just("edit"), _sides, _who, _names),
    st.tuples(st.just("edit"), _sides, _who, _names),
    # one field on one side and then on the other, with a run in between or none
    st.tuples(st.just("both"), _sides, _who, _names, st.booleans()),
    st.tuples(st.just("both"), _sides, _who, _names, st.booleans()),
    # somebody whom both sides have come to know for themselves
    st.tuples(st.just("twins")),
    # a contact whose partner is made, but nobody hears of it
    st.tuples(st.just("lost")),
    st.tuples(st.just("erase"), _who),
    st.tuples(st.just("person"), _sides, _who),
    st.tuples(st.just("sync")),
    st.tuples(st.just("kill"), st.integers(0, 60)),
    st.builds(
        lambda on, after, how, accepting: ("fault", on, after, how, accepting),
        st.sampled_from(("add_partner", "get_partner", "update_partner")),
        st.integers(0, 2),
        st.sampled_from(("drop", "html", "500", "429", "crash", "late")),
        st.booleans(),
    ),
)
# of each round whose values people choose where they are asked
_rounds = st.lists(
    st.tuples(st.lists(_steps, max_size=10), _sides),
    min_size=1,
    max_size=3,
)
_HOW: dict[str, dict[str, Any]] = {
    "drop": {"drop": True},
    "html": {"status": 200},
    "500": {"status": 500},
    "429": {"status": 429},
    "crash": {"opr_code": "1"},
    "late": {"delay_ms": 60_000},
}


@dataclass
class Play:
    """Both sides' people, and a model that remembers what they have written."""

    erp: Erp
    model: Model
    # of each customer the contact and the partner, as far as they are known here
    contacts: list[UUID | None] = field(default_factory=list)
    partners: list[str | None] = field(default_factory=list)
    people: list[set[str]] = field(default_factory=list)
    number: int = 0
    # a run has met a fault or was killed since both sides last agreed
    is_clouded: bool = False

    def step(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("contact",):
                fields = self._new()
                self.contacts.append(self.erp.add_contact(**fields, country="Slovenija"))
                self.partners.append(None)
                self._remember("crm", fields)
            case ("partner",):
                fields = self._new()
                name = fields.pop("name")
                self.partners.append(self.erp.add_partner(name, **fields))
                self.contacts.append(None)
                self._remember("metakocka", fields | {"name": name})
            case ("twins",):
                ours = self._new()
                theirs = self._new() | {key: ours[key] for key in ("email", "tax_id_number")}
                self.people.pop()
                self.contacts.append(self.erp.add_contact(**ours, country="Slovenija"))
                self._remember("crm", ours)
                self._remember("metakocka", theirs)
                name = theirs.pop("name")
                self.partners.append(self.erp.add_partner(name, **theirs))
            case ("edit", side, who, name):
                self._edit(side, who, name, self._value(name))
            case ("both", side, who, name, with_run):
                self._edit(side, who, name, self._value(name))
                if with_run:
                    self._try()
                self._edit(OTHER[side], who, name, self._value(name))
            case ("lost",):
                self.step(("contact",))
                lost = MetakockaRequestFault(on="add_partner", after_accepting=True, drop=True)
                self.erp.fake.behaviour.faults.append(lost)
                # too soon to be looked for in the same run
                self._try(late=600)
                # by what it is now nobody would know it
                for name in FIELDS:
                    self._edit("crm", len(self.contacts) - 1, name, self._value(name))
            case ("erase", who):
                self._edit("crm", who, "gsm", None)
            case ("person", side, who):
                self._person(side, who)
            case ("sync",):
                self._try()
            case ("kill", after):
                self._try(Fuse(after))
            case ("fault", on, after, how, accepting):
                accepted = accepting and how != "429"
                fault = MetakockaRequestFault(
                    on=on, after=after, after_accepting=accepted, times=2, **_HOW[how]
                )
                self.erp.fake.behaviour.faults.append(fault)

    def agree(self, choice: Side) -> None:
        """Faults end, people answer what they are asked, and the sync comes to rest."""
        self.erp.fake.behaviour = MetakockaBehaviour()
        # one that was left goes on behind what was edited since
        self.erp.sync()
        self._rest()
        self._find_each_other()
        chosen = self._answer(choice)
        if chosen:
            self._rest()
        self._check(chosen)
        self.is_clouded = False

    def _rest(self) -> None:
        for _ in range(6):
            before = self.erp.written()
            assert self.erp.sync().state == "done"
            if self.erp.written() == before:
                return
        pytest.fail("it never comes to rest")

    def _answer(self, choice: Side) -> dict[tuple[int, str], str | None]:
        """Decides what is asked for one side; answers what this one had."""
        chosen: dict[tuple[int, str], str | None] = {}
        open_ones = self.erp.world.rows(
            "select * from public.sync_conflicts where account_id = %s and state = 'open'",
            [self.erp.account],
        )
        assert self.erp.rule == "ask" or not open_ones
        for one in open_ones:
            who, name = self.contacts.index(one["contact_id"]), one["field"]
            ours, theirs = self._sides(who)
            here, there = getattr(ours, name), getattr(theirs, name)
            assert same(name, one["crm"], here)
            assert same(name, one["metakocka"], there)
            assert not same(name, here, there)
            chosen[who, name] = here if choice == "crm" else there
            resolve = "select public.resolve_sync_conflict(%s, %s)"
            ask(self.erp.world, "olivia", resolve, one["id"], choice)
        return chosen

    def _try(self, fuse: Fuse | None = None, late: float = 0) -> None:
        self.is_clouded |= fuse is not None or bool(self.erp.fake.behaviour.faults)
        if self.is_clouded:
            self.model.try_sync()
        else:
            self.model.sync()
        with suppress(Killed, RapportError):
            self.erp.sync(fuse=fuse, late=late)

    def _new(self) -> dict[str, str]:
        self.people.append(set())
        return {name: self._value(name) for name in FIELDS} | {"post_number": "1000"}

    def _value(self, name: str) -> str:
        self.number += 1
        return {
            "email": f"e{self.number}@kos.si",
            "gsm": f"+3864{1_000_000 + self.number}",
            "tax_id_number": f"SI{10_000_000 + self.number}",
        }.get(name, f"{name} {self.number}")

    def _remember(self, side: Side, fields: dict[str, str]) -> None:
        for name in FIELDS:
            self.model.edit(len(self.contacts) - 1, name, side, fields[name])

    def _edit(self, side: Side, who: int, name: str, value: str | None) -> None:
        who %= len(self.contacts)
        contact, partner = self.contacts[who], self.partners[who]
        if side == "crm" and contact is not None:
            self.erp.edit_contact(contact, **{name: value})
        elif side == "metakocka" and partner is not None and value is not None:
            self.erp.edit_partner(partner, **{name: value})
        else:
            return
        self.model.edit(who, name, side, value)

    def _person(self, side: Side, who: int) -> None:
        who %= len(self.contacts)
        contact, partner = self.contacts[who], self.partners[who]
        self.number += 1
        name, email = f"Oseba {self.number}", f"o{self.number}@kos.si"
        if side == "crm" and contact is not None:
            people = self.erp.contact(contact)["people"]
            self.erp.edit_contact(contact, people=[*people, {"name": name, "email": email}])
        elif side == "metakocka" and partner is not None:
            address = next(iter(self.erp.company.partners[partner].addresses))
            entry: Any = {"name": name, "email": email, "mk_address_id": address}
            self.erp.company.update({"mk_id": partner, "partner_contact_list": [entry]})
        else:
            return
        self.people[who].add(name)

    def _find_each_other(self) -> None:
        rows = self.erp.contacts()
        by_contact = {row["id"]: row["metakocka_id"] for row in rows}
        by_partner = {row["metakocka_id"]: row["id"] for row in rows}
        assert len(by_partner) == len(rows) == len(self.contacts)
        assert set(by_partner) == set(self.erp.company.partners)
        for who, (contact, partner) in enumerate(zip(self.contacts, self.partners, strict=True)):
            self.partners[who] = partner if contact is None else by_contact[contact]
            self.contacts[who] = contact if partner is None else by_partner[partner]
            assert self.partners[who] == (partner or self.partners[who])

    def _sides(self, who: int) -> tuple[Party, Party]:
        contact, partner = self.contacts[who], self.partners[who]
        assert contact is not None
        assert partner is not None
        row = self.erp.contact(contact)
        asked_about = self.erp.world.value(
            "select count(*) from public.sync_conflicts where contact_id = %s and state = 'open'",
            [contact],
        )
        assert (row["sync_state"] == "conflict") == bool(asked_about)
        answer: Any = get_partner(self.erp.company, {"partner_id": partner})
        [record] = answer["partner_list"]
        theirs = from_record(PartnerRecord.model_validate(record)).party
        return Party.model_validate(row), theirs

    def _check(self, chosen: dict[tuple[int, str], str | None]) -> None:
        for who, contact in enumerate(self.contacts):
            assert contact is not None
            assert self.erp.contact(contact)["sync_state"] == "synced"
            ours, theirs = self._sides(who)
            for name in FIELDS:
                here, there = getattr(ours, name), getattr(theirs, name)
                assert same(name, here, there), name
                self._check_kept(who, name, here, chosen)
            for side in (ours, theirs):
                assert sorted(one.name or "" for one in side.people) == sorted(self.people[who])

    def _check_kept(
        self, who: int, name: str, value: str | None, chosen: dict[tuple[int, str], str | None]
    ) -> None:
        """What was edited on one side alone stands; of two edits the one that is preferred."""
        one = self.model.fields[who, name]
        if (who, name) in chosen:
            assert same(name, value, chosen[who, name]), name
        elif (known := self.model.expected(one)) is not None:
            assert same(name, value, known[0]), name
        else:
            # asked about, unless a run has carried one across before the other was made
            assert self.erp.rule != "ask" or not one.is_clear
            assert any(same(name, value, edit) for edit in one.written.values()), name
        one.agree(value)


@pytest.mark.parametrize("rule", ["crm", "metakocka", "newest", "ask"])
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rounds=_rounds)
def test_both_sides_agree_and_nothing_is_lost(
    world: World, rule: str, rounds: list[tuple[list[tuple[Any, ...]], Side]]
) -> None:
    play = Play(Erp(world, Fake(SECRET), rule=rule), Model(rule))
    play.step(("contact",))
    play.step(("partner",))
    play.agree("crm")
    for steps, choice in rounds:
        for step in steps:
            play.step(step)
        play.agree(choice)
