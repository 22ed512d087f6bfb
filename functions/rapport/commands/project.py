"""The project that a command talks to: a hosted one, or the stack on this machine."""

from __future__ import annotations

import os

from pydantic import HttpUrl, SecretStr

from rapport.errors import ConfigError
from rapport.local.proxy import forget_proxies
from rapport.local.stack import state
from rapport.local.stack.running import Stack
from rapport.settings import MetakockaSettings, StoreSettings

_VARIABLES = ("SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY")


def store_settings() -> StoreSettings:
    """The database of the project that SUPABASE_URL names, or else of the running stack.

    Raises:
        ConfigError: There is neither, or a variable is missing or wrong.
    """
    stack = _stack()
    if stack is None:
        return StoreSettings.load()
    return StoreSettings(
        supabase_url=HttpUrl(stack.url),
        supabase_service_role_key=SecretStr(stack.service_role_key),
    )


def metakocka_settings() -> MetakockaSettings:
    """Metakocka as the environment names it beside the project, or the stack's stand-in.

    Raises:
        ConfigError: There is neither, or a variable is missing or wrong.
    """
    stack = _stack()
    if stack is None:
        return MetakockaSettings.load()
    return MetakockaSettings(
        metakocka_url=HttpUrl(stack.metakocka_url),
        metakocka_secret_key=SecretStr(stack.metakocka_secret_key),
        metakocka_companies=("any",),
    )


def _stack() -> Stack | None:
    """The running stack; None where the environment names another project."""
    if any(os.environ.get(name) for name in _VARIABLES):
        return None
    stack = state.running_stack(state.folder())
    if stack is None:
        raise ConfigError(
            "No stack runs on this machine, and no other project is named. Start a stack with"
            " `rapport up`, or set SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY to those of a"
            " project."
        )
    # the stack is on this machine, where no proxy leads
    forget_proxies()
    return stack
