"""Finding a partner whose creation nobody answered."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from rapport.errors import MetakockaOutcomeUnknown, MetakockaUnavailable
from rapport.local.fakes.metakocka.behaviour import MetakockaRequestFault
from rapport.local.fakes.metakocka.fake import Fake, FakeTransport
from rapport.metakocka.agreement.clues import clues_of
from rapport.metakocka.agreement.party import Party
from rapport.metakocka.api.bodies import new_partner
from rapport.metakocka.api.client import POLICIES, Company, MetakockaClient, Policy
from rapport.metakocka.sync.find_partner import Found, NoPartner, Several, look_up
from rapport.parameters import OneSecret
from rapport.retry import Retries

PLACE = {"street": "Cesta 1", "post_number": "1000", "place": "Kranj", "country": "Slovenija"}
NOVAK = Party(
    name="Novak",
    tax_id_number="SI12345678",
    email="novak@example.com",
    gsm="+38640111222",
    **PLACE,  # type: ignore[arg-type]
)
AT_ONCE = {name: Policy(retries=Retries(attempts=2, first_wait=0)) for name in POLICIES}


@pytest.fixture
def fake() -> Fake:
    return Fake("key")


@pytest.fixture
def client(fake: Fake) -> Iterator[MetakockaClient]:
    company = Company("an account", "16", "https://metakocka.example/v1")
    secrets = OneSecret(SecretStr("key"))
    with MetakockaClient(company, secrets, AT_ONCE, FakeTransport(fake)) as client:
        yield client


def add(fake: Fake, party: Party = NOVAK, **fields: str | None) -> str:
    return fake.company("16").add(new_partner(party.model_copy(update=fields)).body).mk_id


def without(*fields: str) -> Party:
    return NOVAK.model_copy(update=dict.fromkeys(fields))


@pytest.mark.parametrize(
    "fault",
    [
        MetakockaRequestFault(drop=True),
        MetakockaRequestFault(status=200),
        MetakockaRequestFault(delay_ms=60_000),
    ],
)
def test_what_was_made_is_found_and_what_was_not_is_not(
    fake: Fake, client: MetakockaClient, fault: MetakockaRequestFault
) -> None:
    fault.after_accepting = True
    fake.behaviour.faults = [fault]
    with pytest.raises(MetakockaOutcomeUnknown):
        client.add_partner(new_partner(NOVAK))
    (mk_id,) = fake.company("16").partners
    found = look_up(client, clues_of(NOVAK))
    assert isinstance(found, Found)
    assert (found.partner.mk_id, found.by) == (mk_id, "tax_id_number")

    fake.company("16").partners.clear()
    fake.behaviour.faults = [MetakockaRequestFault(drop=True)]
    with pytest.raises(MetakockaOutcomeUnknown):
        client.add_partner(new_partner(NOVAK))
    assert look_up(client, clues_of(NOVAK)) == NoPartner()


@pytest.mark.parametrize(
    ("unknown", "by"),
    [
        ((), "tax_id_number"),
        (("tax_id_number",), "email"),
        (("tax_id_number", "email"), "phone"),
        (("tax_id_number", "email", "gsm"), "name"),
    ],
)
def test_the_first_that_is_known_decides(
    fake: Fake, client: MetakockaClient, unknown: tuple[str, ...], by: str
) -> None:
    party = without(*unknown)
    add(fake, party)
    found = look_up(client, clues_of(party))
    assert isinstance(found, Found)
    assert found.by == by


def test_several_are_for_a_person_to_choose_from(fake: Fake, client: MetakockaClient) -> None:
    ids = [add(fake), add(fake, name="Novak s.p.")]
    found = look_up(client, clues_of(NOVAK))
    assert isinstance(found, Several)
    assert ([one.mk_id for one in found.partners], found.by) == (ids, "tax_id_number")


def test_a_partner_of_another_contact_is_not_ours(fake: Fake, client: MetakockaClient) -> None:
    taken = add(fake)
    assert look_up(client, clues_of(NOVAK), [taken]) == NoPartner()
    ours = add(fake)
    found = look_up(client, clues_of(NOVAK), [taken])
    assert isinstance(found, Found)
    assert found.partner.mk_id == ours


def test_a_part_of_a_name_is_another_name(fake: Fake, client: MetakockaClient) -> None:
    party = without("tax_id_number", "email", "gsm")
    add(fake, party, name="Novak Janez")
    assert look_up(client, clues_of(party)) == NoPartner()


def test_a_namesake_is_somebody_else(fake: Fake, client: MetakockaClient) -> None:
    add(fake, tax_id_number="SI87654321", email=None, gsm=None)
    add(fake, tax_id_number=None, email="another@example.com", gsm=None)
    assert look_up(client, clues_of(NOVAK)) == NoPartner()


def test_no_answer_is_no_evidence(fake: Fake, client: MetakockaClient) -> None:
    fake.behaviour.updating = True
    with pytest.raises(MetakockaUnavailable):
        look_up(client, clues_of(NOVAK))
