"""serverless.yml as the function host reads it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from rapport.errors import ConfigError
from rapport.server.host import deploy
from rapport.server.serverless import SERVERLESS_FILE, Route, Service, interval
from rapport.server.serverless import _Loader as yaml_loader

DOCUMENT = """
service: example
provider:
  name: aws
  timeout: 20
  environment:
    SHARED: ${ssm:/shared}
    REGION: !Ref AWS::Region
  iam: !Sub { a: [b, !GetAtt c.d] }
functions:
  orders:
    handler: orders.handler
    memorySize: 256
    environment:
      LEVEL: info
      KEY_PARAMETER: /x/${sls:stage}/key
      URL: !Ref queue
    events:
      - httpApi: GET /orders/{id}
      - httpApi: { method: any, path: "/files/{name+}" }
      - sqs: !GetAtt queue.Arn
  sweep:
    handler: sweep.handler
    timeout: 60
    events:
      - schedule: rate(5 minutes)
      - schedule: { rate: ["rate(1 hour)"] }
      - schedule: { rate: rate(1 day), enabled: false }
      - sqs:
          arn: !GetAtt [queue, Arn]
          batchSize: 5
          functionResponseType: ReportBatchItemFailures
      - sqs: { arn: { "Fn::GetAtt": [dead, Arn] }, enabled: false }
resources:
  Resources:
    topic: { Type: "AWS::SNS::Topic" }
    queue:
      Type: AWS::SQS::Queue
      Properties:
        VisibilityTimeout: 90
        RedrivePolicy: { deadLetterTargetArn: !GetAtt dead.Arn, maxReceiveCount: 5 }
    dead: { Type: "AWS::SQS::Queue" }
"""


@pytest.fixture
def service(tmp_path: Path) -> Service:
    file = tmp_path / "serverless.yml"
    file.write_text(DOCUMENT)
    return Service.read(file)


def test_routes_are_read_in_both_forms(service: Service) -> None:
    assert service.functions["orders"].routes == [
        Route("GET", "/orders/{id}"),
        Route("ANY", "/files/{name+}"),
    ]


def test_schedules_that_are_enabled_are_read(service: Service) -> None:
    assert service.functions["sweep"].schedules == [timedelta(minutes=5), timedelta(hours=1)]


def test_the_queues_that_feed_a_function_are_read_in_every_spelling(service: Service) -> None:
    orders, sweep = service.functions["orders"], service.functions["sweep"]
    assert [(one.queue, one.batch_size, one.response_type) for one in orders.queues] == [
        ("queue", 10, None)
    ]
    assert [(one.queue, one.batch_size, one.response_type) for one in sweep.queues] == [
        ("queue", 5, "ReportBatchItemFailures")
    ]


def test_queues_are_created_as_cloudformation_would(service: Service) -> None:
    assert service.resources.queues.keys() == {"queue", "dead"}
    attributes = service.resources.queues["queue"].attributes({"dead": "arn:of:dead"})
    assert attributes["VisibilityTimeout"] == "90"
    assert json.loads(attributes["RedrivePolicy"]) == {
        "deadLetterTargetArn": "arn:of:dead",
        "maxReceiveCount": 5,
    }
    assert "RedrivePolicy" not in service.resources.queues["dead"].attributes({})


def test_this_projects_queue_gives_its_function_time_and_ends_in_an_alarm() -> None:
    document = yaml.load(SERVERLESS_FILE.read_text(), yaml_loader)
    resources = document["resources"][0]["Resources"]
    service = Service.read(SERVERLESS_FILE)
    drain = service.functions["drain_webhooks"]
    (source,) = drain.queues
    queue = service.resources.queues[source.queue]
    assert source.response_type == "ReportBatchItemFailures"
    assert queue.visibility_timeout >= 6 * drain.timeout
    assert queue.redrive
    assert queue.redrive.max_receives == 5
    alarm = resources["WebhookDeadLettersAlarm"]["Properties"]
    assert alarm["Dimensions"][0]["Value"] == f"{queue.redrive.dead_letters}.QueueName"
    assert alarm["AlarmActions"] == ["Alarms"]


def test_a_function_has_what_the_provider_sets_for_all(service: Service) -> None:
    orders, sweep = service.functions["orders"], service.functions["sweep"]
    assert (orders.timeout, orders.memorySize) == (20, 256)
    assert (sweep.timeout, sweep.memorySize) == (60, 1024)


def test_values_that_stand_in_the_file_are_good_everywhere(service: Service) -> None:
    """What the framework or CloudFormation looks up is not there elsewhere."""
    assert service.defaults() == {"LEVEL": "info"}


def test_variables_are_told_with_the_functions_that_read_them(service: Service) -> None:
    assert service.readers() == {
        "KEY": ["orders"],
        "LEVEL": ["orders"],
        "REGION": ["orders", "sweep"],
        "SHARED": ["orders", "sweep"],
        "URL": ["orders"],
    }


def test_a_queues_url_is_found_by_its_variable(service: Service) -> None:
    assert service.functions["orders"].url_variable("queue") == "URL"
    assert service.functions["sweep"].url_variable("queue") is None


@pytest.mark.parametrize(
    "document", ["functions: [", "functions: {}", "- 1", "!!python/object:os.system {}"]
)
def test_a_file_that_can_not_be_read_is_named(tmp_path: Path, document: str) -> None:
    file = tmp_path / "serverless.yml"
    file.write_text(document)
    with pytest.raises(ConfigError, match=r"serverless\.yml"):
        Service.read(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"serverless\.yml"):
        Service.read(tmp_path / "serverless.yml")


@pytest.mark.parametrize("rate", ["cron(0 9 * * ? *)", "rate(0 minutes)", "rate(5 seconds)", ""])
def test_a_schedule_that_can_not_be_run_is_refused(rate: str) -> None:
    with pytest.raises(ConfigError):
        interval(rate)


@pytest.mark.parametrize(
    ("route", "method", "path", "parameters"),
    [
        (Route("GET", "/orders/{id}"), "GET", "/orders/7", {"id": "7"}),
        (Route("GET", "/orders/{id}"), "GET", "/orders/7/lines", None),
        (Route("GET", "/orders/{id}"), "GET", "/orders/", None),
        (Route("GET", "/orders/{id}"), "POST", "/orders/7", None),
        (Route("ANY", "/files/{name+}"), "PUT", "/files/a/b.txt", {"name": "a/b.txt"}),
        (Route("GET", "/a.b"), "GET", "/aXb", None),
        (Route("ANY", "*"), "DELETE", "/anything", {}),
    ],
)
def test_a_route_takes_what_api_gateway_would_give_it(
    route: Route, method: str, path: str, parameters: dict[str, str] | None
) -> None:
    assert route.match(method, path) == parameters


def test_the_more_specific_route_comes_first() -> None:
    routes = [
        Route("ANY", "*"),
        Route("GET", "/orders/{proxy+}"),
        Route("ANY", "/orders/{id}"),
        Route("GET", "/orders/{id}"),
        Route("GET", "/orders/new"),
    ]
    assert sorted(routes, key=lambda route: route.rank) == routes[::-1]


def test_every_function_of_this_project_can_be_imported() -> None:
    deployed = deploy(Service.read(SERVERLESS_FILE))
    assert all(callable(one.handler) for one in deployed)
    assert "whatsapp_webhook" in {one.name for one in deployed}


def test_a_handler_that_is_missing_is_named(service: Service) -> None:
    with pytest.raises(ConfigError, match=r"orders\.handler"):
        deploy(service)
