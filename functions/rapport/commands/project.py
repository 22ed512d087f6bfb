"""The project that a command talks to: a hosted one, or the stack on this machine."""

from __future__ import annotations

import os

from pydantic import HttpUrl, SecretStr

from rapport.errors import ConfigError, NotFound
from rapport.local.proxy import forget_proxies
from rapport.local.stack import state
from rapport.local.stack.running import Stack
from rapport.settings import MetakockaSettings, StoreSettings

_VARIABLES = ("SUPABASE_URL", "SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY")
_REMEDY = "Set it in the environment of this command. The project's settings show its URL and keys."


def store_settings() -> StoreSettings:
    """The database of the project that SUPABASE_URL names, or else of the running stack.

    Raises:
        ConfigError: There is neither, or a variable is missing or wrong.
    """
    stack = _stack()
    if stack is None:
        return StoreSettings.load(_REMEDY)
    return StoreSettings(
        supabase_url=HttpUrl(stack.url),
        supabase_secret_key=SecretStr(stack.secret_key),
    )


def metakocka_settings() -> MetakockaSettings:
    """Metakocka as the environment names it beside the project, or the stack's stand-in.

    Raises:
        ConfigError: There is neither, or a variable is missing or wrong.
    """
    stack = _stack()
    if stack is None:
        return MetakockaSettings.load(_REMEDY)
    return MetakockaSettings(
        metakocka_url=HttpUrl(stack.metakocka_url),
        metakocka_secret_key=SecretStr(stack.metakocka_secret_key),
        metakocka_companies=("any",),
    )


def no_account(account: str, condition: str = "") -> NotFound:
    """The refusal of an --account that names none, or none that meets the condition."""
    return NotFound(
        f"There is no account {account!r}{condition}. --account takes the external id of an"
        " account, as `rapport up` shows it, or its id."
    )


def _stack() -> Stack | None:
    """The running stack; None where the environment names another project."""
    named = [name for name in _VARIABLES if os.environ.get(name)]
    if named == list(_VARIABLES):
        return None
    if named:
        (missing,) = set(_VARIABLES) - set(named)
        raise ConfigError(
            f"{named[0]} is set, but {missing} is not. Set both, to the values that the project's"
            f" settings show; or unset {named[0]}, and the command takes the stack on this machine."
        )
    stack = state.running_stack(state.folder())
    if stack is None:
        raise ConfigError(
            "No stack runs on this machine, and no other project is named. Start a stack with"
            " `rapport up`, or set SUPABASE_URL and SUPABASE_SECRET_KEY to those of a"
            " project."
        )
    # the stack is on this machine, where no proxy leads
    forget_proxies()
    return stack
