"""Figures, as CloudWatch reads them from a log."""

from __future__ import annotations

import json

import pytest
import yaml

from rapport import metrics
from rapport.server.serverless import SERVERLESS_FILE
from rapport.server.serverless import _Loader as yaml_loader


def test_a_figure_is_one_line_that_names_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics, "_namespace", lambda: "Rapport/test")
    metrics.tell(OldestWebhookAge=12.5, DailyRuns=1)
    line = json.loads(capsys.readouterr().out)
    described = line.pop("_aws")
    assert line == {"OldestWebhookAge": 12.5, "DailyRuns": 1}
    assert described["Timestamp"] > 1_700_000_000_000
    assert described["CloudWatchMetrics"] == [
        {
            "Namespace": "Rapport/test",
            "Dimensions": [[]],
            "Metrics": [
                {"Name": "OldestWebhookAge", "Unit": "Seconds"},
                {"Name": "DailyRuns", "Unit": "Count"},
            ],
        }
    ]


def test_where_no_alarm_listens_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    metrics._namespace.cache_clear()
    metrics.tell(DailyRuns=1)
    assert capsys.readouterr().out == ""


def test_every_figure_has_an_alarm_and_every_alarm_a_figure() -> None:
    document = yaml.load(SERVERLESS_FILE.read_text(), yaml_loader)
    alarms = [
        one["Properties"]
        for one in document["resources"][0]["Resources"].values()
        if one["Type"] == "AWS::CloudWatch::Alarm"
    ]
    ours = [one["MetricName"] for one in alarms if one.get("Namespace", "").startswith("Rapport/")]
    assert sorted(ours) == sorted(metrics.FIGURES)
    assert all(one["AlarmActions"] == ["Alarms"] for one in alarms)
