from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rapport.local.errors import StackError
from rapport.local.stack import state
from rapport.local.stack.running import Stack
from rapport.local.supabase import keys

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    first = state.load_or_create(tmp_path, state.PREFERRED_PORTS)
    first.save(state.settings_file(tmp_path))
    second = state.load_or_create(tmp_path, state.PREFERRED_PORTS)
    ports = set(state.PREFERRED_PORTS)
    assert second.model_dump(exclude=ports) == first.model_dump(exclude=ports)


def test_two_folders_share_no_secret(tmp_path: Path) -> None:
    one = state.load_or_create(tmp_path / "one", state.PREFERRED_PORTS)
    other = state.load_or_create(tmp_path / "other", state.PREFERRED_PORTS)
    secrets = (
        "db_password",
        "secret_key",
        "jwt_secret",
        "whatsapp_app_secret",
        "whatsapp_verify_token",
        "whatsapp_token",
        "wake_secret",
    )
    for secret in secrets:
        assert getattr(one, secret) != getattr(other, secret)
        assert getattr(one, secret) not in repr(one)


def test_a_folder_from_before_a_secret_was_needed_gets_one_and_keeps_it(tmp_path: Path) -> None:
    file = state.settings_file(tmp_path)
    state.load_or_create(tmp_path, state.PREFERRED_PORTS).save(file)
    older = json.loads(file.read_text())
    del older["wake_secret"]
    file.write_text(json.dumps(older))

    stack = state.load_or_create(tmp_path, state.PREFERRED_PORTS)
    stack.save(file)
    assert len(stack.wake_secret) >= 32
    assert state.load_or_create(tmp_path, state.PREFERRED_PORTS).wake_secret == stack.wake_secret


def test_a_folder_from_before_the_new_keys_gets_them_and_keeps_the_old(tmp_path: Path) -> None:
    file = state.settings_file(tmp_path)
    first = state.load_or_create(tmp_path, state.PREFERRED_PORTS)
    new = {"publishable_key", "secret_keys", "signing_key"}
    file.write_text(first.model_dump_json(exclude=new))

    state.load_or_create(tmp_path, state.PREFERRED_PORTS).save(file)

    stack = Stack.load(file)
    assert stack.publishable_key.startswith("sb_publishable_")
    assert stack.secret_key.startswith("sb_secret_")
    assert stack.signing_key.d != first.signing_key.d
    assert stack.signing_key.d not in repr(stack)
    for key, role in ((first.anon_key, "anon"), (first.service_role_key, "service_role")):
        assert keys.verify(keys.KeySet.of(stack), key).role == role


def test_settings_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    file = state.settings_file(tmp_path)
    state.load_or_create(tmp_path, state.PREFERRED_PORTS).save(file)
    assert file.stat().st_mode & 0o777 == 0o600


FAILING_SAVE = """
import resource, sys
from pathlib import Path
from rapport.local.stack.running import Stack

file = Path(sys.argv[1])
stack = Stack.load(file)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    stack.save(file)
except OSError:
    print("failed")
"""


def test_settings_that_can_not_be_written_to_the_end_are_there_as_before(tmp_path: Path) -> None:
    file = state.settings_file(tmp_path)
    stack = state.load_or_create(tmp_path, state.PREFERRED_PORTS)
    stack.save(file)
    # as on a disk that is full: the write ends in the middle
    command = [sys.executable, "-c", FAILING_SAVE, str(file)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "failed\n"
    assert Stack.load(file) == stack
    # and what the failure has left is no obstacle
    stack.save(file)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_damaged_settings_are_refused_without_showing_what_they_hold(tmp_path: Path) -> None:
    state.settings_file(tmp_path).write_text('{"db_password": "hush", "jwt_secret": 7}')
    with pytest.raises(StackError, match="--fresh") as caught:
        state.load_or_create(tmp_path, state.PREFERRED_PORTS)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_locked_folder_names_its_owner(tmp_path: Path) -> None:
    with (
        state.locked(tmp_path),
        pytest.raises(state.AlreadyRunningError, match=f"process {os.getpid()}"),
        state.locked(tmp_path),
    ):
        pass


def test_a_released_folder_can_be_locked_again(tmp_path: Path) -> None:
    with state.locked(tmp_path):
        pass
    with state.locked(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_only_a_locked_folder_has_a_running_stack(tmp_path: Path) -> None:
    stack = state.load_or_create(tmp_path, state.PREFERRED_PORTS)
    stack.save(state.settings_file(tmp_path))
    assert state.running_stack(tmp_path) is None
    with state.locked(tmp_path):
        assert state.running_stack(tmp_path) == stack
    assert state.running_stack(tmp_path) is None


def test_a_stack_that_has_no_settings_yet_does_not_run(tmp_path: Path) -> None:
    with state.locked(tmp_path):
        assert state.running_stack(tmp_path) is None


def test_a_project_that_can_be_written_has_its_stack_inside(session_folder: Path) -> None:
    assert state.default_folder(session_folder) == session_folder / ".rapport"


@as_root
def test_a_project_that_others_cannot_reach_has_its_stack_elsewhere(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    folder = state.default_folder(private)
    assert not folder.is_relative_to(private)
    assert state.is_reachable(folder)


@as_root
def test_a_chosen_folder_that_others_cannot_reach_is_refused(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with pytest.raises(StackError, match="RAPPORT_HOME"):
        state.open_folder(private / "home")


def test_a_file_in_place_of_the_folder_is_refused(session_folder: Path) -> None:
    file = session_folder / "file"
    file.touch()
    with pytest.raises(StackError, match="RAPPORT_HOME"):
        state.open_folder(file / "home")
