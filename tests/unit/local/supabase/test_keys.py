"""Which tokens a stack accepts, and how it refuses the others."""

from __future__ import annotations

import base64
import json
import time
from datetime import timedelta
from uuid import uuid4

import jwt
import pytest

from rapport.local.supabase import keys
from rapport.local.supabase.signing_key import (
    SigningKey,
    new_signing_key,
    published_keys,
    service_keys,
)

SECRET = "a-secret-of-forty-characters-and-no-less"
SIGNING_KEY = new_signing_key()
KEYS = keys.KeySet(SIGNING_KEY, SECRET)
both_signatures = pytest.mark.parametrize(
    "key", [pytest.param(SIGNING_KEY, id="ES256"), pytest.param(SECRET, id="HS256")]
)


def signed(claims: dict[str, object], *, secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, secret, algorithm)


def test_a_key_says_its_role_and_outlives_a_year() -> None:
    claims = keys.verify(KEYS, keys.mint_key(SECRET, "service_role"))

    assert claims.role == "service_role"
    assert claims.exp > time.time() + timedelta(days=365).total_seconds()
    assert claims.sub is None


@both_signatures
def test_a_user_token_carries_what_policies_and_clients_read(key: SigningKey | str) -> None:
    user_id, session_id = uuid4(), uuid4()
    token = keys.mint_user_token(
        key,
        user_id=user_id,
        session_id=session_id,
        email="olivia@alpine.example",
        app_metadata={"provider": "email"},
    )

    claims = keys.verify(KEYS, token).model_dump(exclude_unset=True)

    issued_at = claims.pop("iat")
    assert claims == {
        "iss": "supabase",
        "sub": str(user_id),
        "aud": "authenticated",
        "exp": issued_at + 3600,
        "email": "olivia@alpine.example",
        "phone": "",
        "app_metadata": {"provider": "email"},
        "user_metadata": {},
        "role": "authenticated",
        "aal": "aal1",
        "amr": [{"method": "password", "timestamp": issued_at}],
        "session_id": str(session_id),
        "is_anonymous": False,
    }


def test_an_expired_token_tells_for_how_long() -> None:
    token = signed({"role": "authenticated", "exp": int(time.time()) - 90})

    with pytest.raises(keys.ExpiredTokenError) as refusal:
        keys.verify(KEYS, token)

    assert refusal.value.seconds >= 90
    assert f"expired {refusal.value.seconds} seconds ago" in str(refusal.value)


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(
            signed({"role": "anon", "exp": 9e9}, secret="another-secret" * 3), id="other secret"
        ),
        pytest.param(
            signed({"role": "anon", "exp": 9e9}, secret=SECRET * 2, algorithm="HS512"),
            id="other algorithm",
        ),
        pytest.param(signed({"role": "anon", "exp": 9e9}, secret="", algorithm="none"), id="none"),
        pytest.param(keys.mint_key(SECRET, "anon").rpartition(".")[0] + ".", id="cut off"),
        pytest.param(
            keys.mint_user_token(new_signing_key(), user_id=uuid4()), id="other signing key"
        ),
        pytest.param(
            keys.mint_user_token(
                new_signing_key().model_copy(update={"kid": SIGNING_KEY.kid}), user_id=uuid4()
            ),
            id="other signing key under our id",
        ),
        # what everybody may know is no secret
        pytest.param(signed({"role": "anon", "exp": 9e9}, secret=SIGNING_KEY.x), id="public half"),
    ],
)
def test_only_this_stacks_keys_sign_each_by_its_algorithm(token: str) -> None:
    with pytest.raises(keys.BadSignatureError):
        keys.verify(KEYS, token)


@pytest.mark.parametrize(
    "claims",
    [{"exp": 9e9}, {"role": "anon"}, {"role": None, "exp": 9e9}, {"role": "anon", "exp": "soon"}],
)
def test_role_and_expiry_are_required(claims: dict[str, object]) -> None:
    with pytest.raises(keys.MissingClaimsError, match="`role` and `exp`"):
        keys.verify(KEYS, signed(claims))


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("not a token", id="words"),
        pytest.param("sb_publishable_abc", id="new kind of key"),
        pytest.param("\N{SNOWMAN}.a.b", id="not ASCII"),
        pytest.param("\ud800.a.b", id="not Unicode"),
        pytest.param(
            base64.urlsafe_b64encode(b"[" * 100_000).decode() + ".e30.c2ln", id="nested too deep"
        ),
        pytest.param(
            base64.urlsafe_b64encode(json.dumps("HS256").encode()).decode() + ".e30.c2ln",
            id="header is no object",
        ),
    ],
)
def test_what_is_no_token_is_malformed(token: str) -> None:
    with pytest.raises(keys.MalformedTokenError):
        keys.verify(KEYS, token)


@both_signatures
def test_a_token_that_was_good_expires(key: SigningKey | str) -> None:
    token = keys.mint_user_token(key, user_id=uuid4(), lifetime=timedelta(seconds=1))
    good_until = keys.verify(KEYS, token).exp
    while time.time() < good_until:
        time.sleep(0.05)

    with pytest.raises(keys.ExpiredTokenError):
        keys.verify(KEYS, token)


def test_a_refusal_does_not_repeat_the_token() -> None:
    token = keys.mint_key(SECRET * 2, "service_role")

    with pytest.raises(keys.BadSignatureError) as refusal:
        keys.verify(KEYS, token)

    assert token not in str(refusal.value)


def test_the_published_key_verifies_and_shows_no_secret() -> None:
    [published] = published_keys(SIGNING_KEY)["keys"]
    token = keys.mint_user_token(SIGNING_KEY, user_id=uuid4())

    public = jwt.PyJWK(published)

    assert jwt.get_unverified_header(token) == {
        "alg": "ES256",
        "kid": published["kid"],
        "typ": "JWT",
    }
    assert jwt.decode(token, public, audience="authenticated")["role"] == "authenticated"
    assert "d" not in published
    assert SECRET not in json.dumps(published)


def test_services_get_the_public_key_and_the_shared_secret() -> None:
    given = jwt.PyJWKSet.from_json(service_keys(SIGNING_KEY, SECRET)).keys
    assert [key.key_type for key in given] == ["EC", "oct"]
    assert SIGNING_KEY.d not in service_keys(SIGNING_KEY, SECRET)
    assert jwt.decode(keys.mint_key(SECRET, "anon"), given[1])["role"] == "anon"
