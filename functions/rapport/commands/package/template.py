"""A plain CloudFormation template, with the resources that the framework would make of
serverless.yml, under the same ids.

Sources: docs.aws.amazon.com, "AWS CloudFormation Template Reference"; the framework's own output,
to which a test holds this one.
"""

from __future__ import annotations

import re

from pydantic import JsonValue

from rapport.commands.package.document import DeployedFunction, Document, Json
from rapport.commands.package.roles import logical_id, resources_of
from rapport.errors import ConfigError

RESERVES = "ReserveConcurrency"
_API: Json = {"Ref": "HttpApi"}
_INTEGRATION_MILLISECONDS = 30_000


def template_of(document: Document) -> Json:
    """The template. Its parameters say where the zip is, and whether concurrency is reserved.

    Raises:
        ConfigError: serverless.yml names what there is not.
    """
    resources: dict[str, Json] = {}
    for name, function in document.functions.items():
        resources |= _function(document, name, function)
    resources |= _http_api(document)
    for name, function in document.functions.items():
        resources |= _triggers(name, function)
    for part in document.resources:
        resources |= part.resources
    resources |= resources_of(document)
    for part in document.resources:
        for name, extension in part.extensions.items():
            if name not in resources:
                raise ConfigError(f"serverless.yml: there is no resource {name} to extend.")
            resources[name] = _merged(resources[name], extension)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Rapport's functions, their schedules, queues, roles and alarms.",
        "Parameters": {
            "CodeBucket": {
                "Type": "String",
                "Description": "The bucket that has the zip, in this region.",
            },
            "CodeKey": {
                "Type": "String",
                "Description": "The zip's key in it; a new one for each deployment.",
            },
            RESERVES: {
                "Type": "String",
                "AllowedValues": ["yes", "no"],
                "Default": "yes",
                "Description": (
                    "Whether workers have concurrency of their own. An account with a limit of 10"
                    " can't reserve any: no, until AWS has raised it."
                ),
            },
        },
        "Conditions": {RESERVES: {"Fn::Equals": [{"Ref": RESERVES}, "yes"]}},
        "Resources": dict(resources),
        "Outputs": {
            "HttpApiUrl": {
                "Description": "The address of the HTTP API.",
                "Value": {
                    "Fn::Sub": "https://${HttpApi}.execute-api.${AWS::Region}.${AWS::URLSuffix}"
                },
            },
            "AlarmTopic": {
                "Description": "Subscribe to it, to be told.",
                "Value": {"Ref": "Alarms"},
            },
            "MediaBucketName": {
                "Description": "Customers' files.",
                "Value": {"Ref": "MediaBucket"},
            },
        },
    }


def _function(document: Document, name: str, function: DeployedFunction) -> dict[str, Json]:
    begin = logical_id(name)
    provider = document.provider
    properties: Json = {
        "Code": {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": "CodeKey"}},
        "FunctionName": document.function_name(name),
        "Handler": function.handler,
        "Runtime": provider.runtime,
        "Architectures": [provider.architecture],
        "MemorySize": function.memorySize or provider.memorySize,
        "Timeout": function.timeout or provider.timeout,
        "Environment": {"Variables": provider.environment | function.environment},
        "Role": _arn(function.role),
    }
    if function.reservedConcurrency is not None:
        properties["ReservedConcurrentExecutions"] = {
            "Fn::If": [RESERVES, function.reservedConcurrency, {"Ref": "AWS::NoValue"}]
        }
    if function.onError is not None:
        properties["DeadLetterConfig"] = {"TargetArn": function.onError}
    return {
        f"{begin}LogGroup": {
            "Type": "AWS::Logs::LogGroup",
            "Properties": {
                "LogGroupName": f"/aws/lambda/{document.function_name(name)}",
                "RetentionInDays": provider.logRetentionInDays,
            },
        },
        f"{begin}LambdaFunction": {
            "Type": "AWS::Lambda::Function",
            "Properties": properties,
            # else the function would make the group itself, and keep its lines for ever
            "DependsOn": [f"{begin}LogGroup"],
        },
    }


def _http_api(document: Document) -> dict[str, Json]:
    cors = document.provider.httpApi.cors
    allowed: Json = {
        "AllowOrigins": list(cors.origins),
        "AllowHeaders": list(cors.headers),
        "AllowMethods": list(cors.methods),
        "ExposeHeaders": list(cors.exposed),
        "MaxAge": cors.max_age,
    }
    return {
        "HttpApi": {
            "Type": "AWS::ApiGatewayV2::Api",
            "Properties": {
                "Name": f"{document.provider.stage}-{document.service}",
                "ProtocolType": "HTTP",
                "CorsConfiguration": allowed,
            },
        },
        "HttpApiLogGroup": {
            "Type": "AWS::Logs::LogGroup",
            "Properties": {
                "LogGroupName": f"/aws/http-api/{document.service}-{document.provider.stage}",
                "RetentionInDays": document.provider.logRetentionInDays,
            },
        },
        "HttpApiStage": {
            "Type": "AWS::ApiGatewayV2::Stage",
            "Properties": {
                "ApiId": _API,
                "StageName": "$default",
                "AutoDeploy": True,
                "AccessLogSettings": {
                    "DestinationArn": _arn("HttpApiLogGroup"),
                    "Format": document.provider.logs.httpApi.format,
                },
            },
        },
    }


def _triggers(name: str, function: DeployedFunction) -> dict[str, Json]:
    begin = logical_id(name)
    target = _arn(f"{begin}LambdaFunction")
    made: dict[str, Json] = {}
    schedules = 0
    for trigger in function.events:
        if trigger.httpApi:
            made[f"{begin}LambdaPermissionHttpApi"] = _permission(
                target,
                "apigateway.amazonaws.com",
                {
                    "Fn::Sub": (
                        "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}"
                        ":${HttpApi}/*"
                    )
                },
            )
            integration = f"HttpApiIntegration{begin}"
            made[integration] = {
                "Type": "AWS::ApiGatewayV2::Integration",
                "Properties": {
                    "ApiId": _API,
                    "IntegrationType": "AWS_PROXY",
                    "IntegrationUri": target,
                    "PayloadFormatVersion": "2.0",
                    "TimeoutInMillis": _INTEGRATION_MILLISECONDS,
                },
            }
            made[_route_id(trigger.httpApi)] = {
                "Type": "AWS::ApiGatewayV2::Route",
                "Properties": {
                    "ApiId": _API,
                    "RouteKey": trigger.httpApi,
                    "Target": {"Fn::Sub": f"integrations/${{{integration}}}"},
                },
            }
        if trigger.schedule:
            schedules += 1
            rule = f"{begin}EventsRuleSchedule{schedules}"
            made[rule] = {
                "Type": "AWS::Events::Rule",
                "Properties": {
                    "ScheduleExpression": trigger.schedule,
                    "State": "ENABLED",
                    "Targets": [{"Arn": target, "Id": f"{name}Schedule"}],
                },
            }
            made[f"{begin}LambdaPermissionEventsRuleSchedule{schedules}"] = _permission(
                target, "events.amazonaws.com", _arn(rule)
            )
        if trigger.sqs:
            made[f"{begin}EventSourceMappingSQS{_queue_of(trigger.sqs.arn)}"] = {
                "Type": "AWS::Lambda::EventSourceMapping",
                "Properties": {
                    "BatchSize": trigger.sqs.batchSize,
                    "EventSourceArn": trigger.sqs.arn,
                    "FunctionName": target,
                    "Enabled": True,
                    **(
                        {"FunctionResponseTypes": [trigger.sqs.functionResponseType]}
                        if trigger.sqs.functionResponseType
                        else {}
                    ),
                    **(
                        {"ScalingConfig": {"MaximumConcurrency": trigger.sqs.maximumConcurrency}}
                        if trigger.sqs.maximumConcurrency
                        else {}
                    ),
                },
            }
    return made


def _permission(target: JsonValue, principal: str, source: JsonValue) -> Json:
    return {
        "Type": "AWS::Lambda::Permission",
        "Properties": {
            "FunctionName": target,
            "Action": "lambda:InvokeFunction",
            "Principal": principal,
            "SourceArn": source,
        },
    }


def _arn(resource: str) -> Json:
    return {"Fn::GetAtt": [resource, "Arn"]}


def _queue_of(arn: JsonValue) -> str:
    named = arn.get("Fn::GetAtt") if isinstance(arn, dict) else None
    if not isinstance(named, list):
        raise ConfigError("serverless.yml: a queue that feeds a function is !GetAtt Queue.Arn.")
    return str(named[0])


def _route_id(key: str) -> str:
    """The id of a route, as the framework has it."""
    method, _, path = key.partition(" ")
    dashed = (part.lower().replace("-", "Dash") for part in path.split("/"))
    named = (re.sub(r"\{(.*)\}", r"\1Var", part) for part in dashed)
    parts = [re.sub(r"[^0-9A-Za-z]", "", part) for part in named]
    return f"HttpApiRoute{method.capitalize()}" + "".join(p[:1].upper() + p[1:] for p in parts)


def _merged(value: Json, extension: Json) -> Json:
    merged = dict(value)
    for key, added in extension.items():
        before = merged.get(key)
        if isinstance(before, dict) and isinstance(added, dict):
            merged[key] = _merged(before, added)
        elif isinstance(before, list) and isinstance(added, list):
            merged[key] = [*before, *added]
        else:
            merged[key] = added
    return merged
