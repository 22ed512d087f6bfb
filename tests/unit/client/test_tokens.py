"""Access tokens: asked for once, and again before they expire."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from uuid import UUID

import pytest

from rapport.client.tokens import Tokens
from rapport.errors import NotSignedIn, UpstreamUnavailable
from rapport.local.supabase.keys import mint_user_token

CILKA, CARLOS = UUID(int=1), UUID(int=2)
SECRET = "a secret of at least thirty-two characters"


class Provider:
    def __init__(self, lifetime: timedelta, *users: UUID) -> None:
        self.lifetime = lifetime
        self.asked = 0
        self._users = users or (CILKA,)

    async def __call__(self) -> str:
        await asyncio.sleep(0)
        user = self._users[min(self.asked, len(self._users) - 1)]
        self.asked += 1
        return mint_user_token(SECRET, user_id=user, lifetime=self.lifetime)


async def test_token_is_asked_for_once_by_all_who_need_it() -> None:
    provider = Provider(timedelta(hours=1))
    tokens = Tokens(provider, margin=60)

    assert len(set(await asyncio.gather(*(tokens.current() for _ in range(5))))) == 1

    assert provider.asked == 1
    assert 3500 < tokens.seconds_left <= 3540
    assert await tokens.user() == CILKA


async def test_token_is_renewed_when_little_of_its_life_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Provider(timedelta(hours=1))
    tokens = Tokens(provider, margin=60)
    await tokens.current()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 3545)

    await tokens.current()

    assert provider.asked == 2


async def test_short_token_is_renewed_after_half_of_its_life() -> None:
    tokens = Tokens(Provider(timedelta(seconds=30)), margin=60)

    await tokens.current()

    assert 13 < tokens.seconds_left <= 15


async def test_provider_that_is_away_for_a_moment_costs_no_token_that_is_still_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider = Provider(timedelta(minutes=10))
    is_away = False

    async def sometimes() -> str:
        if is_away:
            raise ConnectionError("away")
        return await provider()

    tokens = Tokens(sometimes, margin=60)
    first = await tokens.current()
    start, is_away = time.time(), True
    monkeypatch.setattr(time, "time", lambda: start + 550)
    assert await tokens.current() == first
    # and is asked again, though not at once
    assert 0 < tokens.seconds_left <= 5
    monkeypatch.setattr(time, "time", lambda: start + 600)
    with pytest.raises(ConnectionError):
        await tokens.current()

    is_away = False
    assert await tokens.current() != first


async def test_provider_that_never_answers_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rapport.client.tokens._PATIENCE_SECONDS", 0.01)

    async def silent() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    tokens = Tokens(silent, margin=60)
    for _ in range(2):
        with pytest.raises(UpstreamUnavailable):
            await tokens.current()


async def test_who_has_signed_out_has_no_token_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider(timedelta(minutes=10))
    is_out = False

    async def session() -> str:
        if is_out:
            raise NotSignedIn("Nobody is signed in.")
        return await provider()

    tokens = Tokens(session, margin=60)
    await tokens.current()
    start, is_out = time.time(), True
    monkeypatch.setattr(time, "time", lambda: start + 550)
    with pytest.raises(NotSignedIn):
        await tokens.current()


async def test_refused_token_is_not_used_again() -> None:
    provider = Provider(timedelta(hours=1))
    tokens = Tokens(provider, margin=60)
    await tokens.current()

    tokens.discard()
    await tokens.current()

    assert provider.asked == 2


@pytest.mark.parametrize("wrong_by", [-3600, 3600])
async def test_a_clock_that_is_wrong_by_an_hour_ends_no_session(
    wrong_by: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await Provider(timedelta(minutes=10))()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + wrong_by)

    async def provider() -> str:
        return token

    tokens = Tokens(provider, margin=60)
    assert await tokens.current() == token
    assert 500 < tokens.seconds_left <= 540
    # the server knows when it has ended
    tokens.discard()
    with pytest.raises(NotSignedIn, match="expired"):
        await tokens.current()


async def test_expired_token_and_another_users_are_refused() -> None:
    with pytest.raises(NotSignedIn, match="expired"):
        await Tokens(Provider(timedelta(seconds=-1)), margin=60).current()
    tokens = Tokens(Provider(timedelta(hours=1), CILKA, CARLOS), margin=60)
    await tokens.current()
    tokens.discard()
    with pytest.raises(NotSignedIn, match="another user's"):
        await tokens.current()


@pytest.mark.parametrize("token", ["", "sb_publishable_x", "a.b.c", "a.e30.c"])
async def test_what_is_no_users_token_is_refused(token: str) -> None:
    async def provider() -> str:
        return token

    with pytest.raises(NotSignedIn):
        await Tokens(provider, margin=60).current()
