"""Whatever people edit, whatever fails and wherever workers end: both sides come to agree."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rapport.errors import RapportError
from rapport.local.metakocka.answers import get_partner
from rapport.local.metakocka.behaviour import Behaviour, Fault
from rapport.local.metakocka.fake import Fake
from rapport.metakocka.compare import same
from rapport.metakocka.mapping import from_record
from rapport.metakocka.party import Party
from rapport.metakocka.wire import PartnerRecord
from tests.sql.conftest import World
from tests.sql.syncing import SECRET, Erp, Fuse, Killed

FIELDS = ("name", "email", "street", "place", "gsm", "tax_id_number")
Side = Literal["crm", "metakocka"]

_names = st.sampled_from(FIELDS)
_who = st.integers(0, 5)
_steps = st.one_of(
    st.tuples(st.just("contact")),
    st.tuples(st.just("partner")),
    st.tuples(st.just("crm"), _who, _names),
    st.tuples(st.just("crm"), _who, _names),
    st.tuples(st.just("metakocka"), _who, _names),
    st.tuples(st.just("metakocka"), _who, _names),
    st.tuples(st.just("erase"), _who),
    st.tuples(st.just("person"), _who, st.sampled_from(("crm", "metakocka"))),
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
_rounds = st.lists(st.lists(_steps, max_size=8), min_size=1, max_size=3)
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
    """Both sides' people, who remember what they have written since both last agreed."""

    erp: Erp
    # of each customer the contact and the partner, as far as they are known here
    contacts: list[UUID | None] = field(default_factory=list)
    partners: list[str | None] = field(default_factory=list)
    written: dict[tuple[int, str], dict[Side, str | None]] = field(default_factory=dict)
    people: list[set[str]] = field(default_factory=list)
    number: int = 0

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
            case ("crm" | "metakocka" as side, who, name) if self.contacts:
                self._edit(side, who % len(self.contacts), name, self._value(name))
            case ("erase", who) if self.contacts:
                self._edit("crm", who % len(self.contacts), "gsm", None)
            case ("person", who, side) if self.contacts:
                self._person(side, who % len(self.contacts))
            case ("sync",):
                self._try()
            case ("kill", after):
                self._try(Fuse(after))
            case ("fault", on, after, how, accepting):
                accepted = accepting and how != "429"
                fault = Fault(on=on, after=after, after_accepting=accepted, times=2, **_HOW[how])
                self.erp.fake.behaviour.faults.append(fault)

    def agree(self) -> None:
        """Faults end, time passes, and the sync comes to rest."""
        self.erp.fake.behaviour = Behaviour()
        for _ in range(6):
            before = self.erp.written()
            assert self.erp.sync().state == "done"
            if self.erp.written() == before:
                break
        else:
            pytest.fail("it never comes to rest")
        self._find_each_other()
        self._check()
        self.written.clear()

    def _try(self, fuse: Fuse | None = None) -> None:
        with suppress(Killed, RapportError):
            self.erp.sync(fuse=fuse)

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
        who = len(self.contacts) - 1
        for name in FIELDS:
            self.written[who, name] = {side: fields[name]}

    def _edit(self, side: Side, who: int, name: str, value: str | None) -> None:
        contact, partner = self.contacts[who], self.partners[who]
        if side == "crm" and contact is not None:
            self.erp.edit_contact(contact, **{name: value})
        elif side == "metakocka" and partner is not None and value is not None:
            self.erp.edit_partner(partner, **{name: value})
        else:
            return
        self.written.setdefault((who, name), {})[side] = value

    def _person(self, side: Side, who: int) -> None:
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

    def _check(self) -> None:
        for who, (contact, partner) in enumerate(zip(self.contacts, self.partners, strict=True)):
            assert contact is not None
            assert partner is not None
            row = self.erp.contact(contact)
            assert row["sync_state"] == "synced"
            ours, theirs = Party.model_validate(row), self._party(partner)
            for name in FIELDS:
                here, there = getattr(ours, name), getattr(theirs, name)
                assert same(name, here, there), name
                self._check_kept(self.written.get((who, name), {}), here)
            for side in (ours, theirs):
                assert sorted(one.name or "" for one in side.people) == sorted(self.people[who])

    def _check_kept(self, written: dict[Side, str | None], value: str | None) -> None:
        """An edit of one side stands; of two the one that the rule prefers, erasures aside."""
        if len(written) == 1:
            assert value == next(iter(written.values()))
        elif written:
            # what was seen between the two edits, nobody knows here
            assert value in written.values()

    def _party(self, mk_id: str) -> Party:
        answer: Any = get_partner(self.erp.company, {"partner_id": mk_id})
        [record] = answer["partner_list"]
        return from_record(PartnerRecord.model_validate(record)).party


@pytest.mark.parametrize("rule", ["crm", "metakocka", "newest"])
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rounds=_rounds)
def test_both_sides_agree_and_nothing_is_lost(
    world: World, rule: str, rounds: list[list[tuple[Any, ...]]]
) -> None:
    play = Play(Erp(world, Fake(SECRET), rule=rule))
    for steps in rounds:
        for step in steps:
            play.step(step)
        play.agree()
