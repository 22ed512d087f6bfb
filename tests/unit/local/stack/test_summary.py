from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path

from rich.console import Console

from rapport.local.stack.logins import LOGINS, PHONES
from rapport.local.stack.state import PREFERRED_PORTS, PROJECT, new_stack
from rapport.local.stack.summary import StackSummary, moved_ports, show


def test_the_json_is_one_line_with_all_that_a_program_needs(tmp_path: Path) -> None:
    stack = new_stack(tmp_path, PREFERRED_PORTS)
    line = StackSummary.of(stack).model_dump_json()
    assert "\n" not in line
    summary = json.loads(line)
    assert summary["url"] == "http://127.0.0.1:24321"
    assert summary["pages_url"] == "http://127.0.0.1:24321/"
    assert summary["webhook_url"] == "http://127.0.0.1:24324/api/webhooks/whatsapp"
    assert summary["pid"] == os.getpid()
    assert summary["logins"] == [login._asdict() for login in LOGINS]
    assert StackSummary.model_validate_json(line) == StackSummary.of(stack)


def test_keys_are_printed_in_one_piece_on_a_narrow_terminal(tmp_path: Path) -> None:
    stack = new_stack(tmp_path, PREFERRED_PORTS)
    output = io.StringIO()
    show(stack, Console(file=output, width=60))
    for value in (stack.url, stack.publishable_key, stack.secret_key, LOGINS[0].email):
        assert value in output.getvalue()
    # what commands take as --account is on the line of its account
    seed = (PROJECT / "supabase" / "seed.sql").read_text()
    for login in LOGINS:
        assert f"'{login.external_id}', '{login.account}'" in seed
        assert re.search(rf"{login.account} +{login.external_id}", output.getvalue())


def test_every_secret_key_is_shown(tmp_path: Path) -> None:
    stack = new_stack(tmp_path, PREFERRED_PORTS)
    both = {"default": stack.secret_key, "next": "sb_secret_another"}
    output = io.StringIO()
    show(stack.model_copy(update={"secret_keys": both}), Console(file=output))
    assert re.search(rf"Secret key default +{stack.secret_key}", output.getvalue())
    assert re.search(r"Secret key next +sb_secret_another", output.getvalue())


def test_who_can_reach_an_open_stack_is_said_with_a_picture_for_telephones(tmp_path: Path) -> None:
    stack = new_stack(tmp_path, PREFERRED_PORTS)
    assert StackSummary.of(stack).network_urls == ()
    stack = stack.model_copy(update={"listen": "0.0.0.0"})
    url = StackSummary.of(stack).network_urls[0]
    assert url.endswith(":24321/")
    assert "127.0.0.1" not in url
    for is_terminal in (True, False):
        output = io.StringIO()
        show(stack, Console(file=output, force_terminal=is_terminal, width=200))
        assert url in output.getvalue()
        assert "Everybody in your network" in output.getvalue()
        # half blocks
        assert ("▀" in output.getvalue()) is is_terminal
    output = io.StringIO()
    show(new_stack(tmp_path, PREFERRED_PORTS), Console(file=output, force_terminal=True))
    assert "network" not in output.getvalue()


def test_a_port_that_moved_is_said(tmp_path: Path) -> None:
    stack = new_stack(tmp_path, PREFERRED_PORTS | {"gateway_port": 54330})
    assert moved_ports(stack) == ["Port 24321 is in use; gateway has 54330 this time."]


def test_the_phones_write_to_the_numbers_of_the_seed() -> None:
    seed = (PROJECT / "supabase" / "seed.sql").read_text()
    known = [phone for phone in PHONES if f"'+{phone.number}'" in seed]
    assert len(known) == 2
    for phone in PHONES:
        assert f"'{phone.phone_number_id}'" in seed
        assert phone.business in {login.account for login in LOGINS}
