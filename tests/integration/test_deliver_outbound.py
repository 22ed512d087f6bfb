"""From the queue to WhatsApp and back, through PostgREST and the function."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import HttpUrl, SecretStr
from tests.integration.desk import Desk, open_desk
from tests.integration.graph_server import Answer, Body, accepted, refused
from tests.sql.outbound import (
    attempts,
    backend,
    begin,
    claim,
    conversation,
    end_leases,
    post,
    state,
)
from tests.stacks import Start

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.settings import GraphSettings, StoreSettings
from rapport.store.outbound import OutboundMessage, OutboundStore
from rapport.whatsapp.deliver import Delivery
from rapport.whatsapp.graph import GraphClient


class NoFiles:
    """Messages that carry none."""

    def attach(self, message: OutboundMessage) -> OutboundMessage:
        return message


@pytest.fixture
def database(world_database: Database) -> Database:
    """What the stack runs on."""
    return world_database


@pytest.fixture
def desk(start: Start, database: Database) -> Iterator[Desk]:
    with open_desk(start, database) as desk:
        yield desk


@pytest.fixture
def run(desk: Desk) -> Iterator[Callable[..., dict[str, int]]]:
    """Runs a worker to its end; several share the clients, as threads do."""
    store = OutboundStore(_store_settings(desk.stack))
    graph = GraphClient(
        GraphSettings(
            whatsapp_graph_url=HttpUrl(desk.stack.graph_url),
            whatsapp_token=SecretStr(desk.stack.whatsapp_token),
        )
    )

    def run() -> dict[str, int]:
        return dict(Delivery(store, graph, NoFiles(), f"w-{uuid4()}", lambda: 100.0).run())

    yield run
    graph.close()
    store.close()


def _store_settings(stack: Stack) -> StoreSettings:
    return StoreSettings(
        supabase_url=HttpUrl(stack.url),
        supabase_secret_key=SecretStr(stack.secret_key),
    )


Run = Callable[[], dict[str, int]]


def test_what_an_agent_writes_reaches_the_person(desk: Desk, run: Run) -> None:
    posted = post(desk.world, "andrej", conversation(desk.world), "Tuesday at 9?")
    assert run() == {"sent": 1}
    assert desk.graph.received == [
        (
            "/v26.0/1003427786179738/messages",
            {
                "messaging_product": "whatsapp",
                "recipient_type": "individual",
                "to": "38640111222",
                "type": "text",
                "text": {"body": "Tuesday at 9?"},
                "biz_opaque_callback_data": posted["id"],
            },
        )
    ]
    shown = state(desk.world, posted["id"])
    assert (shown["status"], shown["provider_id"]) == ("sent", f"wamid.{posted['id']}")


def test_several_workers_send_each_message_once_and_in_order(desk: Desk, run: Run) -> None:
    threads = [conversation(desk.world, f"386402000{n:02}") for n in range(8)]
    for n in range(5):
        for thread in threads:
            post(desk.world, "andrej", thread, str(n))
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(lambda _: run(), range(4)))
    assert sum(end.get("sent", 0) for end in ends) == 40
    by_person: dict[str, list[str]] = {}
    for _, body in desk.graph.received:
        by_person.setdefault(body["to"], []).append(body["text"]["body"])
    assert list(by_person.values()) == [["0", "1", "2", "3", "4"]] * 8


def test_an_answer_that_is_lost_is_unknown_and_never_sent_again(desk: Desk, run: Run) -> None:
    """Failure case 20: a time-out, and the same message up to four times."""
    posted = post(desk.world, "andrej", conversation(desk.world))
    desk.graph.answer = lambda _body: None
    assert run() == {"unknown": 1}
    assert state(desk.world, posted["id"])["status"] == "unknown"
    desk.graph.answer = accepted
    assert run() == {}
    assert len(desk.graph.received) == 1
    assert attempts(desk.world, posted["id"]) == [("unknown", None)]


def test_a_person_has_it_sent_again_as_a_new_attempt(desk: Desk, run: Run) -> None:
    """Failure case 21: a retry that does nothing."""
    posted = post(desk.world, "andrej", conversation(desk.world))
    desk.graph.answer = lambda _body: None
    run()
    desk.world.owner.execute(
        "update private.outbound_attempts set ended_at = ended_at - interval '3 minutes'"
    )
    with desk.world.acting_as("andrej") as connection:
        connection.execute("select public.resend_message(%s)", [posted["id"]])
    desk.graph.answer = accepted
    assert run() == {"sent": 1}
    assert attempts(desk.world, posted["id"]) == [
        ("unknown", None),
        ("accepted", f"wamid.{posted['id']}"),
    ]


@pytest.mark.parametrize("begun", [True, False])
def test_a_worker_that_is_killed_sends_nothing_twice(desk: Desk, run: Run, begun: bool) -> None:
    posted = post(desk.world, "andrej", conversation(desk.world))
    claim(desk.world, "killed")
    if begun:
        begin(desk.world, posted["id"], "killed")
    end_leases(desk.world)
    assert run() == ({} if begun else {"sent": 1})
    assert state(desk.world, posted["id"])["status"] == ("unknown" if begun else "sent")


def test_a_worker_killed_after_the_answer_leaves_what_a_late_acceptance_settles(
    desk: Desk, run: Run
) -> None:
    posted = post(desk.world, "andrej", conversation(desk.world))
    claim(desk.world, "killed")
    begin(desk.world, posted["id"], "killed")
    end_leases(desk.world)
    run()
    backend(desk.world, "settle_send(%s, 'killed', 'accepted', 'wamid.late')", UUID(posted["id"]))
    assert state(desk.world, posted["id"])["status"] == "sent"
    assert run() == {}
    assert desk.graph.received == []


def test_a_token_that_has_expired_stops_the_number_and_says_so(desk: Desk, run: Run) -> None:
    first = post(desk.world, "andrej", conversation(desk.world))
    desk.graph.answer = lambda _body: refused(190)
    assert run() == {"stop": 1}
    post(desk.world, "andrej", conversation(desk.world, "38640333444"))
    assert run() == {}
    assert state(desk.world, first["id"])["status"] == "queued"
    (number,) = desk.world.rows(
        "select stopped_code, stopped_reason from public.whatsapp_channels"
        " where stopped_at is not null"
    )
    assert number["stopped_code"] == 190
    assert "renew" in number["stopped_reason"]

    desk.graph.answer = accepted
    with desk.world.acting_as("andrej") as connection:
        connection.execute(
            "select public.resume_channel(id) from public.whatsapp_channels"
            " where stopped_at is not null"
        )
    assert run() == {"sent": 2}


def test_what_is_refused_for_the_moment_goes_a_moment_later(desk: Desk, run: Run) -> None:
    posted = post(desk.world, "andrej", conversation(desk.world))
    answers = iter([refused(131056)])

    def answer(body: Body) -> Answer:
        return next(answers, accepted(body))

    desk.graph.answer = answer
    # the first wait is one for which the worker stays
    assert run() == {"retry": 1, "sent": 1}
    assert [outcome for outcome, _ in attempts(desk.world, posted["id"])] == ["refused", "accepted"]


def test_a_conversation_that_fails_holds_up_no_other(desk: Desk, run: Run) -> None:
    fails = post(desk.world, "andrej", conversation(desk.world), "never")
    goes = post(desk.world, "andrej", conversation(desk.world, "38640333444"), "goes")
    desk.graph.answer = lambda body: (
        refused(131026) if body["text"]["body"] == "never" else accepted(body)
    )
    assert run() == {"fail": 1, "sent": 1}
    assert state(desk.world, fails["id"])["error_code"] == 131026
    assert state(desk.world, goes["id"])["status"] == "sent"


def test_what_is_queued_while_a_call_hangs_does_not_wait_for_it(desk: Desk, run: Run) -> None:
    other = threading.Event()
    slow, quick = conversation(desk.world), conversation(desk.world, "38640333444")
    post(desk.world, "andrej", slow, "slow")

    def answer(body: Body) -> Answer:
        if body["text"]["body"] == "slow":
            post(desk.world, "andrej", quick, "quick")
            # shorter than the client's patience
            assert other.wait(8)
        else:
            other.set()
        return accepted(body)

    desk.graph.answer = answer
    assert run() == {"sent": 2}


@pytest.fixture
def served(start: Start, database: Database) -> Iterator[Desk]:
    with open_desk(start, database, "functions") as desk:
        yield desk


def test_the_doorbell_has_it_sent(served: Desk) -> None:
    post(served.world, "andrej", conversation(served.world), "one")
    answer = served.wake()
    assert (answer.status_code, answer.json()) == (202, {"worker": "deliver_outbound"})
    assert served.graph.arrived.acquire(timeout=20)
    post(served.world, "andrej", conversation(served.world), "two")
    # many rings at once are one more look
    assert {served.wake().status_code for _ in range(5)} == {202}
    assert served.graph.arrived.acquire(timeout=20)
    assert served.graph.texts() == ["one", "two"]


def test_only_the_database_rings(served: Desk) -> None:
    post(served.world, "andrej", conversation(served.world))
    assert served.wake("x" * 43).status_code == 403
    assert served.wake(served.stack.secret_key).status_code == 403
    assert served.http.post("/internal/wake", json={}).status_code == 401
    assert served.wake(worker="no_such_worker").status_code == 422
    assert served.graph.received == []
    assert served.world.value("select state from private.outbound_queue") == "queued"


def test_what_was_sent_is_settled_although_the_database_dies_in_the_middle(
    desk: Desk, run: Run
) -> None:
    """The backend is ended while it settles: the outcome is told again, the message not sent."""
    posted = post(desk.world, "andrej", conversation(desk.world), "Tuesday at 9?")
    waiting = (
        "select pid from pg_stat_activity where datname = current_database()"
        " and usename = 'authenticator' and wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor(1) as pool, psycopg.connect(desk.world.database.url()) as other:
        taken = threading.Event()

        def take(body: Body) -> Answer:
            # from here on a worker that settles has to wait
            other.execute("select from public.messages where id = %s for update", [posted["id"]])
            taken.set()
            return accepted(body)

        desk.graph.answer = take
        ends = pool.submit(run)
        assert taken.wait(30)
        while not (found := desk.world.rows(waiting)):
            assert not ends.done(), ends.result()
        desk.world.value("select pg_terminate_backend(%s)", [found[0]["pid"]])
        while [row["pid"] for row in desk.world.rows(waiting)] in ([], [found[0]["pid"]]):
            assert not ends.done(), ends.result()
        other.rollback()
        assert ends.result() == {"sent": 1}
    assert len(desk.graph.received) == 1
    assert state(desk.world, posted["id"])["status"] == "sent"
