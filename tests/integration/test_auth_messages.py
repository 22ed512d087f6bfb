"""Codes, links and what they are for: confirmation, magic links, recovery, changes, phones."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from tests.integration.auth_calls import EMAIL, PASSWORD, Auth, fragment, refusal, serving

from rapport.local.stack.running import Stack
from rapport.local.supabase import keys
from rapport.local.supabase.auth.settings import (
    AuthSettings,
    EmailSettings,
    RateLimits,
    SmsSettings,
)

NEW_EMAIL = "olivia@home.example"
PHONE, NEW_PHONE = "38640111222", "38640222333"
SITE = "http://127.0.0.1:3000"
# a test doesn't wait for the time between two mails
AT_ONCE = timedelta()
CONFIRMING = AuthSettings(
    email=EmailSettings(enable_confirmations=True, max_frequency=AT_ONCE),
    sms=SmsSettings(max_frequency=AT_ONCE),
)
TRUSTING = AuthSettings(
    email=EmailSettings(max_frequency=AT_ONCE),
    sms=SmsSettings(enable_confirmations=False, max_frequency=AT_ONCE),
    enable_anonymous_sign_ins=True,
)

Serve = Callable[..., Any]


@pytest.fixture
async def serve(start: Callable[..., Stack]) -> AsyncIterator[Serve]:
    """Starts Auth with these settings on the test's database."""
    async with AsyncExitStack() as running:

        async def serve(settings: AuthSettings) -> Auth:
            return await running.enter_async_context(serving(start(), settings))

        yield serve


async def verify(auth: Auth, **body: str) -> httpx.Response:
    return await auth.call("POST", "/verify", body)


async def test_a_sign_up_waits_for_its_confirmation(serve: Serve) -> None:
    auth: Auth = await serve(CONFIRMING)
    user = await auth.sign_up()
    assert "access_token" not in user
    assert user["confirmation_sent_at"]
    assert refusal(await auth.sign_in()) == (400, "email_not_confirmed")
    mail = await auth.mail()

    # another sign-up by the same address is told nothing else, and takes nothing over
    again = await auth.sign_up(password="battery staple")
    assert again.keys() == user.keys()
    assert again["id"] != user["id"]
    assert again["identities"] == []
    later = await auth.mail()
    assert later["id"] > mail["id"]
    # the code before is no longer good, wherever it is shown
    assert refusal(await verify(auth, type="signup", email=EMAIL, token=mail["code"])) == (
        403,
        "otp_expired",
    )
    assert fragment(await auth.follow(mail["link"]))["error_code"] == "otp_expired"

    page = await auth.follow(later["link"])

    session = fragment(page)
    assert str(page).startswith(f"{SITE}#")
    assert session["type"] == "signup"
    assert keys.verify(keys.KeySet.of(auth.stack), session["access_token"]).sub == user["id"]
    assert (await auth.refresh(session["refresh_token"])).status_code == 200
    assert (await auth.sign_in()).status_code == 200
    assert refusal(await auth.sign_in(password="battery staple")) == (400, "invalid_credentials")
    # once
    assert fragment(await auth.follow(later["link"]))["error"] == "access_denied"
    # a confirmed address: the same answer, and no mail
    sent = await auth.mails()
    assert (await auth.sign_up()).keys() == user.keys()
    await auth.call("POST", "/resend", {"type": "signup", "email": EMAIL})
    assert await auth.mails() == sent


async def test_a_code_is_good_for_its_address_its_purpose_and_its_time(serve: Serve) -> None:
    auth: Auth = await serve(CONFIRMING)
    await auth.sign_up()
    code = (await auth.mail())["code"]
    assert re.fullmatch(r"[0-9]{6}", code)

    wrong = [
        {"type": "signup", "email": NEW_EMAIL, "token": code},
        {"type": "recovery", "email": EMAIL, "token": code},
        {"type": "email_change", "email": EMAIL, "token": code},
        {"type": "signup", "email": EMAIL, "token": f"{(int(code) + 1) % 10**6:06}"},
        {"type": "sms", "phone": PHONE, "token": code},
    ]
    for body in wrong:
        assert refusal(await verify(auth, **body)) == (403, "otp_expired")
    malformed = [
        {"type": "signup", "email": EMAIL},
        {"email": EMAIL, "token": code},
        {"type": "signup", "token": code},
        {"type": "signup", "email": EMAIL, "token": code, "token_hash": code},
        {"type": "signup", "email": EMAIL, "token_hash": code},
        {"type": "what", "email": EMAIL, "token": code},
        {"type": "sms", "phone": f"{PHONE}-x", "token": code},
    ]
    for body in malformed:
        assert refusal(await verify(auth, **body)) == (400, "validation_failed")
    auth.sql("update auth.one_time_tokens set created_at = created_at - interval '61 minutes'")
    assert refusal(await verify(auth, type="signup", email=EMAIL, token=code)) == (
        403,
        "otp_expired",
    )
    auth.sql("update auth.one_time_tokens set created_at = created_at + interval '2 minutes'")

    right = {"type": "email", "email": EMAIL, "token": code}
    answers = await asyncio.gather(*(verify(auth, **right) for _ in range(3)))

    assert sorted(answer.status_code for answer in answers) == [200, 403, 403]
    [user] = [answer.json()["user"] for answer in answers if answer.is_success]
    assert user["email_confirmed_at"]
    assert user["identities"][0]["identity_data"]["email_verified"] is True


async def test_the_database_holds_neither_codes_nor_what_links_hold(serve: Serve) -> None:
    auth: Auth = await serve(CONFIRMING)
    await auth.sign_up()
    mail = await auth.mail()
    token = httpx.URL(mail["link"]).params["token"]

    with psycopg.connect(auth.stack.db_url("postgres")) as connection:
        [(stored, row)] = connection.execute(
            "select t.token_hash, t::text || u::text"
            " from auth.one_time_tokens t join auth.users u on u.id = t.user_id"
        ).fetchall()
    assert token not in row
    assert mail["code"] not in row.replace(stored, "")
    # nor can the six digits be tried against it without the stack's secret
    tries = (f"{EMAIL}{mail['code']}", f"{EMAIL}\n{mail['code']}", mail["code"])
    hashes = {
        hashlib.new(kind, text.encode()).hexdigest()
        for text in tries
        for kind in ("sha224", "sha256")
    }
    assert stored not in hashes


@pytest.mark.parametrize("settings", [CONFIRMING, TRUSTING], ids=["confirming", "trusting"])
async def test_a_code_signs_in_and_makes_a_user_if_asked(
    serve: Serve, settings: AuthSettings
) -> None:
    auth: Auth = await serve(settings)
    unknown = {"email": EMAIL, "create_user": False}
    assert refusal(await auth.call("POST", "/otp", unknown)) == (422, "otp_disabled")
    body = {"email": EMAIL, "data": {"name": "Olivia"}}
    assert (await auth.call("POST", "/otp", body)).json() == {}

    first = await verify(auth, type="email", email=EMAIL, token=(await auth.mail())["code"])

    assert first.json()["user"]["user_metadata"]["name"] == "Olivia"
    claims = keys.verify(keys.KeySet.of(auth.stack), first.json()["access_token"])
    assert claims.model_dump()["amr"][0]["method"] == "otp"
    # and once more as a user, by the link's token
    assert (await auth.call("POST", "/otp", unknown)).json() == {}
    token = httpx.URL((await auth.mail())["link"]).params["token"]
    second = await verify(auth, type="magiclink", token_hash=token)
    assert second.json()["user"]["id"] == first.json()["user"]["id"]
    renewed = (await auth.refresh(second.json()["refresh_token"])).json()
    claims = keys.verify(keys.KeySet.of(auth.stack), renewed["access_token"])
    assert claims.model_dump()["amr"][0]["method"] == "otp"
    for both in ({"email": EMAIL, "phone": PHONE}, {}, {"email": EMAIL, "channel": "sms"}):
        assert refusal(await auth.call("POST", "/otp", both)) == (400, "validation_failed")


async def test_a_forgotten_password_is_replaced(serve: Serve) -> None:
    auth: Auth = await serve(TRUSTING)
    await auth.sign_up()
    unknown = await auth.call("POST", "/recover", {"email": NEW_EMAIL})
    known = await auth.call("POST", "/recover", {"email": EMAIL})
    assert (known.status_code, known.json()) == (unknown.status_code, unknown.json()) == (200, {})
    assert await auth.mails(NEW_EMAIL) == 0

    session = fragment(await auth.follow((await auth.mail())["link"]))

    assert session["type"] == "recovery"
    token = session["access_token"]
    await auth.call("PUT", "/user", {"password": "battery staple"}, token=token)
    assert (await auth.sign_in(password="battery staple")).status_code == 200
    assert refusal(await auth.sign_in()) == (400, "invalid_credentials")


async def test_a_link_with_pkce_serves_the_client_that_asked(serve: Serve) -> None:
    auth: Auth = await serve(TRUSTING)
    await auth.sign_up()
    verifier = "a-verifier-that-only-one-client-knows-1234567890"
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
    ask = {
        "email": EMAIL,
        "code_challenge": challenge.decode().rstrip("="),
        "code_challenge_method": "s256",
    }

    async def exchange(code: str, by: str) -> httpx.Response:
        body = {"auth_code": code, "code_verifier": by}
        return await auth.call("POST", "/token?grant_type=pkce", body)

    for path, method in (("/otp", "magiclink"), ("/recover", "recovery")):
        await auth.call("POST", f"{path}?redirect_to={SITE}/portal?invitation=x", ask)
        link = (await auth.mail())["link"]
        # without its mark the link would lead to tokens in the page's address
        unmarked = link.replace("token=pkce_", "token=")
        assert unmarked != link
        assert fragment(await auth.follow(unmarked))["error_code"] == "otp_expired"

        page = await auth.follow(link)

        assert page.params["invitation"] == "x"
        assert "access_token" not in str(page)
        code = page.params["code"]
        assert refusal(await exchange(code, verifier[::-1])) == (400, "bad_code_verifier")
        answer = await exchange(code, verifier)
        claims = keys.verify(keys.KeySet.of(auth.stack), answer.json()["access_token"])
        assert claims.model_dump()["amr"][0]["method"] == method
        assert refusal(await exchange(code, verifier)) == (404, "flow_state_not_found")
    await auth.call("POST", "/otp", ask)
    late = (await auth.follow((await auth.mail())["link"])).params["code"]
    auth.sql("update auth.flow_state set auth_code_issued_at = now() - interval '6 minutes'")
    assert refusal(await exchange(late, verifier)) == (422, "flow_state_expired")
    for wrong in ({"code_challenge_method": ""}, {"code_challenge": "short"}):
        answer = await auth.call("POST", "/otp", {**ask, **wrong})
        assert refusal(answer) == (400, "validation_failed")


async def test_an_address_changes_once_both_have_agreed(serve: Serve) -> None:
    auth: Auth = await serve(CONFIRMING)
    await auth.sign_up()
    token = fragment(await auth.follow((await auth.mail())["link"]))["access_token"]
    other = await auth.admin(
        "POST", "/admin/users", {"email": "andrej@alpine.example", "email_confirm": True}
    )
    taken = await auth.call("PUT", "/user", {"email": other.json()["email"]}, token=token)
    assert refusal(taken) == (422, "email_exists")

    changing = await auth.call("PUT", "/user", {"email": NEW_EMAIL}, token=token)

    assert (changing.json()["email"], changing.json()["new_email"]) == (EMAIL, NEW_EMAIL)
    resent = {"type": "email_change", "email": EMAIL}
    assert (await auth.call("POST", "/resend", resent)).status_code == 200
    half = await verify(
        auth, type="email_change", email=NEW_EMAIL, token=(await auth.mail(NEW_EMAIL))["code"]
    )
    assert "access_token" not in half.json()
    assert refusal(await auth.sign_in(NEW_EMAIL)) == (400, "invalid_credentials")
    page = await auth.follow((await auth.mail())["link"])
    assert "access_token" in fragment(page)
    changed = (await auth.sign_in(NEW_EMAIL)).json()["user"]
    assert changed["email"] == NEW_EMAIL
    assert "new_email" not in changed
    assert changed["identities"][0]["identity_data"]["email"] == NEW_EMAIL
    assert refusal(await auth.sign_in()) == (400, "invalid_credentials")


async def test_one_address_alone_never_agrees_for_both(serve: Serve) -> None:
    auth: Auth = await serve(CONFIRMING)
    await auth.sign_up()
    token = fragment(await auth.follow((await auth.mail())["link"]))["access_token"]
    await auth.call("PUT", "/user", {"email": NEW_EMAIL}, token=token)
    stale = await auth.mail()

    # a code that is sent again is a word of the same address
    for address in (NEW_EMAIL, NEW_EMAIL, EMAIL):
        code = (await auth.mail(address))["code"]
        half = await verify(auth, type="email_change", email=address, token=code)
        assert (half.status_code, "access_token" in half.json()) == (200, False)
        resent = {"type": "email_change", "email": EMAIL}
        assert (await auth.call("POST", "/resend", resent)).status_code == 200
    # nor does a second code of one address that an administrator makes without a mail
    for kind in ("email_change_new", "email_change_new"):
        body = {"type": kind, "email": EMAIL, "new_email": NEW_EMAIL}
        made = (await auth.admin("POST", "/admin/generate_link", body)).json()
        assert "access_token" not in fragment(await auth.follow(made["action_link"]))
    assert refusal(await auth.sign_in(NEW_EMAIL)) == (400, "invalid_credentials")
    assert fragment(await auth.follow(stale["link"]))["error_code"] == "otp_expired"

    page = await auth.follow((await auth.mail())["link"])

    assert "access_token" in fragment(page)
    assert (await auth.sign_in(NEW_EMAIL)).status_code == 200


async def test_a_code_for_an_address_or_number_that_was_given_up_proves_nothing(
    serve: Serve,
) -> None:
    auth: Auth = await serve(CONFIRMING)
    await auth.sign_up()
    session = fragment(await auth.follow((await auth.mail())["link"]))
    token = session["access_token"]
    await auth.call("PUT", "/user", {"email": NEW_EMAIL, "phone": PHONE}, token=token)
    [email, phone] = [(await auth.mail(to))["code"] for to in (NEW_EMAIL, f"+{PHONE}")]
    auth.sql("update auth.users set email_change = 'vera@home.example', phone_change = '38640999'")

    for body in (
        {"type": "email_change", "email": NEW_EMAIL, "token": email},
        {"type": "phone_change", "phone": PHONE, "token": phone},
    ):
        assert refusal(await verify(auth, **body)) == (403, "otp_expired")


async def test_a_mail_to_an_address_that_was_changed_proves_nothing(serve: Serve) -> None:
    auth: Auth = await serve(TRUSTING)
    user = (await auth.sign_up())["user"]
    await auth.call("POST", "/otp", {"email": EMAIL})
    mail = await auth.mail()
    await auth.admin("PUT", f"/admin/users/{user['id']}", {"email": NEW_EMAIL})

    assert fragment(await auth.follow(mail["link"]))["error_code"] == "otp_expired"


async def test_a_phone_signs_up_signs_in_and_changes(serve: Serve) -> None:
    auth: Auth = await serve(CONFIRMING)
    body = {"phone": f"+{PHONE}", "password": PASSWORD}
    user = (await auth.call("POST", "/signup", body)).json()
    assert (user["phone"], user["app_metadata"]["provider"]) == (PHONE, "phone")

    async def sign_in(phone: str) -> httpx.Response:
        again = {"phone": phone, "password": PASSWORD}
        return await auth.call("POST", "/token?grant_type=password", again)

    assert refusal(await sign_in(PHONE)) == (400, "phone_not_confirmed")
    resent = await auth.call("POST", "/resend", {"type": "sms", "phone": PHONE})
    assert resent.status_code == 200
    sms = await auth.mail(f"+{PHONE}")
    assert (sms["channel"], sms.get("link")) == ("sms", None)
    session = (await verify(auth, type="sms", phone=PHONE, token=sms["code"])).json()
    assert session["user"]["phone_confirmed_at"]
    assert (await sign_in("+386 40111222")).status_code == 200

    token = session["access_token"]
    changing = await auth.call("PUT", "/user", {"phone": NEW_PHONE}, token=token)
    assert changing.json()["new_phone"] == NEW_PHONE
    code = (await auth.mail(NEW_PHONE))["code"]
    assert (await verify(auth, type="phone_change", phone=NEW_PHONE, token=code)).status_code == 200
    assert (await sign_in(NEW_PHONE)).status_code == 200
    # a code instead of the password; nobody else's number is told of
    assert (await auth.call("POST", "/otp", {"phone": NEW_PHONE})).json() == {}
    code = (await auth.mail(NEW_PHONE))["code"]
    assert (await verify(auth, type="sms", phone=NEW_PHONE, token=code)).status_code == 200
    whatsapp = await auth.call("POST", "/otp", {"phone": NEW_PHONE, "channel": "whatsapp"})
    assert refusal(whatsapp) == (400, "validation_failed")
    # an administrator's user with a number signs in with a password as well
    made = {"phone": PHONE, "password": PASSWORD, "phone_confirm": True}
    await auth.admin("POST", "/admin/users", made)
    assert (await sign_in(PHONE)).json()["user"]["email"] == ""


async def test_somebody_without_an_address_gives_one_later(serve: Serve) -> None:
    auth: Auth = await serve(TRUSTING)

    answer = await auth.call("POST", "/signup", {"data": {"table": 7}})

    session = answer.json()
    claims = keys.verify(keys.KeySet.of(auth.stack), session["access_token"])
    assert claims.model_dump()["is_anonymous"] is True
    assert session["user"]["user_metadata"] == {"table": 7}
    token = session["access_token"]
    alone = await auth.call("PUT", "/user", {"password": PASSWORD}, token=token)
    assert refusal(alone) == (422, "validation_failed")
    body = {"email": EMAIL, "password": PASSWORD}
    named = (await auth.call("PUT", "/user", body, token=token)).json()
    assert (named["id"], named["is_anonymous"]) == (session["user"]["id"], False)
    assert named["app_metadata"]["providers"] == ["email"]
    assert (await auth.sign_in()).json()["user"]["id"] == named["id"]


async def test_an_old_session_proves_itself_before_a_new_password(serve: Serve) -> None:
    email = TRUSTING.email.model_copy(update={"secure_password_change": True})
    auth: Auth = await serve(TRUSTING.model_copy(update={"email": email}))
    token = (await auth.sign_up())["access_token"]
    auth.sql("update auth.sessions set created_at = now() - interval '25 hours'")

    async def change(**more: str) -> httpx.Response:
        body = {"password": "battery staple", **more}
        return await auth.call("PUT", "/user", body, token=token)

    assert refusal(await change()) == (400, "reauthentication_needed")
    assert (await auth.call("GET", "/reauthenticate", token=token)).status_code == 200
    assert refusal(await change(nonce="000000x")) == (422, "reauthentication_not_valid")
    assert (await change(nonce=(await auth.mail())["code"])).status_code == 200


async def test_an_administrator_makes_links_and_invites(serve: Serve) -> None:
    auth: Auth = await serve(CONFIRMING)

    async def link(kind: str, **more: str) -> dict[str, Any]:
        body = {"type": kind, "email": EMAIL, "redirect_to": f"{SITE}/here", **more}
        answer = await auth.admin("POST", "/admin/generate_link", body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    unknown = await auth.admin("POST", "/admin/generate_link", {"type": "recovery", "email": EMAIL})
    assert refusal(unknown) == (404, "user_not_found")
    made = await link("signup", password=PASSWORD)
    assert await auth.mails() == 0
    page = await auth.follow(made["action_link"])
    assert (page.path, fragment(page)["type"]) == ("/here", "signup")
    for kind in ("magiclink", "recovery"):
        made = await link(kind)
        code = {"type": kind, "email": EMAIL, "token": made["email_otp"]}
        assert (await verify(auth, **code)).json()["user"]["id"] == made["id"]
    exists = await auth.admin("POST", "/invite", {"email": EMAIL})
    assert refusal(exists) == (422, "email_exists")
    old = await link("email_change_current", new_email=NEW_EMAIL)
    new = await link("email_change_new", new_email=NEW_EMAIL)
    assert old["new_email"] == NEW_EMAIL
    await auth.follow(old["action_link"])
    assert "access_token" in fragment(await auth.follow(new["action_link"]))
    assert (await auth.sign_in(NEW_EMAIL)).status_code == 200

    invited = await auth.admin("POST", "/invite", {"email": EMAIL, "data": {"desk": 1}})
    assert invited.json()["invited_at"]
    assert invited.json()["user_metadata"] == {"desk": 1}
    mail = await auth.mail()
    assert fragment(await auth.follow(mail["link"]))["type"] == "invite"
    pages = await auth.admin("GET", "/admin/users?page=1&per_page=1")
    assert pages.headers["x-total-count"] == "2"
    assert 'page=2>; rel="next"' in pages.headers["link"].replace("per_page=1&", "")


async def test_what_is_asked_too_often_is_refused(serve: Serve) -> None:
    slow = AuthSettings(
        rate_limit=RateLimits(sign_in_sign_ups=2, email_sent=2, token_verifications=1),
        email=EmailSettings(max_frequency=AT_ONCE),
    )
    auth: Auth = await serve(slow)
    await auth.sign_up()
    await auth.sign_in()
    assert refusal(await auth.sign_in()) == (429, "over_request_rate_limit")
    body = {"email": EMAIL}
    answers = [await auth.call("POST", "/recover", body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert refusal(answers[2]) == (429, "over_email_send_rate_limit")
    tries = [await verify(auth, type="email", email=EMAIL, token="000000") for _ in range(2)]
    assert [answer.status_code for answer in tries] == [403, 429]
    auth = await serve(AuthSettings(email=EmailSettings(max_frequency=timedelta(hours=1))))
    assert (await auth.call("POST", "/recover", body)).status_code == 429


async def test_a_project_without_sign_ups_lets_nobody_in(serve: Serve) -> None:
    auth: Auth = await serve(
        AuthSettings(
            enable_signup=False,
            password_requirements="lower_upper_letters_digits",
            sms=SmsSettings(enable_signup=False),
        )
    )
    body = {"email": EMAIL, "password": PASSWORD}
    assert refusal(await auth.call("POST", "/signup", body)) == (422, "signup_disabled")
    assert refusal(await auth.call("POST", "/otp", {"email": EMAIL})) == (422, "otp_disabled")
    phone = {"phone": PHONE, "password": PASSWORD}
    answer = await auth.call("POST", "/token?grant_type=password", phone)
    assert refusal(answer) == (422, "phone_provider_disabled")
    weak = await auth.admin("POST", "/admin/users", body)
    assert weak.json()["weak_password"]["reasons"] == ["characters"]
    settings = (await auth.call("GET", "/settings")).json()
    assert (settings["disable_signup"], settings["external"]["phone"]) == (True, False)


async def test_what_is_not_served_says_what_to_do(serve: Serve) -> None:
    auth: Auth = await serve(TRUSTING)
    session = await auth.sign_up()
    token = session["access_token"]
    secret = auth.stack.service_role_key
    for method, path, needs in (
        ("POST", "/factors", token),
        ("POST", "/factors/1/verify", token),
        ("GET", "/passkeys", token),
        ("POST", "/passkeys/authentication/options", None),
        ("GET", "/authorize?provider=google", None),
        ("POST", "/sso", None),
        ("GET", "/user/identities/authorize", token),
        ("POST", "/token?grant_type=id_token", None),
        ("POST", "/token?grant_type=web3", None),
        ("GET", "/admin/oauth/clients", secret),
        ("GET", "/admin/sso/providers", secret),
        (
            "GET",
            f"/admin/users/{session['user']['id']}/factors",
            secret,
        ),
        ("GET", "/admin/audit", secret),
    ):
        answer = await auth.call(method, path, {}, token=needs)
        assert answer.status_code == 501, (path, answer.text)
        assert "hosted project" in answer.json()["msg"]
        if needs:
            assert refusal(await auth.call(method, path, {})) == (401, "no_authorization")
