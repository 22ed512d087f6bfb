"""Who is there, as it is told from one connection to the next."""

from __future__ import annotations

from uuid import UUID

from rapport.client.catch_up import CatchUp
from rapport.client.presence import Presence
from rapport.client.server import Server
from rapport.client.timing import Timing
from rapport.client.tokens import Tokens
from rapport.client.topics import Scope

ANDREJ, VERA = "andrej", "vera"


async def nobodys() -> str:
    raise AssertionError("nothing is asked of the server here")


class Joined(Presence):
    """A room whose topic is joined, without a server's word."""

    @property
    def is_connected(self) -> bool:
        return True


async def test_nobody_of_an_earlier_connection_is_taken_to_be_there() -> None:
    tokens = Tokens(nobodys, 0)
    server = Server("http://127.0.0.1", "key", tokens, 1)
    seen: list[frozenset[str]] = []
    room = Joined(
        CatchUp(server, "key", tokens, Timing()),
        Scope("presence_desk", UUID(int=1)),
        "me",
        seen.append,
    )
    both, one = frozenset({ANDREJ, VERA}), frozenset({ANDREJ})

    room.enter()
    room.show(both)
    assert room.online == both
    # the connection was lost
    room.enter()
    assert room.online == frozenset()
    room.show(both)
    assert room.online == both
    room.enter()
    room.show(one)
    assert room.online == one
    await server.close()

    # what is as it was told before is not told again
    assert seen == [both, one]
