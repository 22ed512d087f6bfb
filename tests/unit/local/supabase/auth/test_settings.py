"""Auth's settings, as the Supabase CLI's config.toml has them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from rapport.local.errors import StackError
from rapport.local.supabase.auth.settings import AuthSettings


def test_the_projects_own_settings_are_read() -> None:
    settings = AuthSettings.read()

    assert settings.enable_signup
    assert not settings.enable_anonymous_sign_ins
    assert not settings.email.enable_confirmations
    assert settings.sms.enable_confirmations


def test_settings_have_the_names_of_the_cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTAL", "https://portal.example")
    file = tmp_path / "config.toml"
    file.write_text("""
        [auth]
        site_url = "env(PORTAL)"
        jwt_expiry = 600
        [auth.rate_limit]
        email_sent = 2
        [auth.email]
        max_frequency = "1m30s"
        [auth.external.apple]
        enabled = false
    """)

    settings = AuthSettings.read(file)

    assert settings.site_url == "https://portal.example"
    assert settings.access_token_lifetime == timedelta(minutes=10)
    assert settings.rate_limit.email_sent == 2
    assert settings.rate_limit.sms_sent == AuthSettings().rate_limit.sms_sent
    assert settings.email.max_frequency == timedelta(seconds=90)
    assert AuthSettings.read(tmp_path / "missing.toml") == AuthSettings()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[auth]\njwt_expiry = 0", "auth.jwt_expiry"),
        ('[auth.email]\nmax_frequency = "soon"', "auth.email.max_frequency"),
        ('[auth]\npassword_requirements = "long"', "auth.password_requirements"),
        ("[auth", "can't be read"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)

    with pytest.raises(StackError, match=named):
        AuthSettings.read(file)
