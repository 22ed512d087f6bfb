"""Secrets that are SSM parameters."""

from __future__ import annotations

from pydantic import SecretStr

from rapport.errors import ConfigError, UpstreamUnavailable


def read_parameter(name: str) -> SecretStr:
    """A SecureString of SSM's Parameter Store, read anew.

    Raises:
        ConfigError: There is none.
        UpstreamUnavailable: It can't be read at the moment.
    """
    # brings boto3 along, which only a deployment has, and which takes 0.3 s to import
    from aws_lambda_powertools.utilities.parameters import get_parameter
    from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError

    try:
        value = str(get_parameter(name, decrypt=True, force_fetch=True))
    except GetParameterError as error:
        # the library wraps boto3's error without naming it as the cause
        cause = type(error.__context__).__name__
        # not chained: its text is boto3's
        if cause == "ParameterNotFound":
            raise ConfigError(f"There is no parameter {name}.") from None
        raise UpstreamUnavailable(f"{name} can't be read ({cause}).") from None
    return SecretStr(value.strip())
