"""The project that a command talks to: a hosted one, or the stack on this machine."""

from __future__ import annotations

import os

from pydantic import HttpUrl, SecretStr, TypeAdapter, ValidationError
from pydantic_core import Url

from rapport.api_keys import KeyKind, kind_of
from rapport.errors import ConfigError, NotFound
from rapport.local.proxy import forget_proxies
from rapport.local.stack import state
from rapport.local.stack.running import AWS_KEY_ID, AWS_REGION, MEDIA_BUCKET, WAKE_PATH, Stack
from rapport.settings import (
    BacklogSettings,
    GraphSettings,
    MediaSettings,
    MetakockaSettings,
    PushSettings,
    StoreSettings,
    UserStoreSettings,
    WakeSettings,
    WhatsAppSettings,
)
from rapport.storage import Storage

_PARAMETER = "_PARAMETER"
_URL = "SUPABASE_URL"
_KEYS = ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_ROLE_KEY")
_REMEDY = "Set it in the environment of this command. The project's settings show its URL and keys."
# the parameters of a deployment on AWS, beneath /rapport/<stage>/, as serverless.yml names them
PARAMETERS = {
    "SUPABASE_URL": "supabase-url",
    "SUPABASE_SECRET_KEY": "supabase-secret-key",
    "SUPABASE_PUBLISHABLE_KEY": "supabase-publishable-key",
    "WHATSAPP_APP_SECRET": "whatsapp-app-secret",
    "WHATSAPP_VERIFY_TOKEN": "whatsapp-verify-token",
    "WHATSAPP_TOKEN": "whatsapp/{phone_number_id}/token",
    "METAKOCKA_SECRET_KEY": "metakocka/{account_id}/secret-key",
    "WAKE_SECRET": "wake-secret",
    "VAPID_PRIVATE_KEY": "vapid-private-key",
    "VAPID_CONTACT": "vapid-contact",
}


def use_stage(stage: str | None) -> None:
    """From now on reads what the environment does not set from the SSM parameters of a stage."""
    for name, parameter in PARAMETERS.items():
        if stage and not _is_set(name):
            os.environ[name + _PARAMETER] = f"/rapport/{stage}/{parameter}"


def where(name: str, **values: str) -> str:
    """Where a variable's value belongs, for a sentence; `values` name an account or a number."""
    parameter = os.environ.get(name + _PARAMETER) or f"/rapport/<stage>/{PARAMETERS[name]}"
    for placeholder, value in values.items():
        parameter = parameter.replace(f"{{{placeholder}}}", value)
    return f"the SSM parameter {parameter}, or {name} in the environment"


def store_settings() -> StoreSettings:
    """The database of the project that SUPABASE_URL names, or else of the running stack.

    Raises:
        ConfigError: There is neither, or a variable is missing or wrong.
    """
    stack = _stack()
    if stack is None:
        return StoreSettings.load(_REMEDY)
    return StoreSettings(
        supabase_url=Url(stack.url),
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
        metakocka_url=Url(stack.metakocka_url),
        metakocka_secret_key=SecretStr(stack.metakocka_secret_key),
        metakocka_companies=("any",),
    )


def graph_settings() -> GraphSettings:
    """WhatsApp's API as the environment names it beside the project, or the stack's stand-in."""
    stack = _stack()
    if stack is None:
        return GraphSettings.load(_REMEDY)
    return GraphSettings(
        whatsapp_graph_url=Url(stack.graph_url), whatsapp_token=SecretStr(stack.whatsapp_token)
    )


def whatsapp_settings() -> WhatsAppSettings:
    """The secrets shared with Meta's app, in the environment or the stack's."""
    stack = _stack()
    if stack is None:
        return WhatsAppSettings.load(_REMEDY)
    return WhatsAppSettings(
        whatsapp_app_secret=SecretStr(stack.whatsapp_app_secret),
        whatsapp_verify_token=SecretStr(stack.whatsapp_verify_token),
    )


def wake_settings() -> WakeSettings:
    """The doorbell's secret, in the environment or the stack's."""
    stack = _stack()
    if stack is None:
        return WakeSettings.load(_REMEDY)
    return WakeSettings(wake_secret=SecretStr(stack.wake_secret))


def push_settings() -> PushSettings:
    """The key for notifications, in the environment or the stack's."""
    stack = _stack()
    if stack is None:
        return PushSettings.load(_REMEDY)
    return PushSettings(vapid_private_key=SecretStr(stack.vapid_private_key))


def publishable_key() -> str | None:
    """The project's publishable key, if the environment or the stack has it.

    Raises:
        ConfigError: It is a secret key.
    """
    stack = _stack()
    if stack is not None:
        return stack.publishable_key
    if not any(map(_is_set, ("SUPABASE_PUBLISHABLE_KEY", "SUPABASE_ANON_KEY"))):
        return None
    return UserStoreSettings.load(_REMEDY).supabase_publishable_key.get_secret_value()


def dashboard_url() -> str:
    """Where staff sign in: DASHBOARD_URL of the environment, or the dashboard of the stack.

    Raises:
        ConfigError: It is not known, or no address.
    """
    stack = _stack()
    if stack is not None:
        return f"{stack.url}/dashboard/"
    remedy = (
        "Set it to the address of the dashboard, such as https://desk.example/dashboard/, or give"
        " --page."
    )
    url = os.environ.get("DASHBOARD_URL")
    if not url:
        raise ConfigError(f"DASHBOARD_URL is missing: links to sign in lead there. {remedy}")
    try:
        TypeAdapter(HttpUrl).validate_python(url)
    except ValidationError:
        raise ConfigError(f"DASHBOARD_URL {url} is no address. {remedy}") from None
    return url


def functions_url(given: str | None, doorbell_url: str | None) -> str | None:
    """Where the functions are: as given, the stack's, or where the doorbell rings; None if unknown.

    Raises:
        ConfigError: What is given is no such address.
    """
    if given is not None:
        try:
            TypeAdapter(HttpUrl).validate_python(given)
        except ValidationError:
            raise ConfigError(
                f"--url {given} is no address. Give that of the functions, such as"
                " https://….execute-api.eu-central-1.amazonaws.com."
            ) from None
        return given.rstrip("/")
    stack = _stack()
    if stack is not None:
        return stack.functions_url
    return doorbell_url.removesuffix(WAKE_PATH) if doorbell_url else None


def file_storage() -> Storage | None:
    """The bucket of the project that SUPABASE_URL names, or else of the running stack.

    None where the environment names no bucket (MEDIA_BUCKET) beside the project.

    Raises:
        ConfigError: A variable is wrong.
    """
    stack = _stack()
    if stack is None:
        return Storage(MediaSettings.load(_REMEDY)) if _is_set("MEDIA_BUCKET") else None
    # as the stack's functions have them
    os.environ.update(
        AWS_ACCESS_KEY_ID=AWS_KEY_ID, AWS_SECRET_ACCESS_KEY=stack.aws_secret, AWS_REGION=AWS_REGION
    )
    return Storage(MediaSettings(media_bucket=MEDIA_BUCKET, aws_endpoint_url_s3=Url(stack.aws_url)))


def webhook_queues() -> BacklogSettings:
    """The queues for webhooks: those that the environment names, or the running stack's.

    For the stack, the environment of this process is given what its stand-in for AWS takes.

    Raises:
        ConfigError: There is neither a stack nor a project, or a variable is wrong.
    """
    stack = _stack()
    if stack is None:
        return BacklogSettings.load(_REMEDY)
    os.environ.update(
        {
            "AWS_REGION": AWS_REGION,
            "AWS_ACCESS_KEY_ID": AWS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": stack.aws_secret,
            "AWS_ENDPOINT_URL": stack.aws_url,
        }
    )
    return BacklogSettings(
        webhook_queue_url=Url(stack.queue_url("WebhookQueue")),
        webhook_dead_letters_url=Url(stack.queue_url("WebhookDeadLetters")),
    )


def no_account(account: str, condition: str = "") -> NotFound:
    """The refusal of a name that no account has, or none that meets the condition."""
    return NotFound(
        f"There is no account {account!r}{condition}. `rapport account list` shows the external ids"
        " and ids of all accounts."
    )


def _is_named() -> bool:
    """Whether the environment names a project. Raises ConfigError where it names half of one."""
    has_url = _is_set(_URL)
    key = next((name for name in _KEYS if _is_set(name)), None)
    if has_url == (key is not None):
        return has_url
    given, missing = (key, _URL) if key else (_URL, _KEYS[0])
    raise ConfigError(
        f"{given} is set, but {missing} is not. Set both, to the values that the project's"
        f" settings show; or unset {given}, and the command takes the stack on this machine."
    )


def _is_set(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(name + _PARAMETER))


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
