"""A conversation in which somebody may answer, and the worker's calls, for tests of sending."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tests.world import ALPINE_NUMBER, World, text_message

CILKA = "38640111222"


def ago(**span: float) -> str:
    """A time before now, as webhooks have it."""
    return (datetime.now(UTC) - timedelta(**span)).isoformat()


def conversation(
    world: World, wa_id: str = CILKA, written: str | None = None, number: str = ALPINE_NUMBER
) -> UUID:
    """A customer has written, a minute ago if not said otherwise; their conversation's id."""
    provider_id = f"wamid.in.{number}.{wa_id}"
    world.ingest(
        text_message(
            provider_id,
            wa_id=wa_id,
            sent_at=written or ago(minutes=1),
            phone_number_id=number,
        )
    )
    found: UUID = world.value(
        "select conversation_id from public.messages where provider_id = %s", [provider_id]
    )
    return found


def post(
    world: World, user: str, thread: UUID | None, message: str | None = "hi", **more: Any
) -> dict[str, Any]:
    """What post_message answers a person."""
    named = ", ".join(f", {name} => %({name})s" for name in more).replace(", ,", ",")
    with world.acting_as(user) as connection:
        row = connection.execute(
            f"select public.post_message(%(thread)s, %(message)s{named})".encode(),
            {"thread": thread, "message": message, **more},
        ).fetchone()
    assert row is not None
    posted: dict[str, Any] = row[0]
    return posted


def backend(world: World, call: str, *parameters: Any) -> Any:
    """What a function of schema backend answers the functions' role."""
    with world.acting("service_role") as connection:
        row = connection.execute(f"select backend.{call}".encode(), parameters).fetchone()
    assert row is not None
    return row[0]


def claim(world: World, worker: str = "w", batch: int = 10) -> list[dict[str, Any]]:
    """What a worker is handed."""
    claimed: list[dict[str, Any]] = backend(world, "claim_outbound(%s, %s)", worker, batch)[
        "claimed"
    ]
    return claimed


def begin(world: World, message_id: object, worker: str = "w") -> bool:
    """Whether the worker may call."""
    begun: bool = backend(world, "begin_send(%s, %s)", message_id, worker)
    return begun


def accept(world: World, message_id: object, provider_id: str, worker: str = "w") -> str:
    """WhatsApp took it."""
    settled: str = backend(
        world, "settle_send(%s, %s, 'accepted', %s)", message_id, worker, provider_id
    )
    return settled


def refuse(world: World, message_id: object, code: int, worker: str = "w", **more: Any) -> str:
    """WhatsApp refused it."""
    settled: str = backend(
        world,
        "settle_send(%s, %s, 'refused', code => %s, details => %s, retry_after => %s)",
        message_id,
        worker,
        code,
        more.get("details"),
        more.get("retry_after"),
    )
    return settled


def lose(world: World, message_id: object, worker: str = "w") -> str:
    """Nobody knows."""
    settled: str = backend(world, "settle_send(%s, %s, 'unknown')", message_id, worker)
    return settled


def send_to(world: World, thread: UUID, message: str = "hi") -> str:
    """A message of Andrej's, claimed and begun; its id."""
    posted = post(world, "andrej", thread, message)
    assert [job["message_id"] for job in claim(world)] == [posted["id"]]
    assert begin(world, posted["id"])
    return str(posted["id"])


def state(world: World, message_id: object) -> dict[str, Any]:
    """What clients see of a message."""
    (row,) = world.rows(
        "select status, provider_id, error_code, error_message, delivered_at"
        " from public.messages where id = %s",
        [message_id],
    )
    return row


def attempts(world: World, message_id: object) -> list[tuple[str | None, str | None]]:
    """Outcome and WhatsApp's id of every attempt."""
    return [
        (row["outcome"], row["provider_id"])
        for row in world.rows(
            "select outcome, provider_id from private.outbound_attempts"
            " where message_id = %s order by attempt",
            [message_id],
        )
    ]


def make_due(world: World) -> None:
    """Time passes until everything queued may go."""
    world.owner.execute("update private.outbound_queue set not_before = now()")
    world.owner.execute("delete from private.send_paces")


def end_leases(world: World) -> None:
    """Time passes until every lease has ended."""
    world.owner.execute(
        "update private.outbound_queue set leased_until = now() - interval '1 second'"
        " where leased_until is not null"
    )
