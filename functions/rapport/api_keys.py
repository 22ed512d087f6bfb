"""API keys of a Supabase project: the kind of a key, and the headers that carry it.

A project has publishable keys (`sb_publishable_…`) for pages and apps, and secret keys
(`sb_secret_…`) for servers. Before them it had two tokens, which never end: `anon` and
`service_role`. The new keys are no tokens: the project's gateway takes one as `apikey`, and calls
PostgREST, Auth and Realtime with a token of its role that ends soon.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from enum import StrEnum
from typing import Literal

PUBLISHABLE = "sb_publishable_"
SECRET = "sb_secret_"  # noqa: S105 - how one begins

# header, claims and signature
_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]*", re.ASCII)


class KeyKind(StrEnum):
    """The kind of a key; `anon` and `service_role` are the two older kinds."""

    PUBLISHABLE = "publishable"
    SECRET = "secret"  # noqa: S105 - a kind
    ANON = "anon"
    SERVICE_ROLE = "service_role"
    # another issuer's, a user's token, or none at all
    UNKNOWN = "unknown"

    @property
    def is_public(self) -> bool:
        """Whether pages may show it."""
        return self in (KeyKind.PUBLISHABLE, KeyKind.ANON)

    @property
    def is_secret(self) -> bool:
        """Whether it opens everything."""
        return self in (KeyKind.SECRET, KeyKind.SERVICE_ROLE)


def kind_of(key: str) -> KeyKind:
    """The kind that a key names. Only the project knows whether the key is valid."""
    if key.startswith(PUBLISHABLE):
        return KeyKind.PUBLISHABLE
    if key.startswith(SECRET):
        return KeyKind.SECRET
    role = _role(key)
    return KeyKind(role) if role in (KeyKind.ANON, KeyKind.SERVICE_ROLE) else KeyKind.UNKNOWN


def is_opaque(key: str) -> bool:
    """Whether it is a key of the new form, of a kind that we know or not."""
    return key.startswith("sb_")


def is_token(text: str) -> bool:
    """Whether it has the form of a JWT, the one thing that `Authorization: Bearer` may carry."""
    return _TOKEN.fullmatch(text) is not None


def key_headers(key: str, token: str | None = None) -> dict[str, str]:
    """The headers of a call with a key, and as a user with the user's token.

    A key of the older kind is a token itself, and stands where no user's token does.
    """
    bearer = token or (key if is_token(key) else None)
    return {"apikey": key} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})


def new_api_key(kind: Literal["publishable", "secret"]) -> str:
    """Makes a key, of 22 and 8 random letters as on a hosted project."""
    prefix = PUBLISHABLE if kind == "publishable" else SECRET
    return f"{prefix}{secrets.token_urlsafe(16)}_{secrets.token_urlsafe(6)}"


def _role(token: str) -> str | None:
    if not is_token(token):
        return None
    payload = token.split(".")[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return None
    role = claims.get("role") if isinstance(claims, dict) else None
    return role if isinstance(role, str) else None
