"""Both templates: they create the same, CloudFormation takes them, and what there is then."""

from __future__ import annotations

import ast
import io
import json
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from tests.aws import KEY
from tests.templates import created
from tests.web.package import modules_of

from rapport.commands.package.command import read, roles, write
from rapport.commands.package.roles import logical_id
from rapport.commands.package.template import template_of
from rapport.local.stack.npm import node
from rapport.server.serverless import SERVERLESS_FILE

# moto's CloudFormation knows neither HTTP APIs nor alarms, and says so at each of them
pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse:UserWarning")

STAGE = "prod"
OSLS = Path("tests/osls")
# of the framework itself: where it keeps the zip
ITS_OWN = {"ServerlessDeploymentBucket", "ServerlessDeploymentBucketPolicy"}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return template_of(read(STAGE))


def test_osls_needs_no_credentials_and_creates_the_same(
    template: dict[str, Any], tmp_path: Path
) -> None:
    shutil.copyfile(SERVERLESS_FILE, tmp_path / "serverless.yml")
    write(tmp_path / "build" / "osls.json", roles())
    with zipfile.ZipFile(tmp_path / "build" / "functions.zip", "w") as zipped:
        zipped.writestr("rapport/__init__.py", "")
    done = subprocess.run(
        [
            node(),
            (modules_of(OSLS) / "osls" / "bin" / "serverless.js").resolve(),
            "package",
            f"--stage={STAGE}",
        ],
        cwd=tmp_path,
        # no profile, no keys and no home with either
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in (done.stdout + done.stderr).lower()
    file = tmp_path / ".serverless" / "cloudformation-template-update-stack.json"
    theirs = created(json.loads(file.read_text()))
    ours = created(template)
    assert set(theirs) - set(ours) == ITS_OWN
    for name, one in ours.items():
        other = dict(theirs[name])
        if one["type"] == "AWS::Lambda::Function":
            # each has the zip in a place of its own
            other["Code"] = one["Code"]
        assert other == one, name


def test_cloudformation_takes_the_template(template: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "template.json"
    write(file, template)
    done = subprocess.run(
        [Path(sys.executable).parent / "cfn-lint", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
    # CloudFormation's limits
    assert file.stat().st_size < 1_000_000
    assert len(template["Resources"]) <= 500


def test_without_reserved_concurrency_a_new_account_takes_it(template: dict[str, Any]) -> None:
    reserved, free = created(template), created(template, conditions=False)
    for name, one in reserved.items():
        if one["type"] == "AWS::Lambda::Function":
            one.pop("ReservedConcurrentExecutions", None)
        assert free[name] == one


@pytest.fixture(scope="module")
def deployed(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """An account in which the template was deployed; what the stack has, by its logical ids."""
    with pytest.MonkeyPatch.context() as patch, mock_aws(config={"lambda": {"use_docker": False}}):
        for name, value in KEY.items():
            patch.setenv(name, value)
        patch.setenv("AWS_DEFAULT_REGION", KEY["AWS_REGION"])
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as zipped:
            zipped.writestr("rapport/__init__.py", "")
        s3 = boto3.client("s3")
        s3.create_bucket(
            Bucket="code", CreateBucketConfiguration={"LocationConstraint": KEY["AWS_REGION"]}
        )
        s3.put_object(Bucket="code", Key="functions.zip", Body=content.getvalue())
        s3.put_object(Bucket="code", Key="template.json", Body=json.dumps(template).encode())
        stacks = boto3.client("cloudformation")
        stacks.create_stack(
            StackName="rapport-prod",
            TemplateURL=f"https://code.s3.{KEY['AWS_REGION']}.amazonaws.com/template.json",
            Parameters=[
                {"ParameterKey": "CodeBucket", "ParameterValue": "code"},
                {"ParameterKey": "CodeKey", "ParameterValue": "functions.zip"},
            ],
            Capabilities=["CAPABILITY_IAM"],
        )
        [stack] = stacks.describe_stacks(StackName="rapport-prod")["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE"
        pages = stacks.get_paginator("list_stack_resources").paginate(StackName="rapport-prod")
        yield {
            one["LogicalResourceId"]: one["PhysicalResourceId"]
            for page in pages
            for one in page["StackResourceSummaries"]
            if one["PhysicalResourceId"]
        }


def test_an_account_has_the_functions_with_their_roles_and_triggers(
    template: dict[str, Any], deployed: dict[str, Any]
) -> None:
    document = read(STAGE)
    client, iam = boto3.client("lambda"), boto3.client("iam")
    found = {one["FunctionName"]: one for one in client.list_functions()["Functions"]}
    assert set(found) == {document.function_name(name) for name in document.functions}
    for name, function in document.functions.items():
        one = found[document.function_name(name)]
        wanted = template["Resources"][f"{logical_id(name)}LambdaFunction"]["Properties"]
        # moto takes no architecture from a template
        for property_ in ("Handler", "Runtime", "MemorySize", "Timeout"):
            assert one[property_] == wanted[property_], name
        assert set(one["Environment"]["Variables"]) == set(wanted["Environment"]["Variables"])
        role = deployed[function.role]
        assert one["Role"].endswith(f"/{role}")
        policy = iam.get_role_policy(RoleName=role, PolicyName="uses")["PolicyDocument"]
        if isinstance(policy, str):
            # moto answers a template's policy as Python writes it
            policy = ast.literal_eval(policy)
        told = template["Resources"][function.role]["Properties"]["Policies"][0]
        assert [one["Action"] for one in policy["Statement"]] == [
            one["Action"] for one in told["PolicyDocument"]["Statement"]
        ]
    rules = {
        rule["ScheduleExpression"]: rule for rule in boto3.client("events").list_rules()["Rules"]
    }
    wanted_rules = Counter(
        trigger.schedule
        for function in document.functions.values()
        for trigger in function.events
        if trigger.schedule
    )
    assert set(rules) == set(wanted_rules)
    [source] = client.list_event_source_mappings()["EventSourceMappings"]
    assert source["FunctionArn"].endswith(":rapport-prod-drain_webhooks")
    groups = boto3.client("logs").describe_log_groups()["logGroups"]
    assert len(groups) == len(document.functions) + 1
    assert {group["retentionInDays"] for group in groups} == {30}


def test_an_account_has_the_queues_and_takes_the_alarms(
    template: dict[str, Any], deployed: dict[str, Any]
) -> None:
    sqs = boto3.client("sqs")
    queues = [
        name for name, one in template["Resources"].items() if one["Type"] == "AWS::SQS::Queue"
    ]
    for name in queues:
        told = sqs.get_queue_attributes(QueueUrl=deployed[name], AttributeNames=["All"])
        assert told["Attributes"]["MessageRetentionPeriod"] == "1209600"
    redrive = sqs.get_queue_attributes(
        QueueUrl=deployed["WebhookQueue"], AttributeNames=["RedrivePolicy"]
    )["Attributes"]["RedrivePolicy"]
    assert deployed["WebhookDeadLetters"].rpartition("/")[2] in redrive
    # the stand-in's CloudFormation knows no alarms: they are made by themselves
    cloudwatch = boto3.client("cloudwatch")
    alarms = {
        name: one["Properties"]
        for name, one in template["Resources"].items()
        if one["Type"] == "AWS::CloudWatch::Alarm"
    }
    for name, one in alarms.items():
        plain = created({"Resources": {name: {"Type": "", "Properties": one}}})[name]
        properties = {key: value for key, value in plain.items() if key != "type"}
        cloudwatch.put_metric_alarm(AlarmName=name, **properties)
    made = cloudwatch.describe_alarms(MaxRecords=100)["MetricAlarms"]
    assert {one["AlarmName"] for one in made} == set(alarms)
    for one in made:
        assert one["AlarmActions"] == ["<Alarms>"]
        # a sentence for the person who is woken
        assert len(one["AlarmDescription"]) > 40
