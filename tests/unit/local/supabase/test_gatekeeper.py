"""The tokens that services get in place of API keys."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from rapport.api_keys import new_api_key
from rapport.local.stack.state import PREFERRED_PORTS, new_stack
from rapport.local.supabase import keys
from rapport.local.supabase.gatekeeper import ProjectKeys


def test_each_key_has_its_role_and_a_token_of_it_that_is_handed_out_for_a_while(
    tmp_path: Path,
) -> None:
    stack = new_stack(tmp_path, PREFERRED_PORTS)
    project = ProjectKeys(stack)
    hour, day = timedelta(hours=1), timedelta(days=1)
    for text, role in (
        (stack.publishable_key, "anon"),
        (stack.secret_key, "service_role"),
        (stack.anon_key, "anon"),
        (stack.service_role_key, "service_role"),
    ):
        key = project.find(text.encode())
        assert key
        token = project.token(key, hour).decode()
        claims = keys.verify(keys.KeySet.of(stack), token).model_dump()
        assert claims["role"] == role
        assert project.token(key, hour) == token.encode()
        if key.token:
            assert token == text
        else:
            assert claims["exp"] - claims["iat"] == hour.total_seconds()
            assert project.token(key, day) != token.encode()
    for text in ("", stack.secret_key[:-1], f"{stack.secret_key}=", "ključ"):
        assert project.find(text.encode()) is None


def test_two_secret_keys_are_good_until_one_is_taken_away(tmp_path: Path) -> None:
    stack = new_stack(tmp_path, PREFERRED_PORTS)
    before, after = stack.secret_key, new_api_key("secret")

    def good(**secret_keys: str) -> list[bool]:
        project = ProjectKeys(stack.model_copy(update={"secret_keys": secret_keys}))
        found = [project.find(key.encode()) for key in (before, after)]
        return [key is not None and key.role == "service_role" for key in found]

    assert good(default=before) == [True, False]
    assert good(default=before, next=after) == [True, True]
    assert good(next=after) == [False, True]
