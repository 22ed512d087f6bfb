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
    if resumed.channel_id is not None and resumed.is_account_paused:
        begin = "The number is paused no longer, but its whole account is: nothing is sent."
    elif resumed.paused_numbers:
        numbers = ", ".join(resumed.paused_numbers)
        begin = f"The account sends again, but not from numbers that are still paused: {numbers}."
    else:
        begin = f"{_named(resumed)} sends again."
    console.print(
        f"{begin}{told} Messages that are sent now: {resumed.waiting}.",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _named(pause: Pause) -> str:
    return "The account" if pause.channel_id is None else "The number"
