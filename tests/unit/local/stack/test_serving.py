from __future__ import annotations

from pathlib import Path

from rapport.local.stack.serving import FORGOTTEN, environment
from rapport.local.stack.state import PREFERRED_PORTS, new_stack
from rapport.server.serverless import SERVERLESS_FILE, Service


def test_functions_are_given_the_stand_in_its_token_and_the_doorbells_secret(
    tmp_path: Path,
) -> None:
    stack = new_stack(tmp_path, PREFERRED_PORTS)

    values = environment(stack)
    assert values["WHATSAPP_GRAPH_URL"] == "http://127.0.0.1:24325/v26.0"
    assert values["WHATSAPP_TOKEN"] == stack.whatsapp_token
    assert values["WAKE_SECRET"] == stack.wake_secret
    assert (values["SERVE_HOST"], values["PORT"]) == ("127.0.0.1", "24324")


def test_every_variable_of_the_functions_has_a_value_here(tmp_path: Path) -> None:
    service = Service.read(SERVERLESS_FILE)
    given = environment(new_stack(tmp_path, PREFERRED_PORTS))
    assert set(service.readers()) - set(given) - set(service.defaults()) == set()


def test_a_developers_own_project_leads_nowhere() -> None:
    for name in ("AWS_PROFILE", "SUPABASE_ANON_KEY", "WHATSAPP_TOKEN_PARAMETER", "SERVE_URL"):
        assert name.startswith(FORGOTTEN)
