"""Settings out of the environment."""

from __future__ import annotations

import pytest

from rapport.errors import ConfigError
from rapport.local.supabase.keys import mint_key
from rapport.settings import StoreSettings, UserStoreSettings, WhatsAppSettings


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "https://project.example")
    with pytest.raises(ConfigError, match="SUPABASE_SECRET_KEY"):
        StoreSettings.load()


def test_a_wrong_value_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "not-a-url-but-private")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "service-key")
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
    monkeypatch.setenv("SUPABASE_SECRET_KEY", f"service-key{ending}")
    settings = StoreSettings.load()
    assert settings.supabase_secret_key.get_secret_value() == "service-key"
    assert str(settings.supabase_url) == "https://project.example/"


@pytest.mark.parametrize("key", ["service\nkey", "service key", "ključ", "sb_\u200bkey"])
def test_a_key_that_nobody_has_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SUPABASE_URL", "https://project.example")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", key)
    with pytest.raises(ConfigError, match=r"SUPABASE_SECRET_KEY: The secret contains") as caught:
        StoreSettings.load()
    assert key not in str(caught.value)


def test_a_secret_of_white_space_is_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHATSAPP_APP_SECRET", " \n")
    with pytest.raises(ConfigError, match="WHATSAPP_APP_SECRET"):
        WhatsAppSettings.load()


@pytest.mark.parametrize(
    ("variable", "older"),
    [
        ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"),
        ("SUPABASE_PUBLISHABLE_KEY", "SUPABASE_ANON_KEY"),
    ],
)
def test_a_key_may_stand_under_its_older_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, older: str
) -> None:
    settings = StoreSettings if "SECRET" in variable else UserStoreSettings
    monkeypatch.setenv("SUPABASE_URL", "https://project.example")
    monkeypatch.setenv(older, "older")
    assert getattr(settings.load(), variable.lower()).get_secret_value() == "older"
    monkeypatch.setenv(variable, "newer")
    assert getattr(settings.load(), variable.lower()).get_secret_value() == "newer"
    monkeypatch.setenv(variable, "")
    assert getattr(settings.load(), variable.lower()).get_secret_value() == "older"


LEGACY_SECRET = "a-secret-of-forty-characters-and-no-less"


@pytest.mark.parametrize("name", ["SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY"])
@pytest.mark.parametrize("key", ["sb_publishable_x", mint_key(LEGACY_SECRET, "anon")])
def test_a_public_key_in_place_of_a_secret_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    monkeypatch.setenv("SUPABASE_URL", "https://project.example")
    monkeypatch.setenv(name, key)
    with pytest.raises(ConfigError, match=f"{name}: This is the project's publishable key"):
        StoreSettings.load()


@pytest.mark.parametrize("name", ["SUPABASE_PUBLISHABLE_KEY", "SUPABASE_ANON_KEY"])
@pytest.mark.parametrize("key", ["sb_secret_x", mint_key(LEGACY_SECRET, "service_role")])
def test_a_secret_key_in_place_of_a_public_one_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    monkeypatch.setenv("SUPABASE_URL", "https://project.example")
    monkeypatch.setenv(name, key)
    with pytest.raises(ConfigError, match=f"{name}: This is a secret key") as caught:
        UserStoreSettings.load()
    assert key not in str(caught.value)
