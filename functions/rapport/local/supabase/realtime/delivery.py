"""Delivers a batch of changes: decodes them, checks who may see them, sends them.

The rules are those of Realtime's `apply_rls`. A row is sent to subscribers who can select it now. A
deletion is sent to all; with row level security only its key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg

from rapport.local.supabase.realtime import rows
from rapport.local.supabase.realtime.callers import TokenCaller
from rapport.local.supabase.realtime.events import RowEvent, RowProblem
from rapport.local.supabase.realtime.rows import CatalogTable, Image
from rapport.local.supabase.realtime.subscriptions import Registry, Subscriber, TableBinding
from rapport.local.supabase.realtime.wal import Operation, Relation, RowChange, decode, text_rows

logger = logging.getLogger(__name__)

# who gets a change, and the reason if it goes out without its row
Told = dict[TableBinding, RowProblem | None]


@dataclass(frozen=True)
class QueuedChange:
    """A change from the log; `xid` without its epoch, `received_at` by the loop's clock."""

    relation: Relation
    data: bytes
    xid: int
    committed_at: datetime
    received_at: float


async def deliver(
    connection: psycopg.AsyncConnection, registry: Registry, batch: Sequence[QueuedChange]
) -> None:
    """Sends each subscriber the changes that it asked for and may see, in the order of the batch.

    A table that was dropped or altered loses its changes; other tables keep theirs. Raises
    psycopg.Error when the connection breaks.
    """
    by_relation: dict[Relation, list[int]] = {}
    for index, queued in enumerate(batch):
        by_relation.setdefault(queued.relation, []).append(index)
    judged: dict[int, tuple[RowEvent, Told]] = {}
    for relation, indexes in by_relation.items():
        followers = list(registry.of(relation.schema, relation.table))
        changes = [batch[index] for index in indexes]
        try:
            results = await _judge(connection, relation, followers, changes)
        except psycopg.Error as error:
            if connection.broken:
                raise
            logger.warning(
                "changes of %s.%s can't be read: %s", relation.schema, relation.table, error
            )
        else:
            judged |= zip(indexes, results, strict=True)
    for _, (event, told) in sorted(judged.items(), key=lambda item: item[0]):
        for subscriber, payload in _payloads(registry, event, told):
            subscriber.deliver_change(payload)
        # lets broadcasts pass, however many subscribers a table has
        await asyncio.sleep(0)


async def _judge(
    connection: psycopg.AsyncConnection,
    relation: Relation,
    followers: list[TableBinding],
    changes: list[QueuedChange],
) -> list[tuple[RowEvent, Told]]:
    table = await rows.describe(connection, relation, {each.caller.role for each in followers})
    events = await _events(connection, table, followers, changes)
    told: list[Told] = [
        {each: _problem(event, each) for each in followers if _asks_for(each, event)}
        for event in events
    ]
    if table.has_row_security and table.key:
        for caller in {each.caller for each in followers}:
            await _ask_policies(connection, table, caller, events, told)
    return list(zip(events, told, strict=True))


async def _events(
    connection: psycopg.AsyncConnection,
    table: CatalogTable,
    followers: list[TableBinding],
    changes: list[QueuedChange],
) -> list[RowEvent]:
    conditions = {condition for each in followers for condition in each.binding.conditions}
    decoded = [
        (queued, change)
        for queued in changes
        if isinstance(change := decode(queued.data), RowChange)
    ]
    texts = [text_rows(table.relation, change) for _, change in decoded]
    present = [row for pair in texts for row in pair if row is not None]
    images = iter(await rows.read(connection, table, present, conditions))
    return [
        RowEvent(
            table=table,
            operation=change.operation,
            committed_at=queued.committed_at,
            new=None if new is None else next(images),
            old=None if old is None else next(images),
            size=len(queued.data),
        )
        for (queued, change), (new, old) in zip(decoded, texts, strict=True)
    ]


def _asks_for(subscription: TableBinding, event: RowEvent) -> bool:
    binding = subscription.binding
    image = event.old if event.operation is Operation.DELETE else event.new
    holds = image.holds if image else frozenset()
    return binding.wants(event.operation) and holds.issuperset(binding.conditions)


def _problem(event: RowEvent, subscription: TableBinding) -> RowProblem | None:
    table = event.table
    if event.operation is Operation.DELETE:
        return None
    if not table.key:
        return RowProblem.NO_PRIMARY_KEY
    if not table.readable[subscription.caller.role].issuperset(table.key):
        return RowProblem.KEY_NOT_READABLE
    return None


async def _ask_policies(
    connection: psycopg.AsyncConnection,
    table: CatalogTable,
    caller: TokenCaller,
    events: list[RowEvent],
    told: list[Told],
) -> None:
    """Removes one caller's subscriptions to rows that the caller can't select."""
    asked: list[tuple[Image, Told, list[TableBinding]]] = []
    for event, those in zip(events, told, strict=True):
        theirs = [each for each, problem in those.items() if each.caller == caller and not problem]
        if theirs and event.new and event.operation is not Operation.DELETE:
            asked.append((event.new, those, theirs))
    keys = [[image.text.get(name) for name in table.key] for image, _, _ in asked]
    answers = await _answers(connection, table, caller, keys)
    for (_, those, theirs), answer in zip(asked, answers, strict=True):
        for subscription in theirs:
            if answer is None:
                those[subscription] = RowProblem.POLICY_FAILED
            elif not answer:
                del those[subscription]


async def _answers(
    connection: psycopg.AsyncConnection,
    table: CatalogTable,
    caller: TokenCaller,
    keys: list[list[str | None]],
) -> list[bool | None]:
    """Whether the caller sees each row; None for a row on which a policy raises."""
    if not keys:
        return []
    try:
        return list(await rows.visible(connection, table, caller, keys))
    except psycopg.Error as error:
        if connection.broken:
            raise
        if len(keys) == 1:
            relation = table.relation
            logger.warning("a policy of %s.%s failed: %s", relation.schema, relation.table, error)
            return [None]
    return [answer for key in keys for answer in await _answers(connection, table, caller, [key])]


def _payloads(registry: Registry, event: RowEvent, told: Told) -> Iterator[tuple[Subscriber, str]]:
    """One payload for each subscriber and each selection of columns."""
    texts: dict[tuple[str, frozenset[str] | None, RowProblem | None], str] = {}
    ids: dict[tuple[Subscriber, str], dict[int, None]] = {}
    for subscription, problem in told.items():
        # the channel may have closed while the database was asked
        if not registry.still_hears(subscription):
            continue
        view = (subscription.caller.role, subscription.binding.columns, problem)
        if view not in texts:
            texts[view] = event.text(*view)
        ids.setdefault((subscription.subscriber, texts[view]), {})[subscription.binding.id] = None
    for (subscriber, text), those in ids.items():
        yield subscriber, f'{{"ids":[{",".join(map(str, those))}],"data":{text}}}'
