"""What a contact can't take of a partner, as a sentence."""

from __future__ import annotations

import pytest

from rapport.metakocka.agreement.limits import misfit


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("email", "e@b.si;b", "write one address"),
        ("email", "a@b.si, c@d.si", "write one address"),
        ("email", "Ana <a@b.si>", "write one address"),
        ("phone", "386 40 555 666", "write it with a plus"),
        ("phone", "4.36512E+11", "write it with a plus"),
        ("phone", "040 111 222, 040 111 333", "write it with a plus"),
    ],
)
def test_what_is_not_one_address_or_number_stays_with_the_partner(
    field: str, value: str, reason: str
) -> None:
    assert reason in (misfit("crm", field, value) or "")
    # the partner keeps what it has
    assert misfit("metakocka", field, value) is None


@pytest.mark.parametrize(("field", "value"), [("email", "e@b.si"), ("phone", "+38640555666")])
def test_one_address_or_number_fits(field: str, value: str) -> None:
    assert misfit("crm", field, value) is None
