"""Calls of AWS' services that are tried again."""

from __future__ import annotations

import pytest
from tests.aws import recording

from rapport.aws.service import AwsRefused, AwsService


@pytest.mark.parametrize(
    ("status", "code", "pauses"),
    [(400, "ThrottlingException", 3), (503, "SlowDown", 3), (400, "AccessDeniedException", 0)],
)
def test_what_may_pass_is_tried_again_after_a_pause(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, pauses: int
) -> None:
    waited: list[float] = []
    with recording() as aws:
        for name, value in aws.environment().items():
            monkeypatch.setenv(name, value)
        aws.faults = {"ssm:GetParameters": (status, code)}
        service = AwsService("ssm", timeout=3, attempts=4, sleep=waited.append)
        with pytest.raises(AwsRefused, match=code):
            service.ask("AmazonSSM.GetParameters", "1.1", {"Names": ["/x/1"]})
        assert len(aws.requests) == pauses + 1
    # each may be twice as long as the one before it
    assert len(waited) == pauses
    assert all(0 <= wait <= bound for wait, bound in zip(waited, (0.2, 0.4, 0.8), strict=False))
