"""Passing things between clients: who is typing, on a topic that lets clients write.

The topics are the test's own, under the kinds by which the client asks for them.
"""

from __future__ import annotations

import pytest
from tests.integration.client.portal import Portal, until

from rapport.errors import NotAllowed

TOPICS = """
    create or replace function public.my_topics(conversation_id uuid default null)
        returns table (topic text, kind text, id uuid)
        language sql
        stable
        set search_path = ''
    as $$
        select t.topic, t.kind, t.id
        from private.topics_of_caller(my_topics.conversation_id) t
        where t.kind in ('account', 'customer')
        union all
        select 'typing:customer:' || c.id, 'typing_customer', c.id
        from public.conversations c
        where c.id = my_topics.conversation_id
    $$;
    create policy "both sides can listen"
        on realtime.messages
        for select
        to authenticated
        using (realtime.topic() like 'typing:customer:%');
    create policy "somebody can write"
        on realtime.messages
        for insert
        to authenticated
        with check (realtime.topic() like 'typing:customer:%');
"""


@pytest.fixture
def conversation_topics(portal: Portal) -> None:
    portal.world.owner.execute(TOPICS.encode())


@pytest.mark.usefixtures("conversation_topics")
async def test_the_other_side_sees_who_types_and_nobody_else_does(portal: Portal) -> None:
    conversation = portal.conversation("cilka")
    heard: list[str] = []
    async with (
        portal.client("cilka") as cilka,
        portal.client("andrej") as andrej,
        portal.client("ana") as ana,
        await cilka.typing("customer", conversation, lambda: heard.append("cilka")) as hers,
        await andrej.typing("customer", conversation, lambda: heard.append("andrej")) as his,
        await ana.typing("customer", conversation, lambda: heard.append("ana")) as foreign,
    ):
        await until(lambda: hers.is_connected and his.is_connected)
        await until(lambda: isinstance(foreign.error, NotAllowed))
        assert not his.is_typing

        for _ in range(3):
            await hers.say()

        await until(lambda: his.is_typing)
        assert heard == ["andrej"]
        assert not hers.is_typing
        assert not foreign.is_connected
