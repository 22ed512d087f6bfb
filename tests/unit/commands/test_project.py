"""Where a command finds the settings of a deployment."""

from __future__ import annotations

import os

import pytest

from rapport.commands.project import PARAMETERS, functions_url, use_stage, where
from rapport.errors import ConfigError


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set, and everything is put back that a stage sets."""
    for name in PARAMETERS:
        monkeypatch.setenv(name, "")
        monkeypatch.setenv(f"{name}_PARAMETER", "")


def test_a_stage_names_what_the_environment_does_not_set() -> None:
    os.environ["SUPABASE_URL"] = "https://ours.supabase.co"
    os.environ["WAKE_SECRET_PARAMETER"] = "/elsewhere/wake"
    use_stage("prod")
    assert os.environ["SUPABASE_SECRET_KEY_PARAMETER"] == "/rapport/prod/supabase-secret-key"
    assert os.environ["WAKE_SECRET_PARAMETER"] == "/elsewhere/wake"
    assert os.environ["SUPABASE_URL_PARAMETER"] == ""
    place = where("WHATSAPP_TOKEN", phone_number_id="77")
    assert place.startswith("the SSM parameter /rapport/prod/whatsapp/77/token, or")


def test_without_a_stage_a_place_is_told_all_the_same() -> None:
    use_stage(None)
    assert os.environ["WAKE_SECRET_PARAMETER"] == ""
    told = "the SSM parameter /rapport/<stage>/wake-secret, or WAKE_SECRET in the environment"
    assert where("WAKE_SECRET") == told


def test_the_functions_are_where_the_doorbell_rings() -> None:
    os.environ |= {"SUPABASE_URL": "https://a.supabase.co", "SUPABASE_SECRET_KEY": "sb_secret_a"}
    assert functions_url(None, "https://b.example/internal/wake") == "https://b.example"
    assert functions_url("https://c.example/", "https://b.example/x") == "https://c.example"
    assert functions_url(None, None) is None
    with pytest.raises(ConfigError, match="is no address"):
        functions_url("c.example", None)
