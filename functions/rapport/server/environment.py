"""What the environment tells a server, looked at when it starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from pydantic import SecretStr

from rapport.aws.service import region
from rapport.aws.signature import Credentials
from rapport.errors import ConfigError
from rapport.log import logger
from rapport.server.serverless import Service
from rapport.settings import (
    BacklogSettings,
    GraphSettings,
    MediaSettings,
    MetakockaSettings,
    MetricsSettings,
    PushSettings,
    ServeSettings,
    StoreSettings,
    UserStoreSettings,
    WakeSettings,
    WhatsAppSettings,
)

REMEDY = "Set it in the environment of this process; the README says what each is."
# characters of the secret of POST /internal/wake, as the database takes it
SECRET_SIZES = (32, 256)
# what only the functions on AWS read
_OF_AWS = frozenset({"METRICS_NAMESPACE", "WORKER_FUNCTION_PREFIX"})
# what a scheduled function can do nothing without
_NEEDED = {"fetch_media": "MEDIA_BUCKET"}


def require_settings() -> None:
    """Reads all settings, so that all that is missing or wrong is told now. Raises ConfigError."""
    readers: list[Callable[[], object]] = [
        partial(settings.load, REMEDY)
        for settings in (
            ServeSettings,
            StoreSettings,
            UserStoreSettings,
            WhatsAppSettings,
            GraphSettings,
            MetakockaSettings,
            PushSettings,
            WakeSettings,
            BacklogSettings,
            MetricsSettings,
        )
    ]
    if os.environ.get("MEDIA_BUCKET"):
        readers += [partial(MediaSettings.load, REMEDY), Credentials.of_environment, region]
    # several read the same variable
    faults: dict[str, None] = {}
    for read in readers:
        try:
            read()
        except ConfigError as error:
            faults |= dict.fromkeys(str(error).removesuffix(f". {REMEDY}").split("; "))
    if faults:
        raise ConfigError(f"{'; '.join(faults)}. {REMEDY}")


def wake_secret(settings: ServeSettings) -> SecretStr | None:
    """The secret with which the database rings. Raises ConfigError where it would refuse it."""
    secret = WakeSettings.load(REMEDY).wake_secret
    length = len(secret.get_secret_value()) if secret else 0
    if settings.serve_url is not None and not SECRET_SIZES[0] <= length <= SECRET_SIZES[1]:
        raise ConfigError(
            "SERVE_URL is set, for the database to ring at, and WAKE_SECRET has"
            f" {length} characters: it needs 32 to 256. Make one by: openssl rand -hex 32."
        )
    return secret


def has_work(function: str) -> bool:
    """Whether a scheduled function can do anything here."""
    return function not in _NEEDED or bool(os.environ.get(_NEEDED[function]))


def tell_missing(service: Service) -> None:
    """Logs which variables are not set, and the functions that then do less or nothing."""
    usual = service.defaults()
    missing = {
        variable: functions
        for variable, functions in service.readers().items()
        if not (
            variable in _OF_AWS
            or variable in usual
            # required, and known by older names as well
            or variable.startswith("SUPABASE_")
            or os.environ.get(variable)
            or os.environ.get(f"{variable}_PARAMETER")
        )
    }
    if missing:
        logger.info("not set", variables=missing)
