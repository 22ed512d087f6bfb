from __future__ import annotations

from pathlib import Path

from rapport.local.lambda_host.host import local_values
from rapport.local.stack.state import PREFERRED_PORTS, new_stack


def test_functions_are_given_the_stand_in_its_token_and_the_doorbells_secret(
    tmp_path: Path,
) -> None:
    stack = new_stack(tmp_path, PREFERRED_PORTS)

    values = local_values(stack)
    assert values["WHATSAPP_GRAPH_URL"] == "http://127.0.0.1:24325/v26.0"
    assert values["WHATSAPP_TOKEN"] == stack.whatsapp_token
    assert values["WAKE_SECRET"] == stack.wake_secret
