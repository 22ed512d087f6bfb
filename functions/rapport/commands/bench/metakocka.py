"""The first import of partners, beside a COPY of the same rows and beside single inserts.

Metakocka's stand-in runs in this process and answers at once, so only our own time is measured. The
time in the database is the processor time of its backends, as the system counts it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID, uuid4

import httpx
import psutil
import psycopg
from psycopg import sql
from psycopg.rows import TupleRow
from pydantic import JsonValue, SecretStr
from pydantic_core import Url

from rapport.commands.bench import one_way
from rapport.local.errors import StackError
from rapport.local.fakes.metakocka.controls import filler
from rapport.local.fakes.metakocka.fake import Fake, FakeTransport
from rapport.local.stack.running import Stack
from rapport.metakocka.api.client import MetakockaClient, company
from rapport.metakocka.sync.run import Report, Sync
from rapport.parameters import OneSecret
from rapport.settings import MetakockaSettings, StoreSettings
from rapport.store.metakocka import MetakockaStore

PARTNERS = 50_000
CHANGED = PARTNERS // 100
SAMPLE = 300
COMPANY = "16"
# a company belongs to one account only
OTHER_COMPANY = "17"
_SECRET = "only for this"  # noqa: S105 - of a stand-in
# the tables that an import writes, except its run, in the order of the foreign keys
_TABLES = (
    ("public", "contacts"),
    ("public", "contact_identities"),
    ("public", "customers"),
    ("private", "contact_search"),
    ("public", "metakocka_contact_mappings"),
    ("private", "changes"),
)
# for a temporary stack only: the baseline writes tables that service_role may not write
_PREPARATION = """
grant usage on schema public to service_role;
grant select, insert on public.contacts, public.metakocka_contact_mappings to service_role;
notify pgrst, 'reload schema';
"""

_ALTER = sql.SQL("alter table {} {} trigger user")

_SETTINGS = MetakockaSettings(metakocka_url=Url("http://metakocka.invalid"))

Owner = psycopg.Connection[TupleRow]


@dataclass(frozen=True)
class MetakockaFigures:
    """The results. Times are in seconds; those named cpu are processor time."""

    first_s: float
    first_cpu_s: float
    copy_cpu_s: float
    # for each single insert
    one_s: float
    # a merge by dlt, where it is installed
    merge_s: float | None
    # events about contacts
    events: int
    second_s: float
    second_writes: int
    # the listing, read and in order, without anything else
    listing_s: float
    partners: int
    changed: int


def measure(stack: Stack, partners: int = PARTNERS) -> MetakockaFigures:
    """Imports, imports again, copies and inserts. It deletes the stack's data."""
    fake = Fake(_SECRET)
    company = fake.company(COMPANY)
    for number in range(1, partners + 1):
        company.add(filler(number))
    changed = max(partners // 100, 1)
    with psycopg.connect(stack.db_url(), autocommit=True) as owner:
        owner.execute(_PREPARATION)
        account = _account(owner, COMPANY)
        first_s, first_cpu_s = _timed(owner, lambda: _sync(stack, fake, account, partners))
        events = _events(owner, account)
        for partner in list(company.partners.values())[:: partners // changed][:changed]:
            company.update({"mk_id": partner.mk_id, "customer": f"Novo ime {partner.mk_id}"})
        before = owner.execute("select clock_timestamp()").fetchone()
        second_s, _ = _timed(owner, lambda: _sync(stack, fake, account, changed))
        written = owner.execute(
            "select count(*) from public.contacts where updated_at >= %s", before
        ).fetchone()
        listing_s = _listing(fake, account)
        one_s = _one_by_one(stack, _account(owner, OTHER_COMPANY))
        copy_cpu_s = _copied(owner, account)
    merge_s = one_way.seconds(
        stack,
        [{"mk_id": mk_id, **filler(number)} for number, mk_id in enumerate(company.partners, 1)],
    )
    return MetakockaFigures(
        first_s,
        first_cpu_s,
        copy_cpu_s,
        one_s,
        merge_s,
        events,
        second_s,
        written[0] if written else 0,
        listing_s,
        partners,
        changed,
    )


def _account(owner: Owner, company_id: str) -> UUID:
    account = uuid4()
    owner.execute(
        "insert into public.accounts (id, external_id, name) values (%s, %s, 'Bench')",
        [account, str(account)],
    )
    owner.execute(
        "insert into public.metakocka_connections (account_id, company_id) values (%s, %s)",
        [account, company_id],
    )
    return account


def _sync(stack: Stack, fake: Fake, account: UUID, expected: int) -> None:
    store = MetakockaStore(
        StoreSettings(
            supabase_url=Url(stack.url),
            supabase_secret_key=SecretStr(stack.secret_key),
        )
    )
    try:
        report = Sync(
            store,
            OneSecret(SecretStr(_SECRET)),
            _SETTINGS,
            worker=f"bench {uuid4()}",
            remaining=lambda: float("inf"),
            transport=FakeTransport(fake),
        ).run(account, "both", "schedule")
    finally:
        store.close()
    _require(report, expected)


def _listing(fake: Fake, account: UUID) -> float:
    """Seconds to ask for all partners, and to read them in the sync's order."""
    begun = time.perf_counter()
    with MetakockaClient(
        company(_SETTINGS, str(account), COMPANY),
        OneSecret(SecretStr(_SECRET)),
        transport=FakeTransport(fake),
    ) as client:
        partners = client.list_partners()
        read = sum(1 for _ in partners.in_order(None))
    if read != len(partners):
        raise StackError(f"Of {len(partners)} partners {read} were read.")
    return time.perf_counter() - begun


def _require(report: Report | None, expected: int) -> None:
    if report is None or report.state != "done" or report.counts.succeeded != expected:
        raise StackError(f"the import did not do what it should: {report}")


def _timed(owner: Owner, work: Callable[[], object]) -> tuple[float, float]:
    """How long it took, and the processor time of all other backends meanwhile."""
    cpu, begun = _cpu(owner), time.perf_counter()
    work()
    elapsed = time.perf_counter() - begun
    after = _cpu(owner)
    return elapsed, sum(after[pid] - cpu.get(pid, 0) for pid in after)


def _cpu(owner: Owner) -> dict[int, float]:
    rows = owner.execute(
        "select pid from pg_stat_activity"
        " where backend_type = 'client backend' and pid <> pg_backend_pid()"
    ).fetchall()
    return {pid: _of_process(pid) for (pid,) in rows}


def _of_process(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def _events(owner: Owner, account: UUID) -> int:
    row = owner.execute(
        "select count(*) from realtime.messages where topic = private.account_topic(%s)"
        " and (payload ->> 'table' = 'contacts' or payload -> 'tables' ? 'contacts')",
        [account],
    ).fetchone()
    return row[0] if row else 0


def _one_by_one(stack: Stack, account: UUID) -> float:
    """Seconds for each partner in the usual way: look for it, insert a contact and its mapping."""
    with httpx.Client(
        base_url=f"{stack.url}/rest/v1",
        headers={"apikey": stack.secret_key, "Prefer": "return=minimal"},
        trust_env=False,
        timeout=30,
    ) as http:
        _wait_for(http)
        begun = time.perf_counter()
        for number in range(SAMPLE):
            contact = str(uuid4())
            found = http.get(
                "/metakocka_contact_mappings",
                params={
                    "metakocka_id": f"eq.{number}",
                    "account_id": f"eq.{account}",
                    "select": "contact_id",
                },
            )
            _expect(found, 200)
            row: dict[str, JsonValue] = {
                "id": contact,
                "account_id": str(account),
                "name": f"Novak {number}",
                "email": f"novak{number}@one.example",
                "street": "Pot 1",
                "post_number": "1000",
                "place": "Ljubljana",
                "country": "Slovenija",
            }
            _expect(http.post("/contacts", json=row), 201)
            mapping: dict[str, JsonValue] = {
                "account_id": str(account),
                "contact_id": contact,
                "metakocka_id": str(number),
                "state": "synced",
            }
            _expect(http.post("/metakocka_contact_mappings", json=mapping), 201)
        return (time.perf_counter() - begun) / SAMPLE


def _wait_for(http: httpx.Client) -> None:
    """Waits until PostgREST has read the new permissions."""
    for _ in range(100):
        if http.get("/metakocka_contact_mappings", params={"limit": "1"}).is_success:
            return
        time.sleep(0.1)
    raise StackError("PostgREST does not serve the tables that the baseline needs")


def _expect(answer: httpx.Response, status: int) -> None:
    if answer.status_code != status:
        raise StackError(f"PostgREST answered {answer.status_code}: {answer.text}")


def _copied(owner: Owner, account: UUID) -> float:
    """The processor time of a COPY of an account's rows, with constraints and indexes."""
    columns = {table: _columns(owner, table) for table in _TABLES}
    rows: dict[tuple[str, str], bytes] = {}
    for table in _TABLES:
        statement = sql.SQL("copy (select {} from {} where account_id = {}) to stdout")
        query = statement.format(columns[table], sql.Identifier(*table), account)
        with owner.cursor().copy(query) as copy:
            rows[table] = b"".join(bytes(chunk) for chunk in copy)
    for table in _TABLES:
        owner.execute(_ALTER.format(sql.Identifier(*table), sql.SQL("disable")))
    owner.execute("truncate public.contacts, private.changes cascade")
    pid = owner.info.backend_pid
    before = _of_process(pid)
    with owner.transaction():
        for table in _TABLES:
            statement = sql.SQL("copy {} ({}) from stdin")
            query = statement.format(sql.Identifier(*table), columns[table])
            with owner.cursor().copy(query) as copy:
                copy.write(rows[table])
    taken = _of_process(pid) - before
    for table in _TABLES:
        owner.execute(_ALTER.format(sql.Identifier(*table), sql.SQL("enable")))
    return taken


def _columns(owner: Owner, table: tuple[str, str]) -> sql.Composed:
    """The columns that are not generated."""
    rows = owner.execute(
        "select column_name from information_schema.columns"
        " where table_schema = %s and table_name = %s and is_generated = 'NEVER'"
        " order by ordinal_position",
        table,
    ).fetchall()
    return sql.SQL(", ").join(sql.Identifier(name) for (name,) in rows)
