"""The parts that the sync's functions share, made once for each process."""

from __future__ import annotations

from functools import cache

from rapport.parameters import SecretSource, secret_source
from rapport.settings import MetakockaSettings, StoreSettings
from rapport.store.metakocka import MetakockaStore


@cache
def store() -> MetakockaStore:
    """The database as the functions see it."""
    return MetakockaStore(StoreSettings.load())


@cache
def settings() -> MetakockaSettings:
    """The settings of calls to Metakocka."""
    return MetakockaSettings.load()


@cache
def secrets() -> SecretSource:
    """The keys of the accounts' companies."""
    return secret_source(settings())
