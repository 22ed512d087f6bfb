"""serverless.yml as the function host reads it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from rapport.errors import ConfigError
from rapport.local.functions import SERVERLESS_FILE, deploy
from rapport.local.serverless import Route, Service, interval

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


def test_a_function_has_what_the_provider_sets_for_all(service: Service) -> None:
    orders, sweep = service.functions["orders"], service.functions["sweep"]
    assert (orders.timeout, orders.memorySize) == (20, 256)
    assert (sweep.timeout, sweep.memorySize) == (60, 1024)


def test_variables_are_looked_up_here_and_literals_are_taken(service: Service) -> None:
    assert service.environment({"SHARED": "local"}) == {
        "SHARED": "local",
        "REGION": "AWS::Region",
        "LEVEL": "info",
    }


def test_a_variable_without_a_local_value_is_named(service: Service) -> None:
    with pytest.raises(ConfigError, match="orders the variable SHARED"):
        service.environment({})


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
