"""Whether a server's functions go with the schema, as it tells its release."""

from __future__ import annotations

from contextlib import closing

import httpx
import pytest
from pydantic import HttpUrl, SecretStr
from tests.answering import Answering

from rapport.errors import StoreError
from rapport.release import VERSION
from rapport.settings import StoreSettings
from rapport.store.server import ServerStore

SETTINGS = StoreSettings(
    supabase_url=HttpUrl("https://project.example"), supabase_secret_key=SecretStr("sb_secret_key")
)


def require(release: str) -> None:
    answering = Answering(lambda _request: httpx.Response(200, json=release))
    with closing(ServerStore(SETTINGS, answering)) as store:
        store.require_schema()


def test_a_schema_of_the_same_release_or_the_next_is_ready() -> None:
    major, minor, _ = VERSION.split(".")
    for release in (VERSION, f"{major}.{int(minor) + 1}.0"):
        require(release)


def test_a_schema_of_a_far_release_is_not_and_says_what_to_do() -> None:
    with pytest.raises(StoreError, match=f"of release 99.0.0, and the functions are of {VERSION}"):
        require("99.0.0")
    with pytest.raises(StoreError, match="Deploy the functions of the schema's release now"):
        require("99.0.0")
