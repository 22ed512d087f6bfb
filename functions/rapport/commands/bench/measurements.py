"""All measurements: what each needs of a stack, and the rows that it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rapport.commands.bench import (
    away,
    batch,
    browser,
    change_cost,
    cold_start,
    dashboard,
    growth,
    idle,
    ingest,
    live,
    metakocka,
    metakocka_edits,
    parsing,
    portal,
    soak,
    stream,
    subscribers,
    web,
)
from rapport.commands.bench.rows import Beside, Point, Row, Wanted
from rapport.local.stack.running import Stack

# the children of a stack, besides Postgres
CALLS = frozenset({"postgrest"})
CLIENTS = frozenset({"postgrest", "gateway"})
PARTNERS = frozenset({"postgrest", "gateway", "functions", "fakes", "net"})
SYNC_EDITS_LIMIT_MS = 2_000


@dataclass(frozen=True)
class Ground:
    """What a measurement stands on."""

    # fewer rounds, for a glance
    is_quick: bool
    # of a stack that was started once
    folder: Path
    _stack: Stack | None = None

    @property
    def stack(self) -> Stack:
        """The running stack, of a measurement that asks for one."""
        if self._stack is None:
            raise ValueError("This measurement has asked for no stack.")
        return self._stack

    def rounds(self, usual: int, quick: int) -> int:
        return quick if self.is_quick else usual


@dataclass(frozen=True)
class Measurement:
    """Gives these rows, in a stack with these parts: all of them (None), or none at all (empty).

    One that is `alone` leaves a stack behind that nothing else can use. One that is `only_named`
    is measured where its name is given.
    """

    rows: tuple[str, ...]
    step: str
    parts: frozenset[str] | None
    measure: Callable[[Ground], Iterable[Row]]
    is_quick: bool = True
    alone: bool = False
    # too long for a run of all rows
    only_named: bool = False


def _cold_start(ground: Ground) -> Iterable[Row]:
    measured = cold_start.measure(ground.rounds(cold_start.ROUNDS, 2))
    beside = Beside(measured.supabase * 1000, "import supabase and create_client")
    webhook = "whatsapp_webhook"
    slowest = max((name for name in measured.functions if name != webhook), key=measured.times)
    for name, function, limit in (
        ("cold_start.webhook", webhook, 0.45),
        ("cold_start", slowest, 0.6),
    ):
        yield Row(
            name,
            f"Cold start of {function}, compiled, with its client",
            "ms",
            measured.functions[function] * 1000,
            baseline=beside,
            wanted=(Wanted("ratio_to_baseline", limit),),
        )


def _idle(ground: Ground) -> Iterable[Row]:
    figures = idle.measure(ground.folder)
    yield Row(
        "stack.start", "`rapport up`, warm", "s", figures.start_s, wanted=(Wanted("ours", 2.5),)
    )
    for name, title, size, limit in (
        ("stack.memory", "Memory of `rapport up`, idle (PSS)", figures.memory, 330),
        ("stack.sockets1000", "… with 1,000 idle sockets, more", figures.sockets, 40),
        ("stack.channels5000", "… with 5,000 channels, more", figures.channels, 60),
    ):
        yield Row(name, title, "MB", size / 1e6, wanted=(Wanted("ours", limit),))


def _live(ground: Ground) -> Iterable[Row]:
    figures = live.measure(ground.stack, ground.rounds(live.MESSAGES, 30))
    yield Row.of_latency(
        "live.idle",
        "Webhook to an agent's callback, one message at a time",
        figures.broadcast,
        baseline=Beside(figures.postgres_changes.p50, "a subscription to postgres_changes"),
        floor=Beside(figures.answer.p50, "the webhook's own answer"),
        wanted=(Wanted("p50", 60), Wanted("p95", 150)),
    )


def _stream(ground: Ground) -> Iterable[Row]:
    yield Row.of_latency(
        "live.load50",
        f"Webhook to a live client's callback, {stream.PER_SECOND:.0f} a second",
        stream.measure(ground.stack),
        wanted=(Wanted("p95", 250),),
    )


def _batch(ground: Ground) -> Iterable[Row]:
    figures = batch.measure(ground.stack, calls=ground.rounds(batch.CALLS, 3))
    for name, what, taken, limit in (
        ("ingest.batch1000", "messages", figures.messages, 0.15),
        ("ingest.statuses1000", "statuses", figures.statuses, 0.15),
    ):
        yield Row(
            name,
            f"Database time of a webhook of {batch.UPDATES:,} {what}, for each",
            "ms",
            median(taken),
            wanted=(Wanted("ours", limit),),
            samples=taken,
        )


def _ingest(ground: Ground) -> Iterable[Row]:
    names = {
        1: ("ingest.single", ()),
        4: ("ingest.vs_rest_calls", (Wanted("ratio_to_baseline", 4, at_least=True),)),
        8: ("ingest.concurrent8", (Wanted("ratio_to_floor", 0.35, at_least=True),)),
    }
    for figures in ingest.measure(ground.stack, tuple(names), ground.rounds(ingest.ROUNDS, 1)):
        name, wanted = names[figures.connections]
        rates = figures.per_second
        yield Row(
            name,
            f"backend.ingest_whatsapp through PostgREST, connections: {figures.connections}",
            "/s",
            rates.ingest,
            baseline=Beside(rates.select_insert_update, "select, insert and update calls"),
            floor=Beside(rates.empty_rpc, "an empty RPC of the same request"),
            wanted=wanted,
            samples=tuple(one.ingest for one in figures.rounds),
        )


def _parsing(_ground: Ground) -> Iterable[Row]:
    figures = parsing.measure()
    yield Row(
        "ingest.parse",
        "Reading one recorded webhook",
        "ms",
        median(figures.ours),
        baseline=Beside(median(figures.pywa), "pywa") if figures.pywa else None,
        floor=Beside(median(figures.json), "json.loads"),
        samples=figures.ours,
    )


def _change_cost(ground: Ground) -> Iterable[Row]:
    costs = change_cost.measure(ground.stack, ground.rounds(change_cost.CHANGES, 100))
    yield Row.of_latency(
        "change.cost",
        "A change of a followed row, processor time of the writer",
        costs.change,
        floor=Beside(costs.bare.p50, "a bare update of the same row"),
        wanted=(Wanted("ours", 0.55),),
    )


def _portal(ground: Ground) -> Iterable[Row]:
    load = portal.PortalLoad()
    figures = portal.measure(ground.stack, load)
    yield Row.of_latency(
        "live.portal",
        "A change to a customer's callback, one customer",
        figures.alone,
        wanted=(Wanted("p50", 60),),
    )
    yield Row.of_latency(
        "live.portals",
        f"… {load.customers} customers, {load.per_second:.0f} changes a second",
        figures.together,
    )


def _fanout(ground: Ground) -> Iterable[Row]:
    figures = subscribers.measure(ground.stack)
    yield Row(
        "fanout.1000",
        f"A change that {figures.subscribers:,} sockets follow, processor time of the writer",
        "ms",
        figures.with_many.writing,
        baseline=Beside(figures.with_one.writing, "the same with one socket"),
        wanted=(Wanted("ratio_to_baseline", 1.1),),
    )


def _away(ground: Ground) -> Iterable[Row]:
    figures = away.measure(ground.stack)
    yield Row(
        "catchup.10000",
        f"Catch-up after {figures.changes:,} missed changes, in Python",
        "s",
        median(figures.seconds),
        wanted=(Wanted("ours", 0.6),),
        samples=figures.seconds,
    )


def _browser(ground: Ground) -> Iterable[Row]:
    figures = browser.measure(ground.stack)
    yield Row.of_latency(
        "live.browser",
        "A change to the callback in a browser's page",
        figures.live,
        baseline=Beside(figures.official.p50, "supabase-js alone, by postgres_changes"),
        wanted=(Wanted("p50", 20),),
    )
    yield Row(
        "catchup.browser",
        f"Catch-up after {figures.missed:,} missed changes, in a page",
        "s",
        median(figures.seconds),
        wanted=(Wanted("ours", 1),),
        samples=figures.seconds,
    )


def _dashboard(ground: Ground) -> Iterable[Row]:
    figures = dashboard.measure(ground.stack)
    yield Row.of_latency(
        "live.dashboard",
        f"From signing in to the first of {figures.conversations:,} conversations in sight",
        figures.first,
        floor=Beside(figures.question.p50, "one question for the same rows"),
        wanted=(Wanted("p95", 1_000),),
    )


def _edits(ground: Ground) -> Iterable[Row]:
    figures = metakocka_edits.measure(ground.stack)
    yield Row.of_latency(
        "sync.edit",
        "The last of three edits of a contact until Metakocka has it",
        figures.latency,
        wanted=(Wanted("p95", SYNC_EDITS_LIMIT_MS),),
    )
    yield Row(
        "sync.edit.calls",
        f"… calls that wrote, for {figures.rounds} rounds of edits",
        "calls",
        figures.pushes,
        wanted=(Wanted("ours", figures.rounds),),
    )


def _import(ground: Ground) -> Iterable[Row]:
    figures = metakocka.measure(ground.stack)
    one_by_one = Beside(figures.one_s * figures.partners, "select and insert, one by one")
    yield Row(
        "sync.import",
        f"First import of {figures.partners:,} partners",
        "s",
        figures.first_s,
        baseline=Beside(figures.merge_s, "a merge by dlt") if figures.merge_s else one_by_one,
        wanted=(Wanted("ours", 30),),
    )
    yield Row(
        "sync.import.database",
        "… processor time in the database",
        "s",
        figures.first_cpu_s,
        floor=Beside(figures.copy_cpu_s, "COPY of the same rows"),
        wanted=(Wanted("ratio_to_floor", 4),),
    )
    yield Row(
        "sync.import.events",
        "… events to followers",
        "calls",
        figures.events,
        wanted=(Wanted("ours", 1),),
    )
    yield Row(
        "sync.noop",
        f"Second run, {figures.changed:,} of {figures.partners:,} partners changed",
        "s",
        figures.second_s,
        floor=Beside(figures.listing_s, "the listing alone"),
        wanted=(Wanted("ours", 5),),
    )
    yield Row(
        "sync.noop.writes",
        "… contacts written",
        "rows",
        figures.second_writes,
        floor=Beside(figures.changed, "changed partners"),
        wanted=(Wanted("ratio_to_floor", 1),),
    )


def _growth(ground: Ground) -> Iterable[Row]:
    measured = growth.measure(ground.stack)
    for name, question, limit in (
        ("query.inbox", "inbox", 10.0),
        ("query.search", "search", 10.0),
    ):
        latency = measured[-1].times[question]
        yield Row.of_latency(
            name,
            f"{growth.TITLES[question]}, at {measured[-1].messages:,} messages",
            latency,
            wanted=(Wanted("p95", limit),),
        )
    first, last = measured[0], measured[-1]
    # the question that grows most
    worst = max(growth.TITLES, key=lambda of: last.times[of].p50 / first.times[of].p50)
    yield Row(
        "query.growth",
        f"{growth.TITLES[worst]}, which grows most to {last.messages:,} messages",
        "ms",
        last.times[worst].p50,
        baseline=Beside(first.times[worst].p50, f"at {first.messages:,} messages"),
        wanted=(Wanted("ratio_to_baseline", 1.3),),
        curve=tuple(
            Point(f"{title}, {unit}", size.messages, value)
            for of, title in growth.TITLES.items()
            for size in measured
            for unit, value in (("ms", size.times[of].p50), ("pages", size.pages[of]))
        ),
    )


def _web(ground: Ground) -> Iterable[Row]:
    load = web.WebLoad()
    web.fill(ground.stack, load)
    figures = web.measure(ground.stack, load)
    first = figures.first
    yield Row(
        "web.first",
        f"Sign-in to the first of {load.conversations:,} conversations, in sight",
        "ms",
        median(first),
        floor=Beside(median(figures.empty_ms), "loading an empty page"),
        wanted=(Wanted("ours", 1_000),),
        samples=tuple(first),
    )
    yield Row.of_latency(
        "web.pixels",
        "A message from the phone to pixels in the dashboard",
        figures.to_pixels,
        floor=Beside(figures.empty_frame.p50, "an answer and a frame of an empty page"),
        wanted=(Wanted("p50", 60),),
    )
    for name, doing, tasks in (
        ("web.stream", f"while {load.per_second:.0f} messages a second come", figures.stream_tasks),
        ("web.scroll", f"while {load.messages:,} messages are scrolled", figures.scroll_tasks),
    ):
        yield Row(
            name,
            f"Tasks of more than 50 ms {doing}",
            "tasks",
            len(tasks),
            wanted=(Wanted("ours", 0),),
            samples=tuple(tasks),
        )
    yield Row(
        "web.bubbles",
        f"Bubbles in the page, of {load.messages:,} messages",
        "bubbles",
        figures.bubbles,
        wanted=(Wanted("ours", 60),),
    )
    for page, size in figures.scripts.items():
        yield Row(
            f"web.script.{page}",
            f"JavaScript of the {web.PAGES[page]}, compressed",
            "KB",
            size / 1024,
            wanted=(Wanted("ours", 120),),
        )
    yield Row(
        "web.heap",
        f"Heap of the dashboard after {load.traffic:,} messages",
        "MB",
        figures.heap_after / 1e6,
        baseline=Beside(figures.heap_before / 1e6, "before them"),
        floor=Beside(figures.empty_heap / 1e6, "an empty page"),
        wanted=(Wanted("ratio_to_baseline", 1.2),),
    )


def _soak(ground: Ground) -> Iterable[Row]:
    load = soak.SoakLoad()
    figures = soak.measure(ground.stack, load)
    looks = figures.looks
    minutes = [one.at / 60 for one in looks]
    yield Row.of_latency(
        "soak.live",
        f"Webhook to a live client's callback, {load.per_second:.0f} a second for"
        f" {load.seconds / 60:.0f} minutes, {figures.reconnects} clients coming and going",
        figures.heard,
        wanted=(Wanted("p95", 250),),
    )
    yield Row(
        "soak.memory",
        "Memory of all parts in the last quarter (private)",
        "MB",
        figures.memory(4) / 1e6,
        baseline=Beside(figures.memory(3) / 1e6, "in the quarter before"),
        wanted=(Wanted("ratio_to_baseline", 1.05),),
        curve=tuple(
            Point(f"{part}, MB", minute, one.memory.get(part, 0) / 1e6)
            for part in sorted({name for one in looks for name in one.memory})
            for minute, one in zip(minutes, looks, strict=True)
        ),
    )
    # the sum hides a small part that leaks
    part, before, now = figures.grown_most()
    yield Row(
        "soak.part",
        f"Memory of the part that grew most in the last quarter: {part} (private)",
        "MB",
        now / 1e6,
        baseline=Beside(before / 1e6, "in the quarter before"),
        wanted=(Wanted("ratio_to_baseline", 1.1),),
    )
    yield Row(
        "soak.bytes",
        "Growth of the database for each message, in the second half",
        "KB",
        figures.bytes_of_each(2) / 1024,
        baseline=Beside(figures.bytes_of_each(1) / 1024, "in the first half"),
        wanted=(Wanted("ratio_to_baseline", 1.2),),
        curve=tuple(
            Point(f"{name}, {unit}", minute, value)
            for minute, one in zip(minutes, looks, strict=True)
            for name, unit, value in (
                ("Database", "MB", one.size / 1e6),
                ("Most dead rows in a table", "%", one.dead * 100),
            )
        ),
    )
    last = figures.quarter(4)
    yield Row(
        "soak.dead",
        "Most dead rows in a table, in the last quarter",
        "%",
        max(one.dead for one in last) * 100,
        wanted=(Wanted("ours", 25),),
    )
    yield Row(
        "soak.lag",
        "Realtime's slot behind, in the last quarter",
        "MB",
        max(one.lag for one in last) / 1e6,
        wanted=(Wanted("ours", 16),),
    )
    yield Row(
        "soak.connections",
        "Connections of the database, in the last quarter",
        "connections",
        max(one.connections for one in figures.quarter(4)),
        baseline=Beside(max(one.connections for one in figures.quarter(2)), "in the second"),
        wanted=(Wanted("ratio_to_baseline", 1.1),),
    )


EVERY = (
    Measurement(
        ("cold_start.webhook", "cold_start"), "Starting each function", frozenset(), _cold_start
    ),
    Measurement(("ingest.parse",), "Reading webhooks", frozenset(), _parsing),
    Measurement(
        ("stack.start", "stack.memory", "stack.sockets1000", "stack.channels5000"),
        "Starting `rapport up`, and 1,000 sockets that do nothing",
        frozenset(),
        _idle,
    ),
    Measurement(("live.idle",), "Sending messages, one at a time", None, _live),
    Measurement(
        ("live.load50",), "Sending messages at a steady rate", None, _stream, is_quick=False
    ),
    Measurement(
        ("ingest.batch1000", "ingest.statuses1000"), "Taking in large webhooks", CALLS, _batch
    ),
    Measurement(
        ("ingest.single", "ingest.vs_rest_calls", "ingest.concurrent8"),
        "Sending through PostgREST",
        CALLS,
        _ingest,
    ),
    Measurement(("change.cost",), "Changing a row", CLIENTS, _change_cost),
    Measurement(
        ("live.portal", "live.portals"),
        "Changing what customers follow",
        CLIENTS,
        _portal,
        is_quick=False,
    ),
    Measurement(
        ("fanout.1000",), "Changing what 1,000 sockets follow", CLIENTS, _fanout, is_quick=False
    ),
    Measurement(
        ("catchup.10000",), "Making changes for an absent client", CLIENTS, _away, is_quick=False
    ),
    Measurement(
        ("live.browser", "catchup.browser"),
        "Changing what a page in a browser follows",
        CLIENTS,
        _browser,
        is_quick=False,
    ),
    Measurement(
        ("live.dashboard",),
        "Signing in at the dashboard",
        CLIENTS,
        _dashboard,
        is_quick=False,
        alone=True,
    ),
    Measurement(
        ("sync.edit", "sync.edit.calls"),
        "Editing a contact that Metakocka has",
        PARTNERS,
        _edits,
        is_quick=False,
        alone=True,
    ),
    Measurement(
        (
            "sync.import",
            "sync.import.database",
            "sync.import.events",
            "sync.noop",
            "sync.noop.writes",
        ),
        f"Importing {metakocka.PARTNERS:,} partners",
        CLIENTS,
        _import,
        is_quick=False,
        alone=True,
    ),
    Measurement(
        ("query.inbox", "query.search", "query.growth"),
        "Asking databases of several sizes",
        CALLS,
        _growth,
        is_quick=False,
        alone=True,
    ),
    Measurement(
        (
            "web.first",
            "web.pixels",
            "web.stream",
            "web.scroll",
            "web.bubbles",
            *(f"web.script.{page}" for page in web.PAGES),
            "web.heap",
        ),
        "Using the pages, of it five minutes of messages",
        None,
        _web,
        is_quick=False,
        alone=True,
        only_named=True,
    ),
    Measurement(
        (
            "soak.live",
            "soak.memory",
            "soak.part",
            "soak.bytes",
            "soak.dead",
            "soak.lag",
            "soak.connections",
        ),
        "Working for half an hour",
        None,
        _soak,
        is_quick=False,
        alone=True,
        only_named=True,
    ),
)
