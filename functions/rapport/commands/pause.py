"""The commands `rapport pause` and `rapport resume`, for a number or an account."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console

from rapport.commands.project import store_settings
from rapport.store.operations import OperationsStore, Pause


def pause(named: str, console: Console) -> None:
    """Has nothing sent any more from a number or an account, and says what waits."""
    with closing(OperationsStore(store_settings())) as store:
        paused = store.pause(named)
    console.print(
        f"{_named(paused)} is paused. Messages that wait: {paused.waiting}. What comes in is stored"
        f" and shown. `rapport resume {named}` sends what waits; with --withdraw it is withdrawn.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def resume(named: str, *, withdraw: bool, console: Console) -> None:
    """Ends a pause: what waits is sent, or withdrawn."""
    withdrawn = 0
    with closing(OperationsStore(store_settings())) as store:
        while True:
            resumed = store.resume(named, withdraw=withdraw)
            withdrawn += resumed.withdrawn
            if not resumed.is_paused:
                break
    told = f" Withdrawn: {withdrawn}." if withdraw else ""
    console.print(
        f"{_named(resumed)} sends again.{told} Messages that are sent now: {resumed.waiting}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _named(pause: Pause) -> str:
    return "The account" if pause.channel_id is None else "The number"
