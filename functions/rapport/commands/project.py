"""The project that a command talks to: a hosted one, or the stack on this machine."""

from __future__ import annotations

import os

from pydantic import HttpUrl, SecretStr

from rapport.api_keys import KeyKind, kind_of
from rapport.errors import ConfigError, NotFound
from rapport.local.proxy import forget_proxies
from rapport.local.stack import state
from rapport.local.stack.running import Stack
from rapport.settings import MetakockaSettings, StoreSettings

_URL = "SUPABASE_URL"
_KEYS = ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY")
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


def described() -> str:
    """Which project the commands talk to, and with which kind of key.

    Raises:
        ConfigError: A variable is missing or wrong.
    """
    if not _is_named():
        return "commands talk to the stack on this machine"
    settings = StoreSettings.load(_REMEDY)
    kind = kind_of(settings.supabase_secret_key.get_secret_value())
    told = f"commands talk to {settings.supabase_url}"
    if kind is KeyKind.SERVICE_ROLE:
        return f"{told} with a legacy key; a secret key (sb_secret_…) can be replaced by another"
    return told


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


def _is_named() -> bool:
    """Whether the environment names a project. Raises ConfigError where it names half of one."""
    has_url = bool(os.environ.get(_URL))
    key = next((name for name in _KEYS if os.environ.get(name)), None)
    if has_url == (key is not None):
        return has_url
    given, missing = (key, _URL) if key else (_URL, _KEYS[0])
    raise ConfigError(
        f"{given} is set, but {missing} is not. Set both, to the values that the project's"
        f" settings show; or unset {given}, and the command takes the stack on this machine."
    )


def _stack() -> Stack | None:
    """The running stack; None where the environment names another project."""
    if _is_named():
        return None
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
