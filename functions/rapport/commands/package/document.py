"""serverless.yml for one stage, as the framework and CloudFormation read it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from rapport.errors import ConfigError
from rapport.server.cors import CorsRules

ROLES_FILE = "build/osls.json"

# the framework's variables; those of CloudFormation begin with a capital letter
_VARIABLE = re.compile(r"\$\{([a-z]+)([:(])([^}]*)\}")
Json = dict[str, JsonValue]


class _Loader(yaml.SafeLoader):
    """Safe YAML, with CloudFormation's tags (!Ref, !Sub, !GetAtt …) as its functions."""


def _function(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Json:
    match node:
        case yaml.ScalarNode():
            value: JsonValue = loader.construct_scalar(node)
        case yaml.SequenceNode():
            value = loader.construct_sequence(node, deep=True)
        case _:
            raise yaml.YAMLError(f"a tag !{tag} on an unknown kind of node")
    if tag == "GetAtt" and isinstance(value, str):
        return {"Fn::GetAtt": list(value.split(".", 1))}
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _function)


class _Known(BaseModel):
    """A part of the file that says nothing that the template would lack."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Queue(_Known):
    """The queue that feeds a function."""

    arn: JsonValue
    batchSize: int = 10  # noqa: N815 - the framework's words
    functionResponseType: Literal["ReportBatchItemFailures"] | None = None  # noqa: N815
    maximumConcurrency: int | None = None  # noqa: N815


class Trigger(_Known):
    """What starts a function: one of the three."""

    httpApi: str | None = None  # noqa: N815 - the framework's word
    schedule: str | None = None
    sqs: Queue | None = None


class DeployedFunction(_Known):
    """A function of the file."""

    handler: str
    role: str
    events: tuple[Trigger, ...]
    environment: dict[str, JsonValue] = {}
    memorySize: int | None = None  # noqa: N815 - the framework's words
    timeout: int | None = None
    reservedConcurrency: int | None = None  # noqa: N815
    onError: JsonValue = None  # noqa: N815


class _HttpApi(_Known):
    cors: CorsRules


class _AccessLog(_Known):
    format: str


class _Logs(_Known):
    httpApi: _AccessLog  # noqa: N815 - the framework's word


class _Provider(_Known):
    name: Literal["aws"]
    runtime: str
    architecture: str
    region: str
    stage: str
    memorySize: int  # noqa: N815 - the framework's words
    timeout: int
    logRetentionInDays: int  # noqa: N815
    versionFunctions: Literal[False]  # noqa: N815
    environment: dict[str, JsonValue]
    httpApi: _HttpApi  # noqa: N815
    logs: _Logs


class _Package(_Known):
    artifact: str


class _Custom(_Known):
    # by function, the action and what it is done to: resources of the file, or functions
    uses: dict[str, dict[str, tuple[str, ...]]]


class _Part(_Known):
    resources: dict[str, Json] = Field({}, alias="Resources")
    extensions: dict[str, Json] = {}


def _ours(value: object) -> object:
    """Leaves out the file that we make ourselves."""
    if isinstance(value, list):
        return [one for one in value if one != f"${{file({ROLES_FILE})}}"]
    return value


class Document(_Known):
    """The whole file."""

    service: str
    frameworkVersion: str  # noqa: N815 - the framework's word
    provider: _Provider
    package: _Package
    custom: _Custom
    functions: dict[str, DeployedFunction]
    resources: Annotated[tuple[_Part, ...], BeforeValidator(_ours)]

    @classmethod
    def read(cls, file: Path, variables: Mapping[str, str]) -> Document:
        """Reads `file` with the values of its variables, such as `sls:stage`.

        Raises:
            ConfigError: It can't be read, or says something that the template does not understand.
        """
        try:
            document = yaml.load(file.read_text(), _Loader)  # noqa: S506 - a SafeLoader
            return cls.model_validate(_filled(document, variables))
        except (OSError, yaml.YAMLError, ValidationError) as error:
            raise ConfigError(f"{file.name} can't be read: {error}") from error

    def function_name(self, name: str) -> str:
        """The function's name at Lambda."""
        return f"{self.service}-{self.provider.stage}-{name}"


def _filled(value: JsonValue, variables: Mapping[str, str]) -> JsonValue:
    match value:
        case str():
            return _VARIABLE.sub(lambda match: _value(match, variables), value)
        case list():
            return [_filled(one, variables) for one in value]
        case dict():
            return {key: _filled(one, variables) for key, one in value.items()}
        case _:
            return value


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    if match[1] == "file":
        return match[0]
    # what follows a comma is the default
    name, _, default = match[3].partition(",")
    if (found := variables.get(f"{match[1]}:{name.strip()}")) is not None:
        return found
    if not default:
        raise ConfigError(f"serverless.yml: {match[0]} has no value here.")
    return default.strip().strip("'")
