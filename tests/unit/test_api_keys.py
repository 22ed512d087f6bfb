"""Which key is which, and what a call carries."""

from __future__ import annotations

import pytest
from tests.world import seed_uuid

from rapport.api_keys import KeyKind, is_token, key_headers, kind_of, new_api_key
from rapport.local.supabase.keys import mint_key, mint_user_token
from rapport.local.supabase.signing_key import new_signing_key

SECRET = "a-secret-of-forty-characters-and-no-less"
ANON = mint_key(SECRET, "anon")
SERVICE_ROLE = mint_key(SECRET, "service_role")
PUBLISHABLE = "sb_publishable_Q7NrdP1HCOd9BQYpsRrPIw_veABt7jP"
SECRET_KEY = "sb_secret_5BdEtJoXWZ_gIyL28aNEwA_Ym3t5eNv"
TOKEN = mint_user_token(new_signing_key(), user_id=seed_uuid("andrej"))


@pytest.mark.parametrize(
    ("key", "kind", "is_public", "is_secret"),
    [
        (PUBLISHABLE, KeyKind.PUBLISHABLE, True, False),
        (SECRET_KEY, KeyKind.SECRET, False, True),
        (ANON, KeyKind.ANON, True, False),
        (SERVICE_ROLE, KeyKind.SERVICE_ROLE, False, True),
        # of no project that we know, or none at all
        (TOKEN, KeyKind.UNKNOWN, False, False),
        ("sb_temp_x", KeyKind.UNKNOWN, False, False),
        ("service-key", KeyKind.UNKNOWN, False, False),
        ("a.W10.x", KeyKind.UNKNOWN, False, False),
        ("a.x.x", KeyKind.UNKNOWN, False, False),
        ("", KeyKind.UNKNOWN, False, False),
    ],
)
def test_a_key_says_what_it_is(key: str, kind: KeyKind, is_public: bool, is_secret: bool) -> None:
    assert kind_of(key) == kind
    assert (kind.is_public, kind.is_secret) == (is_public, is_secret)


def test_a_new_key_has_the_form_of_a_hosted_one_and_is_another_each_time() -> None:
    keys = {new_api_key("secret") for _ in range(100)}
    assert len(keys) == 100
    assert {len(key.removeprefix("sb_secret_")) for key in keys} == {22 + 1 + 8}


@pytest.mark.parametrize("key", [PUBLISHABLE, SECRET_KEY, "sb_temp_x"])
def test_a_key_that_is_no_token_is_never_a_bearer(key: str) -> None:
    assert not is_token(key)
    assert key_headers(key) == {"apikey": key}
    assert key_headers(key, TOKEN) == {"apikey": key, "Authorization": f"Bearer {TOKEN}"}


def test_a_legacy_key_stands_where_no_user_does() -> None:
    assert key_headers(ANON) == {"apikey": ANON, "Authorization": f"Bearer {ANON}"}
    assert key_headers(ANON, TOKEN) == {"apikey": ANON, "Authorization": f"Bearer {TOKEN}"}
