"""Each function's role: what its environment, its triggers and serverless.yml's `custom.uses` say,
and nothing else; and an alarm for its errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import JsonValue

from rapport.commands.package.document import DeployedFunction, Document, Json
from rapport.errors import ConfigError

# of a number or an account; with a dollar before it, it is a variable of the framework
_PLACEHOLDER = re.compile(r"(?<!\$)\{[^}]*\}")
_ARN = "arn:${AWS::Partition}"
_HERE = "${AWS::Region}:${AWS::AccountId}"
# what a bucket's action is done to: the files in it, or the bucket
_OF_BUCKETS = {"s3:ListBucket"}


def logical_id(function: str) -> str:
    """The beginning of the ids of what belongs to a function, as the framework has it."""
    whole = function.replace("-", "Dash").replace("_", "Underscore")
    return whole[0].upper() + whole[1:]


def resources_of(document: Document) -> dict[str, Json]:
    """The resources that are made for each function beside the framework's own.

    Raises:
        ConfigError: A use names a function or a resource that there is not.
    """
    unknown = set(document.custom.uses) - set(document.functions)
    if unknown:
        raise ConfigError(f"serverless.yml: custom.uses names {', '.join(sorted(unknown))}.")
    found: dict[str, Json] = {}
    for name, function in document.functions.items():
        found[function.role] = _role(document, name, function)
        found[f"{logical_id(name)}ErrorsAlarm"] = _alarm(document, name)
    return found


def _role(document: Document, name: str, function: DeployedFunction) -> Json:
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": {
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"Service": "lambda.amazonaws.com"},
                        "Action": "sts:AssumeRole",
                    }
                ],
            },
            "Policies": [
                {
                    "PolicyName": "uses",
                    "PolicyDocument": {
                        "Version": "2012-10-17",
                        "Statement": list(_statements(document, name, function)),
                    },
                }
            ],
        },
    }


def _statements(document: Document, name: str, function: DeployedFunction) -> Iterator[Json]:
    log = f"{_ARN}:logs:{_HERE}:log-group:/aws/lambda/{document.function_name(name)}:*"
    yield _allowed(["logs:CreateLogStream", "logs:PutLogEvents"], [{"Fn::Sub": log}])
    parameters = sorted(
        {
            # a place for an account or a number: each one's parameter
            _PLACEHOLDER.sub("*", value)
            for variable, value in function.environment.items()
            if variable.endswith("_PARAMETER") and isinstance(value, str) and value
        }
    )
    if parameters:
        yield _allowed(
            ["ssm:GetParameters"],
            [{"Fn::Sub": f"{_ARN}:ssm:{_HERE}:parameter{one}"} for one in parameters],
        )
    for trigger in function.events:
        if trigger.sqs:
            yield _allowed(
                ["sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"],
                [trigger.sqs.arn],
            )
    if function.onError is not None:
        yield _allowed(["sqs:SendMessage"], [function.onError])
    for action, ones in sorted(document.custom.uses.get(name, {}).items()):
        yield _allowed([action], [_target(document, action, one) for one in ones])


def _allowed(actions: list[JsonValue], resources: list[JsonValue]) -> Json:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


def _target(document: Document, action: str, named: str) -> JsonValue:
    if action.startswith("lambda:"):
        if named not in document.functions:
            raise ConfigError(f"serverless.yml: custom.uses names the function {named}.")
        return {"Fn::Sub": f"{_ARN}:lambda:{_HERE}:function:{document.function_name(named)}"}
    if not any(named in part.resources for part in document.resources):
        raise ConfigError(f"serverless.yml: custom.uses names the resource {named}.")
    if action.startswith("s3:") and action not in _OF_BUCKETS:
        return {"Fn::Sub": f"${{{named}.Arn}}/*"}
    return {"Fn::GetAtt": [named, "Arn"]}


def _alarm(document: Document, name: str) -> Json:
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmDescription": (
                f'{name} failed. Its log says where ("crashed" or "failed"), or that its time'
                " was up."
            ),
            "Namespace": "AWS/Lambda",
            "MetricName": "Errors",
            "Dimensions": [{"Name": "FunctionName", "Value": document.function_name(name)}],
            "Statistic": "Sum",
            "Period": 300,
            "EvaluationPeriods": 1,
            "ComparisonOperator": "GreaterThanThreshold",
            "Threshold": 0,
            "TreatMissingData": "notBreaching",
            "AlarmActions": [{"Ref": "Alarms"}],
            "OKActions": [{"Ref": "Alarms"}],
        },
    }
