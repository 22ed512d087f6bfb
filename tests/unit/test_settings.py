"""Settings out of the environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.aws import Aws, recording

from rapport import settings as module
from rapport.errors import ConfigError, UpstreamUnavailable
from rapport.local.supabase.keys import mint_key
from rapport.server.environment import require_settings
from rapport.settings import (
    MAX_AGE,
    REREAD_INTERVAL,
    Current,
    GraphSettings,
    PushSettings,
    StoreSettings,
    UserStoreSettings,
    WakeSettings,
    WhatsAppSettings,
)
from rapport.whatsapp.webhook import is_signed, sign

NEEDED = ("SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_PUBLISHABLE_KEY", "MEDIA_BUCKET")


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "https://project.example")
    with pytest.raises(ConfigError) as caught:
        StoreSettings.load("Set it here.")
    assert str(caught.value) == "SUPABASE_SECRET_KEY is not set. Set it here."


def test_serve_names_all_that_is_missing_and_where_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NEEDED:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError) as caught:
        require_settings()
    assert str(caught.value) == (
        "SUPABASE_URL is not set; SUPABASE_SECRET_KEY is not set;"
        " SUPABASE_PUBLISHABLE_KEY is not set."
        " Set it in the environment of this process; the README says what each is."
    )


def test_a_wrong_value_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUPABASE_URL", "not-a-url-but-private")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "service-key")
    with pytest.raises(ConfigError, match="SUPABASE_URL") as caught:
        StoreSettings.load()
    assert "private" not in str(caught.value)


@pytest.mark.parametrize("host", ["project..example", f"{'a' * 64}.example", "."])
def test_an_address_that_no_server_has_is_refused(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_URL", f"https://{host}")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "service-key")
    with pytest.raises(ConfigError, match=r"SUPABASE_URL: .* 63 letters"):
        StoreSettings.load()


@pytest.mark.parametrize(
    "address", ["http://[::1]:8000", "http://127.0.0.1", "https://č.example", "https://a.example."]
)
def test_an_address_that_a_server_may_have_is_taken(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPABASE_URL", address)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "service-key")
    assert StoreSettings.load().supabase_url.scheme in address


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
    for value in (" \n", " , "):
        monkeypatch.setenv("WHATSAPP_APP_SECRET", value)
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


class Clock:
    """The time that the settings see."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """A deployment's parameters, and the environment that names them."""
    monkeypatch.setattr(module, "_parameters", module._Parameters())
    with recording() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        for name in (
            "SUPABASE_URL",
            "SUPABASE_SECRET_KEY",
            "WHATSAPP_APP_SECRET",
            "VAPID_PRIVATE_KEY",
        ):
            monkeypatch.setenv(f"{name}_PARAMETER", f"/x/{name.lower()}")
        monkeypatch.setenv("WHATSAPP_TOKEN_PARAMETER", "/x/{phone_number_id}/token")
        aws.parameters = {
            "/x/supabase_url": "https://project.example",
            "/x/supabase_secret_key": "sb_secret_old\n",
            "/x/whatsapp_app_secret": "old",
        }
        yield aws


def test_what_the_environment_names_is_read_in_one_call(aws: Aws) -> None:
    assert StoreSettings.load().supabase_secret_key.get_secret_value() == "sb_secret_old"
    assert WhatsAppSettings.load().app_secrets == ("old",)
    # one that nobody has made is a missing one
    assert PushSettings.load().vapid_private_key is None
    # the template of many is no parameter
    assert GraphSettings.load().whatsapp_token is None
    assert len(aws.requests) == 1


def test_a_value_in_the_environment_comes_first(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHATSAPP_APP_SECRET", "own")
    assert WhatsAppSettings.load().app_secrets == ("own",)
    assert aws.requests == []


def test_a_parameter_that_is_missing_is_named_and_looked_for_again(aws: Aws, clock: Clock) -> None:
    del aws.parameters["/x/supabase_secret_key"]
    for _ in range(3):
        with pytest.raises(
            ConfigError,
            match="SUPABASE_SECRET_KEY is not set: there is no parameter /x/supabase_secret_key",
        ):
            StoreSettings.load()
    assert len(aws.requests) == 1
    aws.parameters["/x/supabase_secret_key"] = "sb_secret_new"
    clock.now += REREAD_INTERVAL
    assert StoreSettings.load().supabase_secret_key.get_secret_value() == "sb_secret_new"


def test_a_parameter_with_a_wrong_value_is_named_and_not_shown(aws: Aws) -> None:
    aws.parameters["/x/supabase_secret_key"] = "sb_publishable_x"
    with pytest.raises(ConfigError, match="/x/supabase_secret_key: This is the project") as caught:
        StoreSettings.load()
    assert "sb_publishable_x" not in str(caught.value)


def test_parameters_that_can_not_be_read_are_tried_again_next_time(aws: Aws) -> None:
    aws.faults = {"ssm:GetParameters": (500, "InternalServerError")}
    with pytest.raises(UpstreamUnavailable):
        StoreSettings.load()
    aws.faults = {}
    assert StoreSettings.load().supabase_url


def test_after_a_refusal_they_are_read_anew_once_a_minute(aws: Aws, clock: Clock) -> None:
    store, app = StoreSettings.load(), Current(WhatsAppSettings.load)
    assert app().app_secrets == ("old",)
    aws.parameters |= {
        "/x/supabase_secret_key": "sb_secret_new",
        "/x/whatsapp_app_secret": "old,new",
    }
    # they were read a moment ago
    assert store.reread() is None
    assert not app.reread()
    clock.now += REREAD_INTERVAL
    fresh = store.reread()
    assert fresh
    assert fresh.supabase_secret_key.get_secret_value() == "sb_secret_new"
    # who is refused next learns of the same reading
    assert app.reread()
    assert app().app_secrets == ("old", "new")
    assert not app.reread()
    for _ in range(5):
        assert fresh.reread() is None
    assert len(aws.requests) == 2


def test_what_can_not_be_read_anew_stays(aws: Aws, clock: Clock) -> None:
    store = StoreSettings.load()
    clock.now += REREAD_INTERVAL
    aws.faults = {"ssm:GetParameters": (500, "InternalServerError")}
    assert store.reread() is None
    tries = len(aws.requests)
    assert store.reread() is None
    assert len(aws.requests) == tries


def test_a_secret_that_was_taken_back_is_good_for_minutes_and_no_longer(
    aws: Aws, clock: Clock
) -> None:
    aws.parameters["/x/wake_secret"] = "old"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WAKE_SECRET_PARAMETER", "/x/wake_secret")
        app, wake = Current(WhatsAppSettings.load), Current(WakeSettings.load)
        assert app().app_secrets == ("old",)
        assert wake().wake_secret
        aws.parameters |= {"/x/whatsapp_app_secret": "new", "/x/wake_secret": "new"}
        # no refusal tells of it
        clock.now += MAX_AGE - 1
        assert app().app_secrets == ("old",)
        clock.now += 1
        aws.faults = {"ssm:GetParameters": (500, "InternalServerError")}
        assert app().app_secrets == ("old",)
        aws.faults = {}
        clock.now += MAX_AGE
        tries = len(aws.requests)
        for _ in range(3):
            assert app().app_secrets == ("new",)
            secret = wake().wake_secret
            assert secret
            assert secret.get_secret_value() == "new"
        assert len(aws.requests) == tries + 1


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        ("old, new\n", ("old", "new")),
        (" old ,new,", ("old", "new")),
        (",,new", ("new",)),
    ],
)
def test_what_stands_around_app_secrets_is_none_of_them(
    monkeypatch: pytest.MonkeyPatch, value: str, secrets: tuple[str, ...]
) -> None:
    monkeypatch.setenv("WHATSAPP_APP_SECRET", value)
    assert WhatsAppSettings.load().app_secrets == secrets
    assert not is_signed(b"{}", sign(b"{}", ""), *secrets)


def test_what_the_environment_holds_itself_is_not_read_anew(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setenv("WHATSAPP_APP_SECRET", "one,two")
    app = WhatsAppSettings.load()
    assert app.app_secrets == ("one", "two")
    clock.now += REREAD_INTERVAL
    assert app.reread() is None
