"""Where an account's secret key comes from."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from rapport.errors import ConfigError
from rapport.metakocka import secrets
from rapport.metakocka.secrets import ParameterSecrets, secret_source
from rapport.settings import MetakockaSettings


def test_each_account_has_its_own_and_it_is_read_once_until_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads: list[str] = []

    def read(name: str) -> SecretStr:
        reads.append(name)
        return SecretStr(f"{name} {len(reads)}")

    monkeypatch.setattr(secrets, "read_parameter", read)
    monkeypatch.setenv("METAKOCKA_SECRET_PARAMETER", "/x/{account_id}/key")
    source = secret_source(MetakockaSettings.load())
    assert isinstance(source, ParameterSecrets)
    for _ in range(3):
        assert source.secret("a").get_secret_value() == "/x/a/key 1"
    assert source.secret("b").get_secret_value() == "/x/b/key 2"
    source.forget("a")
    assert source.secret("a").get_secret_value() == "/x/a/key 3"
    assert reads == ["/x/a/key", "/x/b/key", "/x/a/key"]


def test_one_key_may_be_that_of_all_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAKOCKA_SECRET_KEY", "do-not-show")
    settings = MetakockaSettings.load()
    assert "do-not-show" not in repr(settings)
    assert secret_source(settings).secret("a").get_secret_value() == "do-not-show"


def test_no_key_is_said_with_the_variables_names() -> None:
    with pytest.raises(ConfigError, match="METAKOCKA_SECRET_KEY and METAKOCKA_SECRET_PARAMETER"):
        secret_source(MetakockaSettings()).secret("a")
