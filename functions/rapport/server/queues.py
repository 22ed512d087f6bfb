"""Queues in serverless.yml: the resources, and the functions that they feed.

Sources: docs.aws.amazon.com, CloudFormation's AWS::SQS::Queue; the "Serverless.yml Reference".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from rapport.errors import ConfigError


def _logical_id(reference: object) -> object:
    """The resource that `!GetAtt Queue.Arn` names, in any of its spellings."""
    if isinstance(reference, dict):
        reference = reference.get("Fn::GetAtt")
    if isinstance(reference, str):
        return reference.removesuffix(".Arn")
    return reference[0] if isinstance(reference, list) and reference else reference


LogicalId = Annotated[
    str, BeforeValidator(_logical_id), StringConstraints(pattern=r"^[A-Za-z0-9]+$")
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class QueueSource(_Model):
    """An event source mapping: the queue that feeds a function, and the size of a batch."""

    queue: LogicalId = Field(alias="arn")
    batch_size: int = Field(10, alias="batchSize", ge=1, le=10)
    enabled: bool = True
    response_type: Literal["ReportBatchItemFailures"] | None = Field(
        None, alias="functionResponseType"
    )


class _Redrive(_Model):
    dead_letters: LogicalId = Field(alias="deadLetterTargetArn")
    max_receives: int = Field(alias="maxReceiveCount")


class QueueProperties(_Model):
    """A queue's properties; times in seconds, sizes in bytes."""

    visibility_timeout: int = Field(30, alias="VisibilityTimeout")
    retention: int = Field(345_600, alias="MessageRetentionPeriod")
    maximum_size: int = Field(1_048_576, alias="MaximumMessageSize")
    redrive: _Redrive | None = Field(None, alias="RedrivePolicy")

    def attributes(self, arns: Mapping[str, str]) -> dict[str, str]:
        """The attributes for SQS's CreateQueue; `arns` has the ARN of the dead letters' queue."""
        attributes = {
            "VisibilityTimeout": str(self.visibility_timeout),
            "MessageRetentionPeriod": str(self.retention),
            "MaximumMessageSize": str(self.maximum_size),
        }
        if self.redrive:
            attributes["RedrivePolicy"] = json.dumps(
                {
                    "deadLetterTargetArn": arns[self.redrive.dead_letters],
                    "maxReceiveCount": self.redrive.max_receives,
                }
            )
        return attributes


class _Resource(_Model):
    type: str = Field(alias="Type")
    properties: dict[str, object] = Field({}, alias="Properties")


class Resources(_Model):
    """The resources beside the functions; only queues are created here."""

    by_id: dict[str, _Resource] = Field({}, alias="Resources")

    @property
    def queues(self) -> dict[str, QueueProperties]:
        """The queues, by logical id.

        Raises:
            ConfigError: One has properties that can't be read.
        """
        try:
            return {
                name: QueueProperties.model_validate(resource.properties)
                for name, resource in self.by_id.items()
                if resource.type == "AWS::SQS::Queue"
            }
        except ValidationError as error:
            raise ConfigError(f"A queue of serverless.yml can't be read: {error}") from error
