"""The webhook's signature."""

from __future__ import annotations

import pytest

from rapport.whatsapp.webhook import is_signed, sign

# computed apart from this code: openssl dgst -sha256 -hmac app-secret
BODY = b'{"entry":[]}'
SIGNATURE = "sha256=fe6aaed5aff30b5679e782271914a2287bdd7de6bedb495c95c24ad91e5e3fdb"


def test_the_signature_is_that_of_openssl() -> None:
    assert sign(BODY, "app-secret") == SIGNATURE


def test_a_body_signed_with_the_secret_is_accepted() -> None:
    assert is_signed(BODY, SIGNATURE, "app-secret")


@pytest.mark.parametrize(
    ("body", "signature", "secret"),
    [
        (BODY + b" ", SIGNATURE, "app-secret"),
        (BODY, SIGNATURE, "another-secret"),
        (BODY, SIGNATURE.removeprefix("sha256="), "app-secret"),
        (BODY, SIGNATURE[:-1], "app-secret"),
        (BODY, SIGNATURE.replace("sha256", "sha1"), "app-secret"),
        (BODY, "", "app-secret"),
        (BODY, "sha256=čšž", "app-secret"),
    ],
    ids=[
        "other body",
        "other secret",
        "no scheme",
        "cut off",
        "other scheme",
        "empty",
        "not ascii",
    ],
)
def test_anything_else_is_refused(body: bytes, signature: str, secret: str) -> None:
    assert not is_signed(body, signature, secret)
