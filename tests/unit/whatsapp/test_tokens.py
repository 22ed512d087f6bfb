"""Tokens that are parameters, and what becomes of a message whose token is not accepted."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
from pydantic import HttpUrl, SecretStr

from rapport.errors import ConfigError, UpstreamUnavailable
from rapport.parameters import Parameters, ParameterTokens, TokenSource
from rapport.settings import REREAD_INTERVAL, GraphSettings
from rapport.whatsapp.graph import Accepted, GraphClient, Refused

TEMPLATE = "/x/{phone_number_id}/token"
SETTINGS = GraphSettings(whatsapp_graph_url=HttpUrl("https://graph.example"))


class Ssm:
    """The parameters that there are, and how often each was read; the clock stands still."""

    def __init__(self, **values: str) -> None:
        self.values = {f"/x/{number}/token": value for number, value in values.items()}
        self.reads: list[str] = []
        self.failure: Exception = ConfigError("There is no parameter /x/1/token.")
        self.now = 1000.0

    def read(self, name: str) -> SecretStr:
        self.reads.append(name)
        if name not in self.values:
            raise self.failure
        return SecretStr(self.values[name])

    def tokens(self) -> ParameterTokens:
        return ParameterTokens(
            TEMPLATE, Parameters(TEMPLATE, read=self.read, clock=lambda: self.now)
        )


def test_each_number_has_its_own_and_it_is_read_once() -> None:
    ssm = Ssm(**{"1": "one", "2": "two"})
    tokens = ssm.tokens()
    for _ in range(3):
        assert tokens.token("1").get_secret_value() == "one"
    assert tokens.token("2").get_secret_value() == "two"
    assert ssm.reads == ["/x/1/token", "/x/2/token"]


def sends(tokens: TokenSource, answer: Callable[[str], httpx.Response]) -> tuple[object, list[str]]:
    """The outcome of one message, and the tokens that it was sent with."""
    used: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        used.append(request.headers["authorization"].removeprefix("Bearer "))
        return answer(used[-1])

    client = GraphClient(SETTINGS, httpx.MockTransport(respond), tokens)
    outcome = client.send("1", {})
    client.close()
    return outcome, used


def graph(accepted: str) -> Callable[[str], httpx.Response]:
    """WhatsApp, which accepts one token."""

    def answer(token: str) -> httpx.Response:
        if token == accepted:
            return httpx.Response(200, content=json.dumps({"messages": [{"id": "wamid.1"}]}))
        return httpx.Response(401, json={"error": {"code": 190, "message": "expired"}})

    return answer


def test_a_token_that_was_changed_is_read_anew_and_the_message_goes() -> None:
    ssm = Ssm(**{"1": "old"})
    tokens = ssm.tokens()
    tokens.token("1")
    ssm.values["/x/1/token"] = "new"
    ssm.now += REREAD_INTERVAL
    assert sends(tokens, graph("new")) == (Accepted("wamid.1"), ["old", "new"])


def test_a_token_that_stays_refused_is_read_once_a_minute() -> None:
    ssm = Ssm(**{"1": "old"})
    tokens = ssm.tokens()
    tokens.token("1")
    ssm.now += REREAD_INTERVAL
    for _ in range(3):
        outcome, used = sends(tokens, graph("new"))
        assert isinstance(outcome, Refused)
        assert (outcome.code, used) == (190, ["old"])
    assert len(ssm.reads) == 2


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (ConfigError("There is no parameter /x/1/token."), -3),
        (UpstreamUnavailable("/x/1/token can't be read."), -1),
    ],
)
def test_one_that_is_missing_stops_the_number_and_one_that_is_away_does_not(
    failure: Exception, code: int
) -> None:
    ssm = Ssm()
    ssm.failure = failure
    outcome, used = sends(ssm.tokens(), graph("any"))
    assert isinstance(outcome, Refused)
    assert (outcome.code, used) == (code, [])
    assert "/x/1/token" in outcome.details
