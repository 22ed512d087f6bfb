"""Tokens that are parameters, with a stand-in for the library that a deployment has."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from pydantic import HttpUrl

from rapport.errors import ConfigError, UpstreamUnavailable
from rapport.parameters import ParameterTokens
from rapport.settings import GraphSettings
from rapport.whatsapp.graph import GraphClient, Refused

MODULE = "aws_lambda_powertools.utilities.parameters"


class GetParameterError(Exception):
    """The library's; its cause is boto3's."""


class ParameterNotFound(Exception):  # noqa: N818 - boto3's name
    """boto3's."""


class ThrottlingException(Exception):  # noqa: N818 - boto3's name
    """boto3's."""


class Parameters:
    """The parameters that there are, and how often each was read."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.reads: list[str] = []
        self.failure: type[Exception] = ParameterNotFound

    def get(self, name: str, *, decrypt: bool, force_fetch: bool) -> str:
        assert decrypt
        assert force_fetch
        self.reads.append(name)
        if name not in self.values:
            try:
                raise self.failure("secret words")  # noqa: TRY301
            except Exception:  # noqa: BLE001 - as the library does
                raise GetParameterError("secret words")  # noqa: B904
        return self.values[name]


@pytest.fixture
def parameters(monkeypatch: pytest.MonkeyPatch) -> Parameters:
    found = Parameters()
    library: Any = ModuleType(MODULE)
    library.get_parameter = found.get
    exceptions: Any = ModuleType(f"{MODULE}.exceptions")
    exceptions.GetParameterError = GetParameterError
    monkeypatch.setitem(sys.modules, MODULE, library)
    monkeypatch.setitem(sys.modules, f"{MODULE}.exceptions", exceptions)
    return found


def test_each_number_has_its_own_and_it_is_read_once(parameters: Parameters) -> None:
    parameters.values = {"/x/1/token": "one\n", "/x/2/token": "two"}
    tokens = ParameterTokens("/x/{phone_number_id}/token")
    for _ in range(3):
        assert tokens.token("1").get_secret_value() == "one"
    assert tokens.token("2").get_secret_value() == "two"
    assert parameters.reads == ["/x/1/token", "/x/2/token"]


def test_one_that_was_not_accepted_is_read_anew(parameters: Parameters) -> None:
    parameters.values = {"/x/1": "old"}
    tokens = ParameterTokens("/x/{phone_number_id}")
    tokens.token("1")
    parameters.values = {"/x/1": "new"}
    tokens.forget("1")
    assert tokens.token("1").get_secret_value() == "new"


@pytest.mark.parametrize(
    ("failure", "error", "code"),
    [(ParameterNotFound, ConfigError, -3), (ThrottlingException, UpstreamUnavailable, -1)],
)
def test_one_that_is_missing_stops_the_number_and_one_that_is_away_does_not(
    parameters: Parameters, failure: type[Exception], error: type[Exception], code: int
) -> None:
    parameters.failure = failure
    tokens = ParameterTokens("/x/{phone_number_id}")
    with pytest.raises(error, match="/x/1") as caught:
        tokens.token("1")
    assert "secret words" not in str(caught.value)
    client = GraphClient(
        GraphSettings(whatsapp_graph_url=HttpUrl("https://graph.example")), tokens=tokens
    )
    outcome = client.send("1", {})
    client.close()
    assert isinstance(outcome, Refused)
    assert outcome.code == code
