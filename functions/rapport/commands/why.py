"""The command `rapport why`: why a message, a number, a conversation, a contact or a partner does
not show, against the stack or a hosted project.
"""

from __future__ import annotations

import re
from contextlib import closing

from rich.console import Console
from rich.markup import escape

from rapport.commands.project import store_settings
from rapport.errors import NotAPhoneNumber
from rapport.phone import to_e164
from rapport.store.contacts import ContactStore
from rapport.store.diagnosis import Diagnosis, DiagnosisStore, Step

# facts that name something, by what they are called
_ID = re.compile(r"(_ids?|^key|^topics|^merged_into)$")
_MARKS = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: "[yellow]?[/yellow]"}


def why(
    reference: str,
    *,
    account: str | None,
    kind: str | None,
    login: str | None,
    as_json: bool,
    console: Console,
) -> int:
    """Prints the steps, the first broken one on top; `as_json` prints the database's answer.

    Returns the process's status: 0, or 1 when a step is broken.

    Raises:
        RapportError: An argument or a setting is wrong, or the database is not there.
    """
    settings = store_settings()
    with closing(DiagnosisStore(settings)) as store:
        found = store.why_not_shown(reference, account=account, kind=kind, login=login)
        if found.kind is None:
            with closing(ContactStore(settings)) as contacts:
                region = contacts.account_country(account) if account else None
            number = _as_number(reference, region)
            if number is not None and number != reference:
                found = store.why_not_shown(number, account=account, kind=kind, login=login)
    if as_json:
        console.print_json(found.model_dump_json())
    else:
        _show(found, console)
    return 1 if found.broken else 0


def _as_number(reference: str, region: str | None) -> str | None:
    try:
        return to_e164(reference, region)
    except NotAPhoneNumber:
        return None


def _show(found: Diagnosis, console: Console) -> None:
    width = max(len(step.step) for step in found.steps)
    console.print()
    _print(console, f"{_MARKS[found.broken is None]} [bold]{escape(found.words)}[/bold]")
    if found.remedy:
        _print(console, f"  {escape(found.remedy)}")
    if found.match is not None:
        _print(console, f"  match: {'true' if found.match else 'false'}")
    if found.time_zone != "UTC":
        _print(console, f"  Times are those of {escape(found.time_zone)}.")
    console.print()
    for step in found.steps:
        _print(console, f"{_MARKS[step.ok]} {step.step:<{width}}  {escape(step.words)}")
        if step.remedy and not _is_on_top(step, found):
            _print(console, f"  {'':<{width}}  {escape(step.remedy)}")
        if ids := _ids(step):
            _print(console, f"  {'':<{width}}  [dim]{escape(ids)}[/dim]")
    console.print()


def _ids(step: Step) -> str:
    """What the step's names stand for, to be copied."""
    named = {name: fact for name, fact in step.facts.items() if _ID.search(name)}
    return "  ".join(
        f"{name} {', '.join(map(str, fact)) if isinstance(fact, list) else fact}"
        for name, fact in named.items()
    )


def _is_on_top(step: Step, found: Diagnosis) -> bool:
    return step.step == found.broken and step.remedy == found.remedy


def _print(console: Console, line: str) -> None:
    console.print(f"  {line}", highlight=False, soft_wrap=True)
