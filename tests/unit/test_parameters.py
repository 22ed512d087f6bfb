"""Where an account's secret key comes from."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from rapport import parameters as secrets
from rapport.errors import ConfigError
from rapport.parameters import Parameters, ParameterSecrets, secret_source
from rapport.settings import MetakockaSettings


def test_each_account_has_its_own_and_it_is_read_once_until_it_is_refused() -> None:
    reads: list[str] = []
    now = 1000.0

    def read(name: str) -> SecretStr:
        reads.append(name)
        return SecretStr(f"{name} {len(reads)}")

    template = "/x/{account_id}/key"
    parameters = Parameters(template, read=read, clock=lambda: now)
    source = ParameterSecrets(template, parameters=parameters)
    for _ in range(3):
        assert source.secret("a", "16").get_secret_value() == "/x/a/key 1"
    assert source.secret("b", "17").get_secret_value() == "/x/b/key 2"
    # it was read a moment ago: who is refused often causes one reading a minute
    now += 59
    source.forget("a")
    assert source.secret("a", "16").get_secret_value() == "/x/a/key 1"
    now += 2
    for _ in range(3):
        source.forget("a")
        assert source.secret("a", "16").get_secret_value() == "/x/a/key 3"
    assert reads == ["/x/a/key", "/x/b/key", "/x/a/key"]
    source.forget("never read")


@pytest.mark.parametrize("variable", ["METAKOCKA_SECRET_KEY", "METAKOCKA_SECRET_KEY_PARAMETER"])
def test_one_key_of_several_accounts_is_for_the_companies_that_are_listed(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setattr(secrets, "read_parameter", SecretStr)
    monkeypatch.setenv(variable, "do-not-show")
    monkeypatch.setenv("METAKOCKA_COMPANIES", "A=16, b = 17")
    settings = MetakockaSettings.load()
    source = secret_source(settings)
    for account, company in (("a", "16"), ("A", "16"), ("b", "17")):
        assert source.secret(account, company).get_secret_value() == "do-not-show"
    # for every company that an account's admin names
    for account, company in (("a", "17"), ("b", "16"), ("c", "16"), ("a", "016"), ("a", "18")):
        with pytest.raises(ConfigError, match=f"{account}={company} to METAKOCKA_COMPANIES"):
            source.secret(account, company)

    monkeypatch.delenv("METAKOCKA_COMPANIES")
    with pytest.raises(ConfigError, match="a=16 to METAKOCKA_COMPANIES"):
        secret_source(MetakockaSettings.load()).secret("a", "16")


def test_a_key_of_its_own_is_for_the_companies_that_are_listed_if_any_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(secrets, "read_parameter", SecretStr)
    monkeypatch.setenv("METAKOCKA_SECRET_KEY_PARAMETER", "/x/{account_id}/key")
    monkeypatch.setenv("METAKOCKA_COMPANIES", "a=16")
    source = secret_source(MetakockaSettings.load())
    assert source.secret("a", "16").get_secret_value() == "/x/a/key"
    with pytest.raises(ConfigError, match="a=17 to METAKOCKA_COMPANIES"):
        source.secret("a", "17")


def test_a_stand_ins_key_is_for_any_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAKOCKA_SECRET_KEY", "do-not-show")
    monkeypatch.setenv("METAKOCKA_COMPANIES", "any")
    settings = MetakockaSettings.load()
    assert "do-not-show" not in repr(settings)
    assert secret_source(settings).secret("a", "16").get_secret_value() == "do-not-show"


@pytest.mark.parametrize("words", ["16", "a=", "=16", "a=16=17", "any,a=16"])
def test_what_is_no_list_of_companies_is_refused(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setenv("METAKOCKA_COMPANIES", words)
    with pytest.raises(ConfigError, match="ACCOUNT=COMPANY"):
        secret_source(MetakockaSettings.load())


def test_no_key_is_said_with_the_variables_names() -> None:
    with pytest.raises(ConfigError, match="SECRET_KEY and METAKOCKA_SECRET_KEY_PARAMETER"):
        secret_source(MetakockaSettings()).secret("a", "16")
