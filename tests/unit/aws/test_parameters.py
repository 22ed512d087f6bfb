"""Secrets by their names."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.aws import Aws, recording

from rapport.aws.parameters import read_parameter, read_parameters
from rapport.errors import ConfigError, RapportError, UpstreamUnavailable


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    with recording() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        yield aws


def test_what_there_is_is_read_in_as_few_calls_as_possible(aws: Aws) -> None:
    aws.parameters = {f"/x/{n}": f"value {n}\n" for n in range(12)}
    found = read_parameters([*aws.parameters, "/x/missing"])
    assert {name: one.get_secret_value() for name, one in found.items()} == {
        f"/x/{n}": f"value {n}" for n in range(12)
    }
    assert len(aws.requests) == 2
    assert "value" not in repr(found)


def test_one_that_is_missing_is_named(aws: Aws) -> None:
    with pytest.raises(ConfigError, match="no parameter /x/1"):
        read_parameter("/x/1")
    assert len(aws.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "error", "calls"),
    [
        (400, "AccessDeniedException", ConfigError, 1),
        (400, "ThrottlingException", UpstreamUnavailable, 3),
        (500, "InternalServerError", UpstreamUnavailable, 3),
    ],
)
def test_a_refusal_says_what_was_refused_and_why(
    aws: Aws, status: int, code: str, error: type[RapportError], calls: int
) -> None:
    aws.parameters = {"/x/1": "do-not-show"}
    aws.faults = {"ssm:GetParameters": (status, code)}
    with pytest.raises(error, match=f"/x/1.*{code}") as caught:
        read_parameter("/x/1")
    assert "do-not-show" not in str(caught.value)
    assert len(aws.requests) == calls


@pytest.mark.usefixtures("aws")
def test_aws_away_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    # a port on which nobody listens
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(UpstreamUnavailable, match="ConnectError"):
        read_parameter("/x/1")
