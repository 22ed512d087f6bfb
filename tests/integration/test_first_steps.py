"""A deployment's first steps by its commands, from nothing to a check that finds nothing wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest
from tests.stacks import Start, served
from typer.testing import CliRunner

from rapport.commands import app
from rapport.errors import RapportError
from rapport.local.fakes.metakocka.app import application as metakocka
from rapport.local.fakes.whatsapp.app import application as whatsapp
from rapport.local.stack.postgres import Database
from rapport.local.stack.running import METAKOCKA_PATH, Stack

NUMBER = "1003427786179738"
SHOWN = "+386 1 555 01 00"
WABA = "102290129340398"


@pytest.fixture
def project(start: Start, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Stack, str]]:
    """A project without rows, its functions, and stand-ins; the commands are pointed at them."""
    stack = start("postgrest", "gateway", "functions", "net")
    with (
        served(whatsapp(stack.webhook_url, stack.whatsapp_app_secret, "a-token")) as meta,
        served(metakocka("a-key")) as erp,
    ):
        for name, value in {
            "SUPABASE_URL": stack.url,
            "DASHBOARD_URL": f"{stack.url}/dashboard/",
            "SUPABASE_SECRET_KEY": stack.secret_key,
            "SUPABASE_PUBLISHABLE_KEY": stack.publishable_key,
            "WHATSAPP_GRAPH_URL": f"{meta}/v26.0",
            "WHATSAPP_TOKEN": "a-token",
            "WHATSAPP_APP_SECRET": stack.whatsapp_app_secret,
            "WHATSAPP_VERIFY_TOKEN": stack.whatsapp_verify_token,
            "METAKOCKA_URL": f"{erp}{METAKOCKA_PATH}",
            "METAKOCKA_SECRET_KEY": "a-key",
            "METAKOCKA_COMPANIES": "any",
            "WAKE_SECRET": stack.wake_secret,
            "VAPID_PRIVATE_KEY": stack.vapid_private_key,
            "no_proxy": "127.0.0.1",
        }.items():
            monkeypatch.setenv(name, value)
        yield stack, meta


def rapport(*arguments: str) -> str:
    """What a command tells. Its refusals are raised, as main() catches them."""
    result = CliRunner().invoke(app, arguments)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: str) -> RapportError:
    with pytest.raises(RapportError) as error:
        rapport(*arguments)
    return error.value


def register(meta: str, **known: object) -> None:
    """What Meta knows of the app from now on."""
    httpx.post(f"{meta}/_fake/registered", json=known, trust_env=False).raise_for_status()


def checked(*options: str) -> tuple[bool, dict[str, dict[str, str]]]:
    """Whether nothing is wrong, and the findings of `rapport check --json`."""
    result = CliRunner().invoke(app, ["check", "--json", *options])
    assert isinstance(result.exception, SystemExit | None), result.exception
    told: dict[str, Any] = json.loads(result.output)
    assert result.exit_code == (0 if told["ok"] else 1)
    return told["ok"], {one["check"]: one for one in told["findings"]}


def test_from_nothing_to_a_check_that_finds_nothing_wrong(
    project: tuple[Stack, str], database: Database
) -> None:
    stack, meta = project
    assert "There is now the account Alpine (alpine)" in rapport(
        "account", "create", "Alpine", "--external-id", "alpine", "--country", "SI"
    )
    owner = ("member", "add", "alpine", "olivia@alpine.example", "--role", "owner", "--link")
    added = rapport(*owner)
    assert "olivia@alpine.example is now owner of alpine, shown as Olivia." in added
    # the link was lost
    again = rapport(*owner)
    assert "owner of alpine already" in again
    lost, link = (told.rstrip().splitlines()[-1] for told in (added, again))
    assert link.startswith(stack.url)
    assert link != lost
    mailed = rapport("account", "create", "Alpine", "--owner", "ota@alpine.example")
    assert "There is already the account Alpine (alpine)" in mailed
    assert "A mail with a link to sign in went to ota@alpine.example." in mailed
    where = {"to": "ota@alpine.example"}
    mails = httpx.get(f"{stack.url}/_mail/messages", params=where, trust_env=False).json()
    assert mails["messages"][0]["subject"] == "Alpine invites you to Rapport"
    assert "answer its customers" in mails["messages"][0]["body"]
    # who came by the link works for the account
    came = httpx.get(link, trust_env=False)
    assert came.status_code == httpx.codes.SEE_OTHER
    assert came.headers["location"].startswith(f"{stack.url}/dashboard/")
    assert "has signed in before" in rapport(*owner)
    listed = rapport("account", "list")
    assert "alpine  Alpine" in listed
    assert "owner    olivia@alpine.example, ota@alpine.example" in listed

    number = ("number", "add", "alpine", SHOWN, "--phone-number-id", NUMBER)
    assert "account is not known" in rapport(*number, "--without-meta")
    assert "with new details" in rapport(*number)
    assert "is already a number of alpine" in rapport(*number)
    other = refused("number", "add", "alpine", "+386 40 111 222", "--phone-number-id", NUMBER)
    assert str(other) == f"At Meta {NUMBER} is {SHOWN}, not +386 40 111 222."

    functions = ("connect", "functions", "--url", stack.functions_url)
    assert "the database now rings there" in rapport(*functions)
    assert "the database rings there already" in rapport(*functions)

    register(meta, is_subscribed=False, callback_url="", fields=[])
    with psycopg.connect(database.url()) as connection:
        connection.execute("update public.whatsapp_channels set waba_id = null")
    connected = rapport("connect", "whatsapp", "--test", "+386 40 111 222")
    assert f"The app now hears of the WhatsApp Business account {WABA}." in connected
    assert f"Webhooks now go to {stack.webhook_url}" in connected
    assert "has sent the template hello_world to +38640111222" in connected
    with psycopg.connect(database.url()) as connection:
        row = connection.execute("select waba_id from public.whatsapp_channels").fetchone()
    assert row == (WABA,)
    again = rapport("connect", "whatsapp")
    assert f"hears of the WhatsApp Business account {WABA} already" in again
    assert f"Webhooks go to {stack.webhook_url} already" in again

    # a number that was never registered, and one whose webhooks go elsewhere
    new = {"waba_id": WABA, "display_phone_number": SHOWN, "status": "PENDING"}
    register(meta, numbers={NUMBER: new})
    assert "has the status PENDING at Meta" in rapport("connect", "whatsapp")
    assert "is now registered" in rapport("connect", "whatsapp", NUMBER, "--pin", "123456")
    register(meta, numbers={NUMBER: new | {"callback_url": "https://other.example/"}})
    assert "go to https://other.example/" in str(refused("connect", "whatsapp"))
    register(meta)

    company = ("connect", "metakocka", "alpine", "--company-id", "16")
    assert "The account alpine is now connected to it." in rapport(*company)
    assert "The account alpine is connected to it already." in rapport(*company)

    is_fine, found = checked()
    wrong = {check for check, one in found.items() if one["state"] == "wrong"}
    # the schema of a test is loaded without the Supabase CLI
    assert (is_fine, wrong) == (False, {"Migrations"})
    for check in ("Realtime, live", "Doorbell, live", "Webhook's address", f"Token of {SHOWN}"):
        assert found[check]["state"] == "ok", found[check]
    with psycopg.connect(database.url("supabase_admin")) as owner_of_all:
        left = owner_of_all.execute(
            "select count(*) from realtime.messages where topic like 'check:%'"
        ).fetchone()
    assert left == (0,)

    # what only a whole stack can show
    with psycopg.connect(database.url(), autocommit=True) as connection:
        connection.execute(
            "select backend.set_doorbell(%s, %s)", [stack.wake_url, "another secret " * 3]
        )
        finding = checked()[1]["Doorbell, live"]
        assert (finding["state"], "connect functions" in finding["remedy"]) == ("wrong", True)
        connection.execute("select backend.set_doorbell(null, null)")
    ring = checked("--url", stack.functions_url)[1]["Doorbell, live"]
    assert ring["found"] == "There is no doorbell, so workers start by their schedule alone."


def test_refusals_name_the_remedy(
    project: tuple[Stack, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, _ = project
    for arguments, words in (
        (("member", "add", "none", "a@b.si"), "There is no account 'none'"),
        (("member", "add", "none", "ab"), "ab is not an email address"),
        (("member", "add", "none", "a@b.si", "--role", "boss"), "There is no role boss"),
        (("number", "add", "none", "040", "--phone-number-id", "1"), "has no country code"),
        (("connect", "whatsapp", "--url", stack.functions_url), "No account has a WhatsApp number"),
        (("connect", "whatsapp", "7", "--url", stack.functions_url), "7 is no number"),
        (("connect", "whatsapp", "--pin", "1"), "--pin takes six digits"),
        (("connect", "functions", "--url", "here"), "--url here is no address"),
        (("connect", "functions", "--url", f"{stack.functions_url}/api"), "where 202 is right"),
        (("connect", "metakocka", "none", "--company-id", "16"), "There is no account 'none'"),
    ):
        assert words in str(refused(*arguments))
    rapport("account", "create", "Alpine", "--external-id", "alpine")
    monkeypatch.delenv("DASHBOARD_URL")
    unknown = refused("member", "add", "alpine", "a@alpine.example")
    assert str(unknown).startswith("DASHBOARD_URL is missing")
    monkeypatch.setenv("METAKOCKA_SECRET_KEY", "another-key")
    assert "the key" in (refused("connect", "metakocka", "alpine", "--company-id", "16").hint or "")
    monkeypatch.setenv("WAKE_SECRET", "x" * 32)
    assert "another secret" in str(refused("connect", "functions", "--url", stack.functions_url))

    # a project that does not answer, and keys that it does not take
    monkeypatch.setenv("SUPABASE_PUBLISHABLE_KEY", "sb_publishable_of_another_project")
    assert checked()[1]["Publishable key"]["state"] == "wrong"
    monkeypatch.setenv("SUPABASE_SECRET_KEY", stack.service_role_key)
    assert "legacy" in checked()[1]["Secret key"]["found"]
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_of_another_project")
    assert checked()[1]["Secret key"]["state"] == "wrong"
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:9")
    is_fine, found = checked()
    assert (is_fine, list(found)) == (False, ["Project"])
