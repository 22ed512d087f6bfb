from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from rapport.local.errors import StackError
from rapport.local.stack.ports import HOST, choose, choose_any, is_free, reserved


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server((HOST, choose_any("taken")["taken"])) as server:
        yield server.getsockname()[1]


def test_a_port_that_somebody_listens_on_is_not_free(taken: int) -> None:
    assert not is_free(taken)


def test_the_preferred_port_is_chosen_while_it_is_free() -> None:
    wish = choose_any("gateway")
    assert choose(wish) == wish


def test_a_taken_port_gives_way_to_the_next_free_one(taken: int) -> None:
    chosen = choose({"gateway": taken})["gateway"]
    assert taken < chosen < taken + 1_000
    assert is_free(chosen)


def test_what_gives_way_leaves_the_wishes_of_others_alone(taken: int) -> None:
    chosen = choose({"gateway": taken, "db": taken + 1})
    assert len(set(chosen.values())) == 2
    assert chosen["gateway"] != taken + 1


def test_no_free_port_is_said_with_the_name_of_what_wanted_it() -> None:
    with socket.create_server((HOST, 65_535)), pytest.raises(StackError, match="gateway"):
        choose({"gateway": 65_535})


def test_two_that_start_at_once_are_given_different_ports() -> None:
    """Though no server of the first listens yet."""
    wish = choose_any("gateway", "db")
    with reserved(wish) as first:
        assert first == wish
        with reserved(wish) as second:
            assert not set(first.values()) & set(second.values())
    with reserved(wish) as again:
        assert again == wish


def test_a_reserved_port_is_for_a_server_to_bind(taken: int) -> None:
    with reserved({"gateway": taken}) as ports:
        assert ports["gateway"] != taken
        socket.create_server((HOST, ports["gateway"])).close()
