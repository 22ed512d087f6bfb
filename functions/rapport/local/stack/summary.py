"""The addresses, keys and logins of a running stack, for a person or a program."""

from __future__ import annotations

import io
import os
from pathlib import Path

from pydantic import BaseModel, field_serializer
from rich.console import Console

from rapport.local.origins import network_urls
from rapport.local.stack.logins import LOGINS, Login
from rapport.local.stack.running import Stack
from rapport.local.stack.state import PREFERRED_PORTS


class StackSummary(BaseModel):
    """The one line of `rapport up --json`."""

    # the pages for people: dashboard, portal and phone
    pages_url: str
    # where others in the network find them; empty unless the stack is open
    network_urls: tuple[str, ...] = ()
    url: str
    publishable_key: str
    secret_key: str
    # the legacy kind, for clients that know no other
    anon_key: str
    service_role_key: str
    functions_url: str
    webhook_url: str
    whatsapp_url: str
    metakocka_url: str
    inbox_url: str
    push_url: str
    db_url: str
    logins: tuple[Login, ...]
    pid: int
    folder: Path

    @field_serializer("logins")
    def _named(self, logins: tuple[Login, ...]) -> list[dict[str, str]]:
        return [login._asdict() for login in logins]

    @classmethod
    def of(cls, stack: Stack) -> StackSummary:
        """Describes a stack that this process supervises."""
        return cls(
            pages_url=f"{stack.url}/",
            network_urls=tuple(f"{url}/" for url in network_urls(stack)),
            url=stack.url,
            publishable_key=stack.publishable_key,
            secret_key=stack.secret_key,
            anon_key=stack.anon_key,
            service_role_key=stack.service_role_key,
            functions_url=stack.functions_url,
            webhook_url=stack.webhook_url,
            whatsapp_url=stack.whatsapp_url,
            metakocka_url=stack.metakocka_fake_url,
            inbox_url=stack.inbox_url,
            push_url=stack.push_url,
            db_url=stack.db_url(),
            logins=LOGINS,
            pid=os.getpid(),
            folder=stack.folder,
        )


def moved_ports(stack: Stack) -> list[str]:
    """Says which ports differ from the usual ones, which other programs use."""
    used = stack.model_dump(include=set(PREFERRED_PORTS))
    return [
        f"Port {preferred} is in use; {name.removesuffix('_port')} has {used[name]} this time."
        for name, preferred in PREFERRED_PORTS.items()
        if used[name] != preferred
    ]


def show(stack: Stack, console: Console) -> None:
    """Prints the summary for a person."""
    summary = StackSummary.of(stack)
    rows = {
        "See it": summary.pages_url,
        "Project URL": summary.url,
        "Functions": summary.functions_url,
        "WhatsApp webhook": summary.webhook_url,
        "WhatsApp stand-in": summary.whatsapp_url,
        "Metakocka stand-in": summary.metakocka_url,
        "Mails and SMS": summary.inbox_url,
        "Push stand-in": summary.push_url,
        "Database": summary.db_url,
        "Publishable key": summary.publishable_key,
        **_secret_keys(stack),
        "Folder": str(summary.folder),
    }
    console.print()
    for name, value in rows.items():
        # the terminal wraps long lines, so that they can be copied in one piece
        console.print(f"  [bold]{name:<18}[/bold] {value}", soft_wrap=True, highlight=False)
    if summary.network_urls:
        _show_network(summary, console)
    console.print("\n  [bold]Logins[/bold]")
    for login in summary.logins:
        line = f"{login.email:<26} {login.password}   {login.role:<9} {login.account}"
        console.print(f"  {line}", soft_wrap=True, highlight=False)
    console.print("\n  [bold]Accounts[/bold], for --account")
    for name, external_id in {login.account: login.external_id for login in summary.logins}.items():
        console.print(f"  {name:<26} {external_id}", soft_wrap=True, highlight=False)
    for sentence in moved_ports(stack):
        console.print(f"\n  [yellow]{sentence}[/yellow]", highlight=False)
    console.print("\n  Ctrl-C stops it. The data stays.\n", highlight=False)


def _secret_keys(stack: Stack) -> dict[str, str]:
    """The secret key; with their names where there are several, which are all good."""
    if len(stack.secret_keys) == 1:
        return {"Secret key": stack.secret_key}
    return {f"Secret key {name}": key for name, key in stack.secret_keys.items()}


def _show_network(summary: StackSummary, console: Console) -> None:
    """How a telephone in the network opens the pages, and who else can."""
    console.print("\n  [bold]In your network[/bold]")
    for url in summary.network_urls:
        console.print(f"  {url}", soft_wrap=True, highlight=False)
    if console.is_terminal and summary.network_urls:
        # not above: a stack on this machine alone needs none
        import segno

        picture = io.StringIO()
        segno.make(summary.network_urls[0], micro=False).terminal(picture, compact=True, border=2)
        console.print()
        console.file.write(picture.getvalue())
    console.print(
        "\n  [yellow]Everybody in your network can open these pages: with the logins below, which"
        " stand in public code, and the phone and the mails without a password. Use it in a network"
        " that you trust, and with no real customer's data.[/yellow]",
        soft_wrap=True,
        highlight=False,
    )
