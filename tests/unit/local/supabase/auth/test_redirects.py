"""Which pages a link in a mail may lead to."""

from __future__ import annotations

import pytest

from rapport.local.supabase.auth import redirects
from rapport.local.supabase.auth.settings import AuthSettings

SETTINGS = AuthSettings(
    site_url="https://portal.example",
    additional_redirect_urls=(
        "https://*.partner.example/**",
        "https://one.example/only",
        "myapp://*",
    ),
)


@pytest.mark.parametrize(
    ("url", "is_allowed"),
    [
        ("https://portal.example", True),
        ("https://portal.example/any?page=1#here", True),
        ("http://portal.example", False),
        ("https://portal.example:8443/", False),
        ("https://portal.example.evil.example/", False),
        ("https://portal.example@evil.example/", False),
        ("https://evil.example/https://portal.example", False),
        ("//evil.example", False),
        ("https:evil.example", False),
        ("javascript:alert(1)//portal.example", False),
        ("data:text/html,x", False),
        ("https://portal.example\\@evil.example", False),
        ("https://portal.example\n.evil.example", False),
        ("https://[evil", False),
        ("", False),
        ("/relative", False),
        ("https://shop.partner.example/a/b", True),
        ("https://a.b.partner.example/a", False),
        ("https://partner.example/a", False),
        ("https://one.example/only", True),
        ("https://one.example/only#here", True),
        ("https://one.example/only/more", False),
        ("https://one!example/only", False),
        ("myapp://callback", True),
        ("http://127.0.0.1:5173/x", True),
        ("http://[::1]:5173/x", True),
        ("http://2130706433/x", False),
        ("http://10.0.0.1/x", False),
        ("ftp://127.0.0.1/x", False),
        ("https://portal.example/" + "x" * redirects.MAX_LENGTH, False),
    ],
)
def test_a_page_is_the_sites_or_listed(url: str, is_allowed: bool) -> None:
    assert redirects.is_allowed(url, SETTINGS) is is_allowed


def test_values_are_added_to_what_a_page_has() -> None:
    page = "https://portal.example/a?invitation=x&code=old#top"

    assert redirects.with_query(page, code="new").startswith(
        "https://portal.example/a?invitation=x&code=new"
    )
    assert (
        redirects.with_fragment(page, message="a b")
        == "https://portal.example/a?invitation=x&code=old#message=a+b"
    )
