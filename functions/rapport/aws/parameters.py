"""SSM's Parameter Store: secrets by their names."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from pydantic import Field, SecretStr

from rapport.aws.service import AwsRefused, AwsService, AwsUnreachable
from rapport.deferred import Deferred
from rapport.errors import ConfigError, UpstreamUnavailable

# the most that one call takes
_AT_ONCE = 10
_DENIED = frozenset({"AccessDeniedException", "UnrecognizedClientException"})


class _Parameter(Deferred):
    Name: str
    Value: SecretStr


class _Parameters(Deferred):
    Parameters: list[_Parameter] = Field(default_factory=list)


@cache
def _ssm() -> AwsService:
    return AwsService("ssm", timeout=3, connect=1, attempts=3)


def read_parameters(names: Iterable[str]) -> dict[str, SecretStr]:
    """Reads SecureStrings, by their names; without those that there are not.

    Raises:
        ConfigError: The function may not read one of them.
        UpstreamUnavailable: They can't be read at the moment.
    """
    wanted = sorted(set(names))
    found: dict[str, SecretStr] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        batch = wanted[start : start + _AT_ONCE]
        try:
            answer = _ssm().ask(
                "AmazonSSM.GetParameters", "1.1", {"Names": batch, "WithDecryption": True}
            )
        except AwsRefused as error:
            if error.code in _DENIED:
                raise ConfigError(
                    f"The function's role may not read {', '.join(batch)} (code {error.code})."
                ) from None
            raise UpstreamUnavailable(
                f"{', '.join(batch)} can't be read (code {error.code})."
            ) from None
        except AwsUnreachable as error:
            raise UpstreamUnavailable(f"{', '.join(batch)} can't be read ({error}).") from None
        for one in _Parameters.model_validate(answer).Parameters:
            found[one.Name] = SecretStr(one.Value.get_secret_value().strip())
    return found


def read_parameter(name: str) -> SecretStr:
    """Reads one SecureString.

    Raises:
        ConfigError: It does not exist, or may not be read.
        UpstreamUnavailable: It can't be read at the moment.
    """
    found = read_parameters([name])
    if name not in found:
        raise ConfigError(f"There is no parameter {name}.")
    return found[name]
