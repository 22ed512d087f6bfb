"""Builds what is deployed, and says what to do with it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from rich.console import Console

from rapport.commands.package.bundle import PLATFORMS, build
from rapport.commands.package.document import ROLES_FILE, Document, Json
from rapport.commands.package.roles import resources_of
from rapport.commands.package.template import template_of
from rapport.errors import ConfigError
from rapport.server.serverless import SERVERLESS_FILE

_SHOWN = 8
# the framework's variables stay as they are, for the framework to fill in
_AS_IT_STANDS = {"sls:stage": "${sls:stage}", "self:service": "${self:service}"}


def package(
    *, stage: str, architecture: str, runtime: str | None, folder: Path, console: Console
) -> None:
    """Writes `functions.zip`, `template.json` and `osls.json` into `folder`.

    Raises:
        ConfigError: Something that this needs is missing; the message says what to do.
    """
    lambda_architecture = architecture.replace("-", "_")
    if lambda_architecture not in PLATFORMS:
        raise ConfigError(f"--architecture is arm64 or x86-64, not {architecture}.")
    document = read(stage, lambda_architecture, runtime)
    bundle = build(
        folder / "functions.zip",
        architecture=lambda_architecture,
        runtime=document.provider.runtime,
        progress=lambda step: console.print(f"  {step}", highlight=False),
    )
    # after the zip: what it lacks is told before anything is written
    template = folder / "template.json"
    write(template, template_of(document))
    write(folder / Path(ROLES_FILE).name, roles())
    largest = sorted(bundle.parts.items(), key=lambda part: -part[1])
    console.print()
    for part, size in largest[:_SHOWN]:
        console.print(f"  {_megabytes(size)}  {part}", highlight=False)
    rest = sum(size for _, size in largest[_SHOWN:])
    console.print(f"  {_megabytes(rest)}  {len(largest) - _SHOWN} others", highlight=False)
    console.print(
        f"  {_megabytes(bundle.size)}  in all; {_megabytes(bundle.unpacked).strip()} unpacked",
        highlight=False,
    )
    key = f"functions-{hashlib.sha256(bundle.file.read_bytes()).hexdigest()[:12]}.zip"
    name = f"{document.service}-{stage}"
    console.print(
        f"""
  {bundle.file}
  {template}

  Next, with a bucket of yours in the region of the deployment:

  aws s3 cp {bundle.file} s3://BUCKET/{key}
  aws cloudformation deploy --stack-name {name} --template-file {template} --s3-bucket BUCKET \\
    --parameter-overrides CodeBucket=BUCKET CodeKey={key} --capabilities CAPABILITY_IAM

  or by osls: osls deploy --stage {stage}{_parameters(document)}
  "Into production" in the README has the steps before and after.""",
        highlight=False,
        soft_wrap=True,
    )


def read(stage: str, architecture: str | None = None, runtime: str | None = None) -> Document:
    """serverless.yml for a stage; without an architecture or a runtime its own.

    Raises:
        ConfigError: It can't be read.
    """
    variables = {"sls:stage": stage, "self:service": "rapport", "opt:stage": stage}
    if architecture:
        variables["param:architecture"] = architecture
    if runtime:
        variables["param:runtime"] = runtime
    return Document.read(SERVERLESS_FILE, variables)


def roles() -> Json:
    """What the framework adds to its own template, for any stage.

    Raises:
        ConfigError: serverless.yml can't be read.
    """
    document = Document.read(SERVERLESS_FILE, _AS_IT_STANDS)
    # the names of functions are the framework's to fill in
    stage = document.provider.model_copy(update={"stage": _AS_IT_STANDS["sls:stage"]})
    return {"Resources": dict(resources_of(document.model_copy(update={"provider": stage})))}


def write(file: Path, value: Json) -> None:
    """Writes JSON, the same each time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:5.1f} MB"


def _parameters(document: Document) -> str:
    """What osls has to be told beside the stage."""
    usual = read(document.provider.stage).provider
    told = {
        "architecture": (document.provider.architecture, usual.architecture),
        "runtime": (document.provider.runtime, usual.runtime),
    }
    return "".join(
        f' --param="{name}={value}"' for name, (value, default) in told.items() if value != default
    )
