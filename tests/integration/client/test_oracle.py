"""Random writes of several people over all that the catalog lets them write, while parts of the
stack are killed; after each of these rounds every client shows what its user selects.

`ORACLE_ROUNDS=100 ORACLE_SEED=7 uv run pytest tests/integration/client/test_oracle.py` is a long
form. A failure prints its seed and what was done in its round.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import httpx
import psycopg
import pytest
from tests.integration.client.followers import (
    Follower,
    JavaScriptFollower,
    Part,
    PythonFollower,
    Row,
    Told,
    Wanted,
    by_id,
    differ,
)
from tests.integration.client.proxy import Faults, Proxy
from tests.integration.client.writes import PHONES, Catalog, Draw, Facts, Request, Write
from tests.schema_types.schema import Schema
from tests.sql.actors import connect_metakocka
from tests.sql.inbound import edit, reaction, revoke
from tests.sql.outbound import accept, ago, begin, claim, refuse
from tests.stacks import Sharing, Start
from tests.world import (
    ALPINE,
    ALPINE_NUMBER,
    BAY,
    BAY_NUMBER,
    Item,
    World,
    seed_uuid,
    status,
    text_message,
)

from rapport.client.live import LiveClient
from rapport.client.timing import Timing
from rapport.local.stack import children
from rapport.local.stack.npm import Binaries
from rapport.local.stack.postgres import Database
from rapport.local.stack.process import Process
from rapport.local.stack.running import Stack
from rapport.local.supabase import keys

ROUNDS = int(os.environ.get("ORACLE_ROUNDS", "6"))
SEED = int(os.environ.get("ORACLE_SEED", "20261201"))
# at once, and how many each of them writes in a round
LANES = 3
WRITES = 8
# seconds for what should come to rest in a moment
PATIENCE = 30.0
ACCOUNTS = (ALPINE, BAY)
# the writers, each with a business
PEOPLE = {
    "andrej": ALPINE,
    "anton": ALPINE,
    "olivia": ALPINE,
    "cilka": ALPINE,
    "ciril": ALPINE,
    "ana": BAY,
    "stranger": ALPINE,
}
STAFF = {"andrej": "agent", "anton": "agent", "olivia": "owner"}
LOGINS = ("cilka", "ciril")
IN_JAVASCRIPT = ("andrej", "cilka")
# hearts beat slowly: a machine that is busy is not a fault
QUICK = Timing(
    slow_poll=1,
    fast_poll=0.3,
    heartbeat=2,
    heartbeat_timeout=5,
    join_timeout=5,
    first_backoff=0.05,
    longest_backoff=0.5,
    refresh_margin=1,
)
QUICK_MS = {
    "slowPoll": 1000,
    "fastPoll": 300,
    "joinTimeout": 5000,
    "firstBackoff": 50,
    "longestBackoff": 500,
    "refreshMargin": 1000,
}
# how Postgres and PostgREST say that they are being stopped
AWAY = ("57P01", "57P02", "57P03", "08", "PGRST00", "PT503")
GROUP = "HBgLMTY1MDM4Nzk0MzkVAgA"


@pytest.fixture(scope="module")
def share(share_of_module: Sharing) -> Sharing:
    """All parts of the stack are stopped and started again."""
    return share_of_module


@pytest.fixture
def database(world_database: Database) -> Database:
    return world_database


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    with psycopg.connect(database.url(), autocommit=True) as owner:
        yield World(database, owner)


class Server:
    """A part of the stack that is stopped and started again."""

    def __init__(self, stack: Stack, binaries: Binaries, name: str) -> None:
        self._child = {child.name: child for child in children.every(stack, binaries)}[name]
        self._log = stack.folder / "logs" / f"{name}.log"
        self._process: Process | None = None

    def start(self) -> None:
        self._log.parent.mkdir(exist_ok=True)
        self._process = Process(self._child, self._log, lambda _: None, append=True)

    def wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._child.is_ready():
            assert time.monotonic() < deadline, f"{self._child.name} does not start"
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.ask_to_stop()
            self._process.wait()
            self._process = None


@dataclass
class Stage:
    """Everything that takes part."""

    stack: Stack
    world: World
    catalog: Catalog
    random: Random
    servers: dict[str, Server]
    proxy: Proxy
    http: httpx.AsyncClient
    columns: dict[str, frozenset[str]]
    followers: list[Follower] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    # whose rows each user may have been told since the last rest
    owners: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    # whose rows each user might see at the last rest
    held: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    # those of the last rest, with their account and customer
    known_messages: dict[str, set[str]] = field(default_factory=dict)
    # whose clients saw the last rest
    rested: set[int] = field(default_factory=set)
    serial: int = 0
    is_faulty: bool = False

    def note(self, step: str) -> None:
        self.steps.append(step)

    def headers(self, user: str) -> dict[str, str]:
        token = keys.mint_user_token(self.stack.signing_key, user_id=seed_uuid(user))
        return {"authorization": f"Bearer {token}", "prefer": "return=representation"}

    # --- clients ---

    def wanted(self, user: str) -> Wanted:
        """What a new client follows: of a customer the own, else some of the business."""
        account = PEOPLE[user]
        [mine] = self.world.rows(
            "select coalesce((array_agg(id) filter (where portal_user_id = %s))[1],"
            " (array_agg(id order by id))[1]) as id from public.customers where account_id = %s",
            [seed_uuid(user), account],
        )
        facts = Facts(self.world, ACCOUNTS)
        customer = mine["id"] or seed_uuid("nobody")
        return Wanted(
            account,
            customer,
            self._of(facts, account, "conversation", customer),
            self._of(facts, account, "job", customer),
        )

    def _of(self, facts: Facts, account: UUID, kind: str, customer: UUID) -> UUID:
        table = {"conversation": "conversations", "job": "jobs"}[kind]
        rows = self.world.rows(
            f"select id from public.{table} where customer_id = %s order by created_at, id",
            [customer],
        )
        found = rows[-1]["id"] if rows else facts.draw(self.random, account, kind)
        return found or seed_uuid("nothing")

    async def follow_in_python(self, user: str) -> None:
        async def access_token() -> str:
            return keys.mint_user_token(self.stack.signing_key, user_id=seed_uuid(user))

        live = LiveClient(self.proxy.url, self.stack.publishable_key, access_token, timing=QUICK)
        await live.__aenter__()
        follower = PythonFollower(user, live, self.wanted(user), self.columns)
        self.followers.append(follower)
        await follower.ready()

    async def follow_in_javascript(self, user: str) -> None:
        follower = JavaScriptFollower(user, self.wanted(user), self.columns)
        self.followers.append(follower)
        await follower.open(
            url=self.proxy.url,
            key=self.stack.publishable_key,
            signing_key=self.stack.signing_key.model_dump(),
            user=str(seed_uuid(user)),
            timing=QUICK_MS,
        )
        await follower.ready()

    async def renew(self, follower: Follower) -> None:
        """Throws a client away and makes a new one."""
        self.followers.remove(follower)
        await follower.close()
        if isinstance(follower, PythonFollower):
            await self.follow_in_python(follower.user)
        else:
            await self.follow_in_javascript(follower.user)

    # --- writes ---

    def plan(self, ways: list[Write]) -> list[tuple[str, Request]]:
        """Who writes what, by the facts as they are before anybody writes."""
        facts = Facts(self.world, ACCOUNTS)
        planned = []
        for way in ways:
            # users who may write this more often than users who may not
            user = self.random.choice(["andrej", "anton", "olivia", "olivia", *PEOPLE])
            if way.of in ("my_profile", "claim_portal_invitation"):
                user = self.random.choice([*LOGINS, "stranger"])
            draw = Draw(self.random, facts, ACCOUNTS, PEOPLE[user], self.tokens)
            planned.append((user, way.draw(draw)))
        return planned

    async def write(self, user: str, request: Request) -> None:
        self.note(f"{user}: {request.method} {request.path} {str(request.body)[:300]}")
        try:
            answer = await self.http.request(
                request.method, request.path, json=request.body, headers=self.headers(user)
            )
        except httpx.TransportError:
            # it may have been written nevertheless
            self.look()
            assert self.is_faulty, f"PostgREST is away: {request}"
            return
        self.note(f"    {user}: {answer.status_code} {answer.text[:200]}")
        self.look()
        if answer.is_success:
            # an answer without rows has hit none
            if answer.text != "[]":
                self.counts[request.write] += 1
            if request.write == "invite_to_portal":
                self.tokens.append(answer.json()["token"])
            return
        code = answer.json().get("code") or ""
        if answer.status_code >= 500 and code != "PT503":
            is_away = self.is_faulty and code.startswith(AWAY)
            assert is_away, f"{user} {request}: {answer.text}"

    async def lane(self, planned: list[tuple[str, Request]]) -> None:
        for user, request in planned:
            await self.write(user, request)

    async def whatsapp(self, items: list[Item]) -> None:
        """A webhook, which comes again until it is taken."""
        self.note(f"webhook: {items}")
        for _ in range(20):
            try:
                await asyncio.to_thread(self.world.ingest, *items)
            except psycopg.OperationalError:
                assert self.is_faulty
                continue
            self.counts["webhook"] += 1
            self.look()
            return
        pytest.fail(f"a webhook was not taken: {items}")

    def items(self) -> list[Item]:
        """What comes from WhatsApp at once."""
        facts = Facts(self.world, ACCOUNTS)
        return [self._item(facts) for _ in range(self.random.randint(1, 3))]

    def _item(self, facts: Facts) -> Item:
        random = self.random
        self.serial += 1
        account, number = random.choice(((ALPINE, ALPINE_NUMBER), (BAY, BAY_NUMBER)))
        name = f"wamid.oracle.{self.serial}"
        known = facts.draw(random, account, "provider_id") or "wamid.none"
        # some come late
        sent_at = ago(seconds=random.choice((0, 0, 1, 60, 90_000)))
        wa_id = random.choice(PHONES)[1:]
        told: dict[str, Any] = {"phone_number_id": number, "sent_at": sent_at}
        match random.randint(0, 9):
            case 0:
                return reaction(known, known, 1, random.choice(("👍", None)), **told)
            case 1:
                return edit(name, known, 2, "edited", **told)
            case 2:
                return revoke(name, known, 3, **told)
            case 3:
                return text_message(name, wa_id, kind="echo", profile_name=None, **told)
            case 4:
                word = random.choice(("sent", "delivered", "read", "failed"))
                return status(known, word, sent_at, phone_number_id=number)
            case 5:
                return text_message(
                    name,
                    wa_id,
                    kind="group",
                    group_id=GROUP,
                    sender_type="client",
                    sender_id=wa_id,
                    **told,
                )
            case 6:
                joined = [{"wa_id": wa_id, "user_id": None}]
                content = {
                    "name": random.choice((None, "Flat 4")),
                    "state": None,
                    "joined": joined,
                    "departed": [],
                }
                return {
                    "kind": "group_event",
                    "group_id": GROUP,
                    "content": content,
                    **told,
                }
            case _:
                return text_message(name, wa_id, **told)

    def send(self) -> None:
        """The worker sends what waits, and WhatsApp takes most of it."""
        for job in claim(self.world):
            if not begin(self.world, job["message_id"]):
                continue
            self.serial += 1
            if self.random.random() < 0.2:
                refuse(self.world, job["message_id"], 131026)
            else:
                accept(self.world, job["message_id"], f"wamid.ours.{self.serial}")
            self.counts["sent"] += 1

    # --- what goes wrong ---

    async def restart(self, name: str) -> None:
        self.note(f"restart of {name}")
        self.is_faulty = True
        server = self.servers[name]
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(self.random.uniform(0, 0.3))
        server.start()
        await asyncio.to_thread(server.wait)

    async def kill_backends(self) -> None:
        self.note("backends are killed")
        self.is_faulty = True
        own = [one.info.backend_pid for one in (self.world.owner, *self.world.sessions.idle)]
        with self.world.connect("supabase_admin") as connection:
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and backend_type = 'client backend'"
                " and pid <> pg_backend_pid() and pid <> all (%s)",
                [own],
            )

    async def cut(self) -> None:
        self.note("sockets are cut")
        for _ in range(3):
            self.proxy.cut_all()
            await asyncio.sleep(self.random.uniform(0, 0.2))

    async def change_members(self) -> None:
        user = self.random.choice([*STAFF, "stranger"])
        is_member = self.world.rows(
            "select from public.account_members where user_id = %s", [seed_uuid(user)]
        )
        if is_member:
            self.note(f"{user} leaves")
            self.world.owner.execute(
                "delete from public.account_members where user_id = %s", [seed_uuid(user)]
            )
        if not is_member or (user in STAFF and self.random.random() < 0.5):
            await asyncio.sleep(self.random.uniform(0, 0.3))
            role = STAFF.get(user, "agent")
            self.note(f"{user} joins as {role}")
            self.world.owner.execute(
                "insert into public.account_members (account_id, user_id, role, display_name)"
                " values (%s, %s, %s, %s)",
                [ALPINE, seed_uuid(user), role, user],
            )
        self.look()

    async def change_logins(self) -> None:
        user = self.random.choice(LOGINS)
        self.note(f"{user} loses the login")
        self.world.owner.execute(
            "update public.contacts set portal_user_id = null where portal_user_id = %s",
            [seed_uuid(user)],
        )
        if self.random.random() < 0.5:
            await asyncio.sleep(self.random.uniform(0, 0.3))
            self.link(user)

    def link(self, user: str) -> None:
        """Gives a login to the contact that had it first, or to one that has none."""
        self.note(f"{user} gets a login")
        self.world.owner.execute(
            """
            update public.contacts c set portal_user_id = %(user)s
            where c.id = (
                select o.id from public.contacts o
                where o.account_id = %(account)s and o.deleted_at is null
                  and o.portal_user_id is null
                order by o.id <> %(first)s, o.created_at, o.id
                limit 1
            )
              and not exists (
                  select from public.contacts l
                  where l.account_id = %(account)s and l.portal_user_id = %(user)s
              )
            """,
            {
                "user": seed_uuid(user),
                "account": ALPINE,
                "first": seed_uuid(f"contact {user}"),
            },
        )
        self.look()

    async def throw_away(self) -> None:
        follower = self.random.choice(self.followers)
        self.note(f"{follower.user}'s client is thrown away")
        await self.renew(follower)

    async def put_in_order(self) -> None:
        """Clients that would be away for good come back sometimes."""
        for user, role in STAFF.items():
            if self.random.random() < 0.7:
                self.world.owner.execute(
                    "insert into public.account_members (account_id, user_id, role, display_name)"
                    " values (%s, %s, %s, %s) on conflict do nothing",
                    [ALPINE, seed_uuid(user), role, user],
                )
        for user in LOGINS:
            if self.random.random() < 0.7:
                self.link(user)
        self.look()

    # --- what is held against what ---

    def look(self) -> None:
        """Notes whose rows each user may be told of at the moment."""
        for row in self.world.owner.execute(
            "select user_id, account_id from public.account_members"
            " union all select portal_user_id, id from public.customers"
            " where portal_user_id is not null"
        ):
            self.owners[str(row[0])].add(str(row[1]))

    async def select(self, user: str, part: Part) -> list[Row]:
        order = {"messages": "created_at,id", "customers": "id"}.get(part.table, "created_at,id")
        while True:
            answer = await self.http.get(
                f"/{part.path}",
                params={"order": order, **part.where},
                headers=self.headers(user),
            )
            if answer.status_code != 429:
                break
            # the user's own clients are still at work
            await asyncio.sleep(1)
        if part.path != part.table and answer.status_code == 404:
            # nobody's desk
            return []
        assert answer.is_success, answer.text
        rows: list[Row] = answer.json()
        assert len(rows) < 1000, "an answer has no more rows"
        return rows

    def _check_begun(self, follower: Follower, told: Told) -> None:
        """Who follows from now on is not told of what was said before, as if it were new. Two are
        told of it nevertheless: staff who were away and come back, of what they have missed; and a
        customer to whom a merge brings a conversation, since each row of another owner is new to
        the next one, in broadcasts and in the log.
        """
        if not told.part.is_from_now_on or id(follower) not in self.rested:
            return
        owners = self.held[str(seed_uuid(follower.user))]
        for row in told.news:
            before = self.known_messages.get(row["id"])
            if row["id"] in told.inserted and before and owners & before:
                self.fail(follower, [f"{told.part.name}: told of {row} as new"])

    async def rest(self) -> None:
        """Waits until every client shows what its user selects, and holds it to what it told."""
        selected: dict[tuple[str, str, str], list[Row]] = {}
        for follower in self.followers:
            for told in follower.told.values():
                key = self._key(follower, told.part)
                if key not in selected:
                    selected[key] = await self.select(follower.user, told.part)
        messages = {
            str(row[0]): {str(owner) for owner in row[1:]}
            for row in self.world.owner.execute(
                "select id, account_id, customer_id from public.messages"
            )
        }
        new = messages.keys() - self.known_messages.keys()
        deadline = time.monotonic() + PATIENCE
        for follower in self.followers:
            while wrong := await self._wrong(follower, selected, new):
                if time.monotonic() > deadline:
                    self.fail(follower, wrong)
                await asyncio.sleep(0.05)
        for follower in self.followers:
            shown = await follower.shown()
            for name, told in follower.told.items():
                self._check_news(follower, told.part, told.news)
                self._check_begun(follower, told)
                rows = by_id(shown[name])
                told.rest(rows, self._must(follower, rows, rows.keys()))
                if told.faults:
                    self.fail(follower, told.faults)
        self.known_messages = messages
        self.rested = {id(follower) for follower in self.followers}
        self.owners.clear()
        self.look()
        self.held = defaultdict(set, {user: set(of) for user, of in self.owners.items()})

    def _key(self, follower: Follower, part: Part) -> tuple[str, str, str]:
        return follower.user, part.table, str(part.where)

    async def _wrong(
        self,
        follower: Follower,
        selected: dict[tuple[str, str, str], list[Row]],
        new: Set[str],
    ) -> list[str]:
        wrong = []
        if trouble := await follower.trouble():
            wrong.append(trouble)
        shown = await follower.shown()
        for name, told in follower.told.items():
            part = told.part
            expected = by_id(follower.read(part, selected[self._key(follower, part)]))
            rows = by_id(shown[name])
            assert len(rows) == len(shown[name]), f"{name} shows a row twice"
            if part.is_from_now_on:
                must = self._must(follower, expected, new)
                expected = {key: row for key, row in expected.items() if key in rows or key in must}
            if rows != expected:
                wrong.append(f"{name} shows (first) and not (second): {differ(rows, expected)}")
            elif disorder := out_of_order(part, shown[name]):
                wrong.append(f"{name}: {disorder}")
        return wrong

    def _must(self, follower: Follower, rows: dict[str, Row], new: Set[str]) -> set[str]:
        """Those of the new messages among rows that one who follows from now on is told of. One who
        has joined since the last rest is not told of what was said before, and nobody else knows
        at which message that was.
        """
        if id(follower) not in self.rested:
            return set()
        followed = self.held[str(seed_uuid(follower.user))]
        return {
            key
            for key, row in rows.items()
            if key in new and followed & {row["account_id"], row.get("customer_id")}
        }

    def _check_news(self, follower: Follower, part: Part, news: list[Row]) -> None:
        owners = self.owners[str(seed_uuid(follower.user))]
        for row in news:
            owner = row["id"] if part.table == "customers" else row.get("customer_id")
            is_own = owner in owners or row["account_id"] in owners
            is_seen = part.table != "invoices" or row["sent_at"] or row["account_id"] in owners
            if not (is_own and is_seen):
                self.fail(follower, [f"{part.name}: told of another's {row}"])

    def fail(self, follower: Follower, faults: list[str]) -> None:
        kind = type(follower).__name__
        pytest.fail("\n".join((f"{follower.user} ({kind}):", *faults)), pytrace=False)


def out_of_order(part: Part, rows: list[Row]) -> str | None:
    """Messages of each conversation that are shown in another order than that of seq."""
    if part.table != "messages":
        return None
    of: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        of[row["conversation_id"]].append(row["seq"])
    return next((f"shown as {seqs}" for seqs in of.values() if seqs != sorted(seqs)), None)


def people(world: World) -> None:
    """People who are not in every world, with rows that each business has from the start."""
    owner = world.owner
    for name in ("anton", "ciril"):
        owner.execute(
            "insert into auth.users (id, email, aud, role)"
            " values (%s, %s, 'authenticated', 'authenticated')",
            [seed_uuid(name), f"{name}@rapport.example"],
        )
    owner.execute(
        "insert into public.account_members (account_id, user_id, role, display_name)"
        " values (%s, %s, 'agent', 'anton')",
        [ALPINE, seed_uuid("anton")],
    )
    owner.execute(
        "insert into public.contacts (id, account_id, name, portal_user_id)"
        " values (%s, %s, 'Ciril', %s)",
        [seed_uuid("contact ciril"), ALPINE, seed_uuid("ciril")],
    )
    owner.execute(
        "update public.accounts set writes_per_minute = 100000, messages_per_minute = 100000"
    )
    for account, customer, number in (
        (ALPINE, "cilka", ALPINE_NUMBER),
        (BAY, "carlos", BAY_NUMBER),
    ):
        contact = seed_uuid(f"contact {customer}")
        connect_metakocka(world, account, contact)
        owner.execute(
            "insert into public.jobs (account_id, customer_id, service_type, starts_at)"
            " values (%s, %s, 'Carpet', now())",
            [account, contact],
        )
        world.ingest(
            text_message(f"wamid.first.{customer}", phone_number_id=number, sent_at=ago(minutes=1)),
            text_message(
                f"wamid.photo.{customer}",
                phone_number_id=number,
                sent_at=ago(minutes=1),
                type="image",
                text="[image]",
                content={"type": "image", "image": {"id": "5", "mime_type": "image/png"}},
            ),
        )


@asynccontextmanager
async def staged(stack: Stack, world: World, binaries: Binaries) -> AsyncIterator[Stage]:
    servers = {name: Server(stack, binaries, name) for name in ("postgrest", "gateway")}
    schema = Schema(world.database)
    columns = {table: frozenset(shown) for table, shown in schema.followed.items()}
    random = Random(SEED)
    try:
        for server in servers.values():
            server.start()
        for server in servers.values():
            await asyncio.to_thread(server.wait)
        async with (
            Proxy(stack.gateway_port, Faults(random)).serve() as proxy,
            httpx.AsyncClient(
                base_url=stack.postgrest_url, timeout=PATIENCE, trust_env=False
            ) as http,
        ):
            catalog = Catalog(world)
            stage = Stage(stack, world, catalog, random, servers, proxy, http, columns)
            try:
                yield stage
            finally:
                for follower in stage.followers:
                    await follower.close()
    finally:
        for server in servers.values():
            server.stop()


async def test_whatever_happens_each_client_shows_what_its_user_selects(
    start: Start, world: World, binaries: Binaries
) -> None:
    people(world)
    async with staged(start(), world, binaries) as stage:
        unknown = stage.catalog.unknown()
        assert not unknown, "say in `writes` what may be written: " + ", ".join(unknown)
        for user in PEOPLE:
            await stage.follow_in_python(user)
        for user in IN_JAVASCRIPT:
            await stage.follow_in_javascript(user)
        stage.look()
        await stage.rest()
        troubles: list[Callable[[], Awaitable[None]]] = [
            lambda: stage.restart("gateway"),
            lambda: stage.restart("postgrest"),
            stage.kill_backends,
            stage.cut,
            stage.change_members,
            stage.change_logins,
            stage.throw_away,
        ]
        ways = stage.catalog.plan(stage.random, ROUNDS * LANES * WRITES)
        shuffled: list[Callable[[], Awaitable[None]]] = []
        for number in range(ROUNDS):
            stage.steps = [f"round {number}"]
            stage.is_faulty = False
            now, ways = ways[: LANES * WRITES], ways[LANES * WRITES :]
            planned = stage.plan(now)
            lanes = [planned[lane::LANES] for lane in range(LANES)]
            if not shuffled:
                shuffled = stage.random.sample(troubles, len(troubles))
            try:
                async with asyncio.TaskGroup() as group:
                    for lane in lanes:
                        group.create_task(stage.lane(lane))
                    for _ in range(2):
                        group.create_task(stage.whatsapp(stage.items()))
                    group.create_task(shuffled.pop()())
                await asyncio.to_thread(stage.send)
                await stage.put_in_order()
                await stage.rest()
            except BaseException:
                print(f"seed {SEED}\n", *stage.steps, sep="\n  ")  # noqa: T201
                raise
        print(stage.counts)  # noqa: T201
