"""Reads serverless.yml: the functions, their triggers and their environment.

Source: the "Serverless.yml Reference" for AWS (version 3); only the parts that we use are read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from rapport.checkout import CHECKOUT
from rapport.errors import ConfigError
from rapport.server.cors import CorsRules
from rapport.server.queues import QueueSource, Resources

SERVERLESS_FILE = CHECKOUT / "serverless.yml"

_DEFAULT_TIMEOUT = 6  # seconds, the framework's default
_DEFAULT_MEMORY = 1024  # MB, the framework's default


class _Loader(yaml.SafeLoader):
    """Safe YAML, with CloudFormation's tags (!Ref, !Sub, !GetAtt …) read as plain values."""


def _untagged(loader: yaml.SafeLoader, _tag: str, node: yaml.Node) -> object:
    match node:
        case yaml.ScalarNode():
            return loader.construct_scalar(node)
        case yaml.SequenceNode():
            return loader.construct_sequence(node, deep=True)
        case yaml.MappingNode():
            return loader.construct_mapping(node, deep=True)
        case _:
            raise yaml.YAMLError("a tag on an unknown kind of node")


_Loader.add_multi_constructor("!", _untagged)


@dataclass(frozen=True)
class Route:
    """One method and path of an HTTP API; the path may hold {name} and {name+}."""

    method: str
    path: str

    @property
    def key(self) -> str:
        return "$default" if self.path == "*" else f"{self.method} {self.path}"

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        if self.path == "*":
            return re.compile(r"/.*")
        parts = re.split(r"(\{\w+\+?\})", self.path)
        return re.compile("".join(map(_pattern_of, parts)))

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The path's parameters; None if this route does not match the request."""
        if self.method not in ("ANY", method):
            return None
        found = self.pattern.fullmatch(path)
        return found.groupdict() if found else None

    @property
    def rank(self) -> tuple[bool, int, bool]:
        """Sorts specific routes first: full paths, then {name}, {name+}, $default."""
        greedy = "+}" in self.path or self.path == "*"
        return greedy, self.path.count("{") + (self.path == "*") * 100, self.method == "ANY"


def _pattern_of(part: str) -> str:
    if not part.startswith("{"):
        return re.escape(part)
    name = part.strip("{}+")
    return f"(?P<{name}>.+)" if part.endswith("+}") else f"(?P<{name}>[^/]+)"


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _HttpApi(_Model):
    method: str = "*"
    path: str

    @property
    def route(self) -> Route:
        method = self.method.upper()
        return Route("ANY" if method in ("*", "ANY") else method, self.path)


def _spelled_out(value: object) -> object:
    """Expands a route's short form: "GET /path", or "*" for all other requests."""
    if not isinstance(value, str):
        return value
    method, _, path = value.partition(" ")
    return {"method": method, "path": path.strip() or "*"}


class _Schedule(_Model):
    rate: str | list[str]
    enabled: bool = True


def _with_arn(value: object) -> object:
    """Expands a queue's short form, its ARN; a tag may have been read as a list."""
    is_long = isinstance(value, dict) and "arn" in value
    return value if is_long else {"arn": value}


class _Event(_Model):
    httpApi: Annotated[_HttpApi, BeforeValidator(_spelled_out)] | None = None  # noqa: N815 - the file's
    sqs: Annotated[QueueSource, BeforeValidator(_with_arn)] | None = None
    schedule: _Schedule | str | None = None

    @property
    def every(self) -> list[timedelta]:
        match self.schedule:
            case None:
                return []
            case str(rate):
                return [interval(rate)]
            case _Schedule(rate=rate, enabled=True):
                return [interval(one) for one in ([rate] if isinstance(rate, str) else rate)]
            case _:
                return []


class Function(_Model):
    """A function: its handler, its triggers and its environment."""

    handler: str
    timeout: int = _DEFAULT_TIMEOUT
    memorySize: int = _DEFAULT_MEMORY  # noqa: N815 - the framework's word
    environment: dict[str, str] = {}
    events: list[_Event] = []

    @property
    def routes(self) -> list[Route]:
        return [event.httpApi.route for event in self.events if event.httpApi]

    @property
    def queues(self) -> list[QueueSource]:
        return [event.sqs for event in self.events if event.sqs and event.sqs.enabled]

    @property
    def schedules(self) -> list[timedelta]:
        return [every for event in self.events for every in event.every]

    def url_variable(self, queue: str) -> str | None:
        """The variable that has a queue's URL; `queue` is its logical id."""
        named = (variable for variable, value in self.environment.items() if value == queue)
        return next(named, None)


class _HttpApiOfAll(_Model):
    cors: CorsRules | None = None


class _Provider(_Model):
    timeout: int = _DEFAULT_TIMEOUT
    memorySize: int = _DEFAULT_MEMORY  # noqa: N815 - the file's
    environment: dict[str, str] = {}
    httpApi: _HttpApiOfAll = _HttpApiOfAll()  # noqa: N815 - the file's


def _first(value: object) -> object:
    """Of several parts the first; the others are files that only a deployment has."""
    return value[0] if isinstance(value, list) and value else value


class Service(_Model):
    """The whole file."""

    provider: _Provider
    functions: dict[str, Function]
    resources: Annotated[Resources, BeforeValidator(_first)] = Resources()

    @classmethod
    def read(cls, file: Path) -> Service:
        """Reads `file`; each function gets the provider's defaults.

        Raises:
            ConfigError: It can't be read, or asks for something that `rapport serve` can't do.
        """
        try:
            document = yaml.load(file.read_text(), _Loader)  # noqa: S506 - a SafeLoader
            service = cls.model_validate(document)
        except (OSError, yaml.YAMLError, ValidationError) as error:
            raise ConfigError(f"{file.name} can't be read: {error}") from error
        common = service.provider
        return service.model_copy(
            update={
                "functions": {
                    name: function.model_copy(
                        update={
                            "environment": common.environment | function.environment,
                            "timeout": function.timeout
                            if "timeout" in function.model_fields_set
                            else common.timeout,
                            "memorySize": function.memorySize
                            if "memorySize" in function.model_fields_set
                            else common.memorySize,
                        }
                    )
                    for name, function in service.functions.items()
                }
            }
        )

    @property
    def cors(self) -> CorsRules | None:
        """The CORS rules for other origins; none if they are not set."""
        return self.provider.httpApi.cors

    def defaults(self) -> dict[str, str]:
        """The variables whose values stand in the file itself, which are good everywhere."""
        return {
            variable: value
            for function in self.functions.values()
            for variable, value in function.environment.items()
            if self._is_literal(value)
        }

    def readers(self) -> dict[str, list[str]]:
        """The functions that read each variable; one that names a parameter counts as the variable
        whose value the parameter has.
        """
        found: dict[str, set[str]] = {}
        for name, function in self.functions.items():
            for variable in function.environment:
                found.setdefault(variable.removesuffix("_PARAMETER"), set()).add(name)
        return {variable: sorted(names) for variable, names in sorted(found.items())}

    def _is_literal(self, value: str) -> bool:
        """Whether neither the framework nor CloudFormation looks it up."""
        return not ("${" in value or value.startswith("AWS::") or value in self.resources.by_id)


def interval(rate: str) -> timedelta:
    """The time between two runs of `rate(5 minutes)`.

    Raises:
        ConfigError: It is another expression, such as `cron(…)`.
    """
    found = re.fullmatch(r"rate\(([1-9][0-9]*) (minute|hour|day)s?\)", rate)
    if not found:
        raise ConfigError(f"The schedule {rate!r} can't be run here: use rate(5 minutes).")
    return timedelta(**{f"{found[2]}s": int(found[1])})
