"""The sync as it runs: the executor, the real SQL, and Metakocka's stand-in in the process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
from pydantic import HttpUrl, SecretStr

from rapport.errors import from_postgrest
from rapport.local.fakes.metakocka.company import FakeCompany
from rapport.local.fakes.metakocka.fake import Fake, FakeTransport
from rapport.metakocka.api.client import Operation, Policy
from rapport.metakocka.sync.run import Report, Sync
from rapport.parameters import OneSecret
from rapport.retry import Retries
from rapport.settings import MetakockaSettings, StoreSettings
from rapport.store.metakocka import MetakockaStore
from rapport.store.metakocka_rows import Direction, SyncRequest, Trigger
from tests.answering import Answering
from tests.sql.metakocka import snapshot
from tests.world import Connection, World, seed_uuid

SECRET = "the key of every company"
AT_ONCE: dict[Operation, Policy] = {
    operation: Policy(timeout=30, retries=Retries(attempts=2, first_wait=0, longest_wait=0))
    for operation in ("add_partner", "get_partner", "list_partners", "search", "update_partner")
}


class Killed(BaseException):
    """The process ends here, without another line."""


@dataclass
class Fuse:
    """Counts the steps of a worker, and ends it at one of them."""

    at: int | None = None
    steps: int = 0

    def step(self) -> None:
        self.steps += 1
        if self.at is not None and self.steps > self.at:
            raise Killed


@dataclass
class Interruption(Fuse):
    """Lets something else happen at one step of a worker, which then goes on."""

    happens: Callable[[], object] = lambda: None

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            self.happens()


class SqlStore(MetakockaStore):
    """The store with a connection of its own in place of PostgREST."""

    def __init__(self, connection: Connection, fuse: Fuse) -> None:
        super().__init__(
            StoreSettings(
                supabase_url=HttpUrl("http://nowhere.invalid"),
                supabase_secret_key=SecretStr("none"),
            ),
            # nobody's, and made in no time: one of HTTP reads certificates
            Answering(lambda _request: httpx.Response(500)),
        )
        self._connection = connection
        self._fuse = fuse
        self.calls: list[str] = []
        # the thread that extends a lease has no other connection
        self._one_at_a_time = threading.Lock()

    def _call(self, function: str, arguments: dict[str, object]) -> object:
        with self._one_at_a_time:
            return self._call_alone(function, arguments)

    def _call_alone(self, function: str, arguments: dict[str, object]) -> object:
        self._fuse.step()
        self.calls.append(function)
        given = {
            name: json.dumps(value) if _is_json(name, value) else value
            for name, value in arguments.items()
        }
        names = ", ".join(f"{name} => %({name})s" for name in given)
        try:
            # a transaction of its own, since the connection commits by itself
            row = self._connection.execute(
                f"select backend.{function}({names})".encode(), given
            ).fetchone()
        except psycopg.Error as error:
            raise from_postgrest(error.sqlstate) from error
        self._fuse.step()
        assert row is not None
        return row[0]


def _is_json(name: str, value: object) -> bool:
    return isinstance(value, dict) or name in ("refs", "items", "cursor", "partners")


class FusedTransport(FakeTransport):
    """The stand-in, where the caller may end before a request or before its answer."""

    def __init__(self, fake: Fake, fuse: Fuse) -> None:
        super().__init__(fake)
        self._fuse = fuse

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._fuse.step()
        response = super().handle_request(request)
        self._fuse.step()
        return response


@dataclass
class Erp:
    """A business of its own in a world, connected to a company of its own."""

    world: World
    fake: Fake
    account: UUID = field(default_factory=uuid4)
    company_id: str = field(default_factory=lambda: uuid4().hex[:12])
    rule: str = "crm"
    listing: str = "all"

    def __post_init__(self) -> None:
        self.world.owner.execute(
            "insert into public.accounts (id, external_id, name) values (%s, %s, 'One')",
            [self.account, str(self.account)],
        )
        self.world.owner.execute(
            "insert into public.account_members (account_id, user_id, role, display_name)"
            " values (%s, %s, 'owner', 'olivia')",
            [self.account, seed_uuid("olivia")],
        )
        self.world.owner.execute(
            "insert into public.metakocka_connections"
            " (account_id, company_id, conflict_rule, listing) values (%s, %s, %s, %s)",
            [self.account, self.company_id, self.rule, self.listing],
        )

    @property
    def company(self) -> FakeCompany:
        return self.fake.company(self.company_id)

    @contextmanager
    def worker(
        self,
        fuse: Fuse | None = None,
        late: float = 0,
        remaining: Callable[[], float] = lambda: 600,
    ) -> Iterator[Sync]:
        fuse = fuse or Fuse()
        with self.world.session() as connection:
            connection.execute("set role service_role")
            store = SqlStore(connection, fuse)
            try:
                yield Sync(
                    store,
                    OneSecret(SecretStr(SECRET)),
                    # each as if in a process of its own, where no other's calls are waited for
                    MetakockaSettings(metakocka_url=HttpUrl(f"http://{uuid4()}.invalid")),
                    worker=f"worker {uuid4()}",
                    remaining=remaining,
                    late=late,
                    policies=AT_ONCE,
                    transport=FusedTransport(self.fake, fuse),
                )
            finally:
                store.close()
                connection.execute("reset role")

    def sync(
        self,
        direction: Direction = "both",
        trigger: Trigger = "schedule",
        request: SyncRequest | None = None,
        fuse: Fuse | None = None,
        late: float = 0,
    ) -> Report:
        """One run; quiet moments are over before it."""
        self.end_quiet()
        with self.worker(fuse, late) as sync:
            report = sync.run(self.account, direction, trigger, request=request)
        assert report is not None
        return report

    def killed_at(self, step: int, direction: Direction = "both") -> bool:
        """A run that ends after so many steps; False where it had ended by itself."""
        try:
            self.sync(direction, fuse=Fuse(step))
        except Killed:
            return True
        return False

    def end_pauses(self) -> None:
        """Time passes: quiet moments and pauses are over."""
        self.world.owner.execute(
            "update private.metakocka_dirty set not_before = clock_timestamp()"
            " where account_id = %s",
            [self.account],
        )

    def end_quiet(self) -> None:
        """More time passes: so are the leases of dead workers, and pauses of the account."""
        self.end_pauses()
        self.world.owner.execute(
            "update public.metakocka_connections set paused_until = clock_timestamp()"
            " where account_id = %s and paused_until > clock_timestamp()",
            [self.account],
        )
        self.world.owner.execute(
            "update private.sync_leases set lease_until = clock_timestamp() where account_id = %s",
            [self.account],
        )

    def add_contact(self, **fields: Any) -> UUID:
        """A contact made by olivia on the ERP's page."""
        columns = ["account_id", *fields]
        values = [self.account, *(_sql(value) for value in fields.values())]
        with self.world.acting_as("olivia") as connection:
            row = connection.execute(
                f"insert into public.metakocka_partners ({', '.join(columns)})"
                f" values ({', '.join(['%s'] * len(columns))}) returning id".encode(),
                values,
            ).fetchone()
        assert row is not None
        made: UUID = row[0]
        return made

    def edit_contact(self, contact_id: UUID, **fields: Any) -> None:
        changes = ", ".join(f"{name} = %s" for name in fields)
        with self.world.acting_as("olivia") as connection:
            connection.execute(
                f"update public.metakocka_partners set {changes} where id = %s".encode(),
                [*(_sql(value) for value in fields.values()), contact_id],
            )

    def contacts(self) -> list[dict[str, Any]]:
        return self.world.rows(
            "select c.*, m.metakocka_id, m.state as sync_state, m.missing, m.base, m.partner_hash"
            " from public.contacts c"
            " left join public.metakocka_contact_mappings m on m.contact_id = c.id"
            " where c.account_id = %s and c.deleted_at is null order by c.created_at, c.id",
            [self.account],
        )

    def contact(self, contact_id: UUID) -> dict[str, Any]:
        [found] = [one for one in self.contacts() if one["id"] == contact_id]
        return found

    def add_partner(self, name: str, **more: str) -> str:
        """A partner made by somebody at Metakocka, by the documentation's names."""
        place = {"street": "Pot 1", "post_number": "1000", "place": "Ljubljana"}
        means = {key: more.pop(key) for key in ("email", "phone", "gsm") if key in more}
        contact = {"useCustomerAsContact": "true", **means}
        return self.company.add(
            {"customer": name, **place, "country": "Slovenija", "partner_contact": contact, **more}
        ).mk_id

    def edit_partner(self, mk_id: str, **fields: str) -> None:
        """Edits a partner's own fields, person and address, by a party's names."""
        partner = self.company.partners[mk_id]
        person = {key: fields[key] for key in ("email", "phone", "gsm") if key in fields}
        place = {
            "city" if key == "place" else key: fields[key]
            for key in ("street", "post_number", "place")
            if key in fields
        }
        top = {
            "customer" if key == "name" else key: value
            for key, value in fields.items()
            if key not in (*person, "street", "post_number", "place")
        }
        payload: dict[str, Any] = {"mk_id": mk_id, **top}
        if person:
            payload["partner_contact_list"] = [{"mk_id": next(iter(partner.people)), **person}]
        if place:
            payload["partner_delivery_address_list"] = [
                {"mk_id": next(iter(partner.addresses)), **place}
            ]
        self.company.update(payload)

    def written(self) -> dict[str, Any]:
        """All that a run writes but its own progress; a row that is written again differs."""
        rows = snapshot(self.world)
        rows["private.changes"] = self.world.rows(
            "select c.xmin::text, c.ctid::text from private.changes c"
            " where c.table_name <> 'sync_runs' order by c.ctid"
        )
        return rows | {"Metakocka": self.writes()}

    def writes(self) -> int:
        """How often somebody has written to Metakocka by its API."""
        return self.fake.calls["add_partner"] + self.fake.calls["update_partner"]


def _sql(value: object) -> object:
    return json.dumps(value) if isinstance(value, list | dict) else value
