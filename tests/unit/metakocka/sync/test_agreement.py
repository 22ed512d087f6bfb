"""One contact and its partner agree in the end, even if something was lost on the way."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from rapport.errors import MetakockaError
from rapport.local.fakes.metakocka.behaviour import MetakockaBehaviour, MetakockaRequestFault
from rapport.local.fakes.metakocka.fake import Fake, FakeTransport
from rapport.metakocka.agreement.clues import clues_of
from rapport.metakocka.agreement.compare import same
from rapport.metakocka.agreement.decisions import Rule
from rapport.metakocka.agreement.merge import merge
from rapport.metakocka.agreement.party import Party, Person
from rapport.metakocka.api.bodies import NewPartner, new_partner, partner_update
from rapport.metakocka.api.client import POLICIES, Company, MetakockaClient, Policy
from rapport.metakocka.api.from_partner import from_record
from rapport.metakocka.sync.find_partner import Found, look_up
from rapport.parameters import OneSecret
from rapport.retry import Retries

VALUES = {
    "name": ["Novak", "Kovač"],
    "street": ["Cesta 1", "Cesta 2"],
    "email": ["a@example.com", "b@example.com", None],
    "gsm": ["+38640111222", "+38640333444", None],
}
TOLD = (*VALUES, "place", "country", "taxpayer")
FAULTS = [
    {"drop": True},
    {"status": 200},
    {"status": 503},
    {"status": 429},
    {"opr_code": "1"},
    {"delay_ms": 60_000},
]
NOVAK = Party(
    name="Novak", street="Cesta 1", post_number="1000", place="Kranj", country="Slovenija"
)
AT_ONCE = {name: Policy(retries=Retries(attempts=2, first_wait=0)) for name in POLICIES}


@dataclass
class Pair:
    """A contact here, a company there, and what a sync remembers from run to run."""

    rule: Rule
    contact: Party = NOVAK
    base: Party | None = None
    mk_id: str | None = None
    # what was sent and not answered
    intent: NewPartner | None = None
    fake: Fake = field(default_factory=lambda: Fake("key"))

    def __post_init__(self) -> None:
        company = Company("an account", "16", "https://metakocka.example/v1")
        self.client = MetakockaClient(
            company, OneSecret(SecretStr("key")), AT_ONCE, FakeTransport(self.fake)
        )

    def edit_there(self, name: str, value: str | None) -> None:
        """Somebody edits the partner at Metakocka, where it was seen; nothing is erased there.

        One that nobody has seen yet is left alone: what it was made with is all that it could
        be found by.
        """
        for partner in self.fake.company("16").partners.values():
            if value is None or self.intent is not None:
                continue
            if name == "name":
                partner.fields["customer"] = value
            elif name == "street":
                next(iter(partner.addresses.values()))["street"] = value
            elif partner.people:
                next(iter(partner.people.values()))[name] = value

    def sync(self) -> bool:
        """One run; tells whether it came to its end."""
        try:
            self._create()
            self._agree()
        except MetakockaError:
            return False
        return True

    def _create(self) -> None:
        if self.mk_id is not None:
            return
        if self.intent is not None:
            # looked for is what was sent, not what the contact has become since
            found = look_up(self.client, clues_of(self.intent.agreed))
            if isinstance(found, Found):
                self.mk_id, self.base, self.intent = found.partner.mk_id, self.intent.agreed, None
                return
        self.intent = new_partner(self.contact)
        self.mk_id = self.client.add_partner(self.intent).mk_id
        self.base, self.intent = self.intent.agreed, None

    def _agree(self) -> None:
        assert self.mk_id
        record = self.client.get_partner(self.mk_id)
        assert record
        own_person = self.base.own_person if self.base else None
        partner = from_record(record, own_person=own_person)
        merged = merge(self.base, self.contact, partner.party, self.rule)
        update = partner_update(partner, merged.erp_changes)
        if update:
            self.client.update_partner(update)
        self.contact = self.contact.model_copy(update=dict(merged.crm_changes))
        self.base = merged.party


def edits(where: str) -> st.SearchStrategy[tuple[str, str, object]]:
    return st.one_of(
        *(
            st.tuples(st.just(where), st.just(name), st.sampled_from(values))
            for name, values in VALUES.items()
        )
    )


people = st.tuples(st.just("people"), st.sampled_from(["Ana", "Bine"]), st.none())
faults = st.tuples(st.just("fault"), st.sampled_from(FAULTS), st.booleans())
syncs = st.tuples(st.just("sync"), st.none(), st.none())
steps = st.lists(st.one_of(edits("here"), edits("there"), people, faults, syncs), max_size=14)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["crm", "metakocka", "newest"]), steps)
def test_both_sides_agree_on_one_partner_once_the_faults_have_ended(
    rule: Rule, steps: list[tuple[str, object, object]]
) -> None:
    pair = Pair(rule)
    added: set[str] = set()
    for what, which, value in steps:
        if what == "here":
            pair.contact = pair.contact.model_copy(update={str(which): value})
        elif what == "there":
            pair.edit_there(str(which), value if isinstance(value, str) else None)
        elif what == "people":
            if which not in added:
                added.add(str(which))
                pair.contact = pair.contact.model_copy(
                    update={"people": (*pair.contact.people, Person(name=str(which)))}
                )
        elif what == "fault":
            fault = MetakockaRequestFault.model_validate({**which, "after_accepting": value})  # type: ignore[dict-item]
            pair.fake.behaviour.faults.append(fault)
        else:
            pair.sync()

    pair.fake.behaviour = MetakockaBehaviour()
    # a new entry's id comes back one run later
    for _ in range(3):
        assert pair.sync()
    before = (pair.contact, pair.base, pair.fake.calls["update_partner"])
    assert pair.sync()
    assert (pair.contact, pair.base, pair.fake.calls["update_partner"]) == before

    (partner,) = pair.client.list_partners()
    assert pair.base
    there = from_record(partner, own_person=pair.base.own_person).party
    for name in TOLD:
        assert same(name, getattr(there, name), getattr(pair.contact, name)), name
    assert {one.name for one in there.people} == {one.name for one in pair.contact.people} == added
    assert len(there.people) == len(pair.contact.people) == len(added)
