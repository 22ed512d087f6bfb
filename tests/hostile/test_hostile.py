"""Everything that comes from outside, by somebody hostile: always an answer, never a leak."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from hypothesis import given

from tests.hostile import profiles, slow, values
from tests.hostile.judge import swollen, words_in_logs
from tests.hostile.sending import CORPUS, Ask, FaultError, Input, Victim, keep, read
from tests.hostile.targets import HEADER_NAMES, HEADERS, ROUTES, TARGETS, Catalog, Target


def test_slow_clients_take_no_place(victim: Victim) -> None:
    """Each service answers, though more clients than it has places send their bodies slowly."""
    for method, path, body in (
        ("GET", "/rest/v1/contacts", None),
        ("GET", "/auth/v1/settings", None),
        ("POST", "/auth/v1/token", "{}"),
        ("POST", "/realtime/v1/api/broadcast", '{"messages": []}'),
    ):
        given = Ask("gateway", "andrej", method, path, body=body)
        victim.judge(given)
    victim.judge(Ask("functions", "anonymous", "POST", "/api/webhooks/whatsapp", body="{}"))


@pytest.mark.parametrize("file", sorted(CORPUS.glob("*.json")), ids=lambda file: file.stem)
def test_what_was_found_once(victim: Victim, file: Path) -> None:
    victim.judge(read(file))


def test_no_header_makes_a_function_crash(victim: Victim) -> None:
    for route in ROUTES:
        for value in HEADERS:
            # who a caller is said to be stands in one of them for all routes
            for name in HEADER_NAMES if route is ROUTES[0] else HEADER_NAMES[:1]:
                headers = ((name, value),)
                path = route.path.replace("{id}", values.SEGMENTS[-1])
                given = Ask("functions", "anonymous", route.method, path, "", headers, "{}")
                victim.judge(given)


def test_no_address_makes_a_function_crash(victim: Victim) -> None:
    for route in ROUTES:
        for segment in values.SEGMENTS if "{" in route.path else ():
            path = route.path.replace("{id}", segment)
            victim.judge(Ask("functions", "andrej", route.method, path))


# of an input that is a fault
@pytest.mark.filterwarnings("ignore:Generating overly large repr")
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_hostile_input(victim: Victim, target: Target) -> None:
    catalog = Catalog.of(victim.world)

    @profiles.inputs(target.share)
    @given(target.strategy(catalog))
    def send(given: Input) -> None:
        victim.judge(given)

    try:
        send()
    except FaultError as found:
        # the shortest one, where it was looked for
        found.add_note(f"kept as {keep(target.name, found.given).name}")
        raise


def test_slow_clients_are_given_up(victim: Victim) -> None:
    for client in victim.slow.silent:
        assert slow.told(client) == b""
    for client in victim.slow.begun:
        assert slow.told(client).startswith(b"HTTP/1.1 408 ")
    for path, clients in victim.slow.bodies.items():
        for client in clients:
            assert slow.told(client).startswith(b"HTTP/1.1 408 "), path


def test_all_of_it_leaves_the_stack_well(victim: Victim) -> None:
    """The processes live and are as small as before, and their logs tell nothing of anybody."""
    victim.running.start()
    assert swollen(psutil.Process().children(recursive=True)) == []
    # its own processes', and those of Postgres, which all stacks of a run share
    folder = victim.running.folder
    for logs in (folder / "logs", folder.parent / "logs"):
        assert list(words_in_logs(logs, victim.secrets)) == []
