"""`rapport keys`: one secret key follows another."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from rapport.commands.keys import keys
from rapport.local.errors import StackError
from rapport.local.stack import state
from rapport.local.stack.running import Stack


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAPPORT_HOME", str(tmp_path))
    return tmp_path


def told(add: str | None = None, drop: str | None = None) -> str:
    output = io.StringIO()
    keys(add=add, drop=drop, console=Console(file=output, width=60))
    return output.getvalue()


def test_a_secret_key_is_added_and_the_old_one_dropped(home: Path) -> None:
    file = state.settings_file(home)
    first = state.new_stack(home, state.PREFERRED_PORTS)
    first.save(file)
    shown = told()
    for key in (first.publishable_key, first.secret_key, first.anon_key, first.service_role_key):
        assert key in shown

    told(add="next")
    both = Stack.load(file)
    assert list(both.secret_keys) == ["default", "next"]
    assert both.secret_key == first.secret_key
    # a start keeps them
    assert state.load_or_create(home, state.PREFERRED_PORTS).secret_keys == both.secret_keys

    with state.locked(home):
        assert "started again" in told(drop="default")
    after = Stack.load(file)
    assert after.secret_keys == {"next": both.secret_keys["next"]}
    assert after.model_copy(update={"secret_keys": first.secret_keys}) == first

    for wrong, message in (
        ({"add": "next"}, "Choose another name"),
        ({"drop": "default"}, "there is: next"),
        ({"drop": "next"}, "Add another first"),
    ):
        with pytest.raises(StackError, match=message):
            told(**wrong)
    assert Stack.load(file) == after


@pytest.mark.usefixtures("home")
def test_without_a_stack_there_are_no_keys() -> None:
    with pytest.raises(StackError, match="rapport up"):
        told()
