"""Runs all checks of a deployment, and shows what they found."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict

from rich.console import Console
from rich.markup import escape

from rapport.commands.check.database import examine_database
from rapport.commands.check.findings import Finding, State, counted, gathered
from rapport.commands.check.live import examine_live
from rapport.commands.check.outside import (
    examine_companies,
    examine_meta,
    examine_push,
    examine_webhook,
)
from rapport.commands.check.project import NEEDED, ProjectCalls, clock, now
from rapport.commands.project import (
    functions_url,
    publishable_key,
    store_settings,
    whatsapp_settings,
)
from rapport.settings import StoreSettings
from rapport.store.deployment import Deployment, DeploymentStore

_MARKS: dict[State, str] = {
    "ok": "[green]ok     [/green]",
    "warning": "[yellow]look   [/yellow]",
    "wrong": "[red]wrong  [/red]",
}


def examine(url: str | None) -> Iterator[Finding]:
    """Every check, as its result comes; `url` is where the functions are, if it is not known.

    Raises:
        ConfigError: Which project is meant is not known, or a setting is wrong.
    """
    settings = store_settings()
    public = publishable_key()
    with closing(ProjectCalls(settings)) as project:
        findings = list(project.examine(public))
    yield from findings
    if any(one.state == "wrong" and one.check in NEEDED for one in findings):
        return
    with closing(DeploymentStore(settings)) as store:
        yield from gathered(
            "Database",
            _examine(settings, store, url),
            "Apply the migrations of this version: supabase db push.",
        )


def _examine(settings: StoreSettings, store: DeploymentStore, url: str | None) -> Iterator[Finding]:
    # first: Realtime makes its slots for somebody who listens
    yield from gathered("Round trips", _live(settings, store), "Run it again.")
    asked_at = now()
    deployment = store.deployment()
    yield clock(deployment.now, asked_at, now())
    yield from examine_database(deployment)
    yield from gathered("WhatsApp", _whatsapp(deployment, url), "Run `rapport connect whatsapp`.")
    yield from gathered(
        "Metakocka", examine_companies(deployment), "Run `rapport connect metakocka`."
    )
    yield from gathered("Notifications", examine_push(deployment), "Look at the README.")


def _whatsapp(deployment: Deployment, url: str | None) -> Iterator[Finding]:
    base = functions_url(url, deployment.doorbell_url)
    whatsapp = whatsapp_settings()
    yield from examine_webhook(base, whatsapp)
    yield from examine_meta(deployment, base, whatsapp)


def _live(settings: StoreSettings, store: DeploymentStore) -> Iterator[Finding]:
    async def examine_all() -> list[Finding]:
        return [finding async for finding in examine_live(settings, store)]

    yield from asyncio.run(examine_all())


def check(url: str | None, *, as_json: bool, console: Console) -> bool:
    """Shows each finding as it comes, or all as one line of JSON; returns whether none is wrong."""
    found: list[Finding] = []
    for finding in examine(url):
        found.append(finding)
        if not as_json:
            _show(finding, console)
    wrong = sum(one.state == "wrong" for one in found)
    to_look_at = sum(one.state == "warning" for one in found)
    if as_json:
        told = {"ok": not wrong, "findings": [asdict(one) for one in found]}
        # whole: a pipe reads one line
        print(json.dumps(told, ensure_ascii=False))  # noqa: T201 - its output
    else:
        console.print(
            f"\n{counted(len(found), 'check')}: {wrong} wrong, {to_look_at} to be looked at.",
            highlight=False,
        )
    return not wrong


def _show(finding: Finding, console: Console) -> None:
    told = f"{_MARKS[finding.state]}[bold]{escape(finding.check)}[/bold]  {escape(finding.found)}"
    console.print(told, highlight=False, soft_wrap=True)
    if finding.remedy:
        console.print(f"       → {escape(finding.remedy)}", highlight=False, soft_wrap=True)
