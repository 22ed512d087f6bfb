"""Settings out of the environment."""

from __future__ import annotations

import pytest

from rapport.errors import ConfigError
from rapport.settings import StoreSettings, WhatsAppSettings


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "https://project.example")
    with pytest.raises(ConfigError, match="SUPABASE_SERVICE_ROLE_KEY"):
        StoreSettings.load()


def test_a_wrong_value_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "not-a-url-but-private")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", "service-key")
    with pytest.raises(ConfigError, match="SUPABASE_URL") as caught:
        StoreSettings.load()
    assert "private" not in str(caught.value)


def test_an_empty_secret_is_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHATSAPP_APP_SECRET", "")
    assert WhatsAppSettings.load().whatsapp_app_secret is None


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHATSAPP_APP_SECRET", "do-not-show")
    assert "do-not-show" not in repr(WhatsAppSettings.load())


@pytest.mark.parametrize("ending", ["\n", "\r\n", " ", "\t"])
def test_a_line_break_after_a_key_is_none_of_it(
    monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setenv("SUPABASE_URL", f"https://project.example{ending}")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", f"service-key{ending}")
    settings = StoreSettings.load()
    assert settings.supabase_service_role_key.get_secret_value() == "service-key"
    assert str(settings.supabase_url) == "https://project.example/"


@pytest.mark.parametrize("key", ["service\nkey", "service key", "ključ", "sb_\u200bkey"])
def test_a_key_that_nobody_has_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SUPABASE_URL", "https://project.example")
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", key)
    with pytest.raises(
        ConfigError, match=r"SUPABASE_SERVICE_ROLE_KEY: The secret contains"
    ) as caught:
        StoreSettings.load()
    assert key not in str(caught.value)


def test_a_secret_of_white_space_is_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHATSAPP_APP_SECRET", " \n")
    with pytest.raises(ConfigError, match="WHATSAPP_APP_SECRET"):
        WhatsAppSettings.load()
