"""The command `rapport keys`: the API keys of the stack on this machine, and more secret ones.

Several secret keys are good at the same time, so that one can follow another: add the next, give it
to each server, drop the old one.
"""

from __future__ import annotations

from rich.console import Console

from rapport.api_keys import new_api_key
from rapport.local.errors import StackError
from rapport.local.stack import state
from rapport.local.stack.running import Stack


def keys(*, add: str | None, drop: str | None, console: Console) -> None:
    """Shows the keys after adding and dropping a secret key by its name.

    Raises StackError where there is no stack, or a name is wrong.
    """
    folder = state.folder()
    file = state.settings_file(folder)
    if not file.exists():
        raise StackError(f"There is no stack in {folder} yet. Start one with `rapport up`.")
    stack = state.load_or_create(folder, {})
    changed = stack.model_copy(update={"secret_keys": _changed(stack.secret_keys, add, drop)})
    if changed != stack:
        changed.save(file)
    _show(changed, console)
    if changed != stack and state.running_stack(folder):
        console.print("  The stack takes them when it is started again.\n", highlight=False)


def _changed(secret_keys: dict[str, str], add: str | None, drop: str | None) -> dict[str, str]:
    changed = dict(secret_keys)
    if add is not None:
        if add in changed:
            raise StackError(f"There is a secret key {add} already. Choose another name.")
        changed[add] = new_api_key("secret")
    if drop is not None:
        if drop not in changed:
            raise StackError(f"There is no secret key {drop}; there is: {', '.join(changed)}.")
        del changed[drop]
        if not changed:
            raise StackError(f"{drop} is the only secret key. Add another first.")
    return changed


def _show(stack: Stack, console: Console) -> None:
    rows = {
        "Publishable key": stack.publishable_key,
        **{f"Secret key {name}": key for name, key in stack.secret_keys.items()},
        "Legacy anon key": stack.anon_key,
        "Legacy service_role key": stack.service_role_key,
    }
    width = max(map(len, rows))
    console.print()
    for name, value in rows.items():
        console.print(f"  [bold]{name:<{width}}[/bold] {value}", soft_wrap=True, highlight=False)
    console.print()
