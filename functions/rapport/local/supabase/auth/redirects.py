"""The pages that a link in a mail may lead to."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from starlette.requests import Request

from rapport.local.supabase.auth.settings import AuthSettings

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
# characters that a browser would read otherwise than we do
_UNSAFE = re.compile(r"[\x00-\x20\\\x7f]")
MAX_LENGTH = 2_000


def target(request: Request, settings: AuthSettings, asked: str | None = None) -> str:
    """The page to go to: the one that was asked for if it is allowed, else the site's."""
    asked = asked or request.headers.get("redirect_to") or request.query_params.get("redirect_to")
    for url in (asked, request.headers.get("referer")):
        if url and is_allowed(url, settings):
            return url
    return settings.site_url


def is_allowed(url: str, settings: AuthSettings) -> bool:
    """Whether a page is the site's, ours, on this machine, or fits `additional_redirect_urls`."""
    if len(url) > MAX_LENGTH or _UNSAFE.search(url):
        return False
    if any(url.startswith(f"{own}/") for own in settings.network_urls):
        return True
    try:
        page, site = urlsplit(url), urlsplit(settings.site_url)
        host = page.hostname or ""
        same_port = page.port == site.port
    except ValueError:
        return False
    if (
        host
        and (page.scheme, host) == (site.scheme, site.hostname)
        and (same_port or host in ("localhost", "127.0.0.1", "::1"))
    ):
        return True
    if host.isdecimal():
        return False
    try:
        return ipaddress.ip_address(host).is_loopback and page.scheme in ("http", "https")
    except ValueError:
        pass
    if page.scheme in ("http", "https") and not _HOST.fullmatch(host):
        return False
    without_fragment = url.partition("#")[0]
    return any(
        _pattern(allowed).fullmatch(without_fragment)
        for allowed in settings.additional_redirect_urls
    )


def with_query(url: str, **values: str) -> str:
    """Adds values to a URL's query, in place of those that it has under the same names."""
    parts = urlsplit(url)
    kept = [pair for pair in parse_qsl(parts.query, True) if pair[0] not in values]
    return urlunsplit(parts._replace(query=urlencode([*kept, *values.items()])))


def with_fragment(url: str, **values: str) -> str:
    """Sets a URL's fragment, which browsers don't send to servers."""
    return f"{url.partition('#')[0]}#{urlencode(values)}"


def _pattern(allowed: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*|\?)", allowed)
    meanings = {"**": ".*", "*": "[^./]*", "?": "[^./]"}
    return re.compile("".join(meanings.get(part, re.escape(part)) for part in parts))
