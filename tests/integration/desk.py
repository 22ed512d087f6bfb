"""Two businesses behind real PostgREST, with somebody in the Graph API's place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
from tests.integration.described import is_described
from tests.integration.graph_server import GraphServer
from tests.stacks import Start
from tests.world import World, seed_uuid

from rapport.local.stack.postgres import Database
from rapport.local.stack.running import Stack
from rapport.local.supabase import keys


class Desk:
    """The rows, the endpoints as any of their people, and what reached WhatsApp."""

    def __init__(self, stack: Stack, world: World, graph: GraphServer, http: httpx.Client) -> None:
        self.stack = stack
        self.world = world
        self.graph = graph
        self.http = http

    def token(self, user: str) -> str:
        return keys.mint_user_token(self.stack.signing_key, user_id=seed_uuid(user))

    def call(
        self, user: str, method: str, path: str, body: object = None, **query: object
    ) -> httpx.Response:
        """A request of a signed-in person."""
        return self.http.request(
            method,
            path,
            json=body,
            params={name: str(value) for name, value in query.items()},
            headers={"Authorization": f"Bearer {self.token(user)}"},
        )

    def wake(self, secret: str | None = None, worker: str = "deliver_outbound") -> httpx.Response:
        """The database's doorbell."""
        return self.http.post(
            "/internal/wake",
            json={"worker": worker},
            headers={"Authorization": f"Bearer {secret or self.stack.wake_secret}"},
        )


@contextmanager
def open_desk(start: Start, database: Database, *children: str) -> Iterator[Desk]:
    stack = start("postgrest", "gateway", *children)
    graph = GraphServer(stack.whatsapp_port, stack.whatsapp_token)
    try:
        with (
            psycopg.connect(database.url(), autocommit=True) as owner,
            httpx.Client(
                base_url=stack.functions_url,
                trust_env=False,
                timeout=30,
                event_hooks={"response": [is_described]},
            ) as http,
        ):
            yield Desk(stack, World(database, owner), graph, http)
    finally:
        graph.close()
