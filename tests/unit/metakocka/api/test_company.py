"""Which server a company's key may go to."""

from __future__ import annotations

import pytest

from rapport.errors import ConfigError
from rapport.metakocka.api.client import company
from rapport.settings import MetakockaSettings


def test_a_company_is_at_the_usual_server_unless_it_has_its_own() -> None:
    settings = MetakockaSettings()
    assert company(settings, "a", "16").url == "https://main.metakocka.si/rest/eshop/v1"
    own = company(settings, "a", "16", "https://novak.metakocka.si/rest/eshop/v1/")
    assert own.url == "https://novak.metakocka.si/rest/eshop/v1"
    assert company(settings, "a", "16", "https://metakocka.si/x").url == "https://metakocka.si/x"


@pytest.mark.parametrize(
    "address",
    [
        "http://main.metakocka.si/rest",
        "https://metakocka.si.example.com/rest",
        "https://notmetakocka.si/rest",
        "https://main.metakocka.si@example.com/rest",
        "https://example.com#.metakocka.si",
        "https://example.com/.metakocka.si",
        "https://main.metakocka.si:8443/rest",
        "https://main.metakocka.si:port/rest",
        "https://169.254.169.254/latest",
        "https://[::1",
        "",
    ],
)
def test_the_key_goes_to_no_other_server(address: str) -> None:
    with pytest.raises(ConfigError):
        company(MetakockaSettings(), "a", "16", address)


def test_other_domains_are_the_operators_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAKOCKA_DOMAINS", "metakocka.si, erp.example")
    settings = MetakockaSettings.load()
    assert company(settings, "a", "16", "https://a.erp.example/v1").company_id == "16"
