"""What the database's own facts say: migrations, Realtime's needs, guards, queues, accounts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

from rapport.commands.check.findings import (
    Finding,
    counted,
    fine,
    lasting,
    listed,
    warning,
    wrong,
)
from rapport.local.stack.state import PROJECT
from rapport.release import VERSION, Fit, fit
from rapport.store.deployment import Deployment, RealtimeState, Requests

MIGRATIONS = PROJECT / "supabase" / "migrations"
# the policies on realtime.messages: who may listen, and who may send
POLICIES = frozenset(
    {
        "subscribers can receive on their own topics",
        "people can show that they are there and writing",
    }
)
_PRE_REQUEST = "private.before_request"
_PUBLISHED = ["insert", "update"]
_MIGRATE = "Apply the migrations of this version: supabase db push."
_MEGABYTE = 1024 * 1024
# bytes: Realtime of a hosted project is cut off at 4 GB
_LAG_WARNING, _LAG_WRONG = 100 * _MEGABYTE, 1024 * _MEGABYTE
# requests of pg_net that wait at the same time
_RINGS_WAITING = 100
# templates are read every 15 minutes
_TEMPLATES_OLD = timedelta(hours=1)

# by queue: what waits in it, after how many seconds it is late, and the worker that takes it
_QUEUES: Mapping[str, tuple[str, int, str]] = {
    "outbound": ("messages to be sent", 300, "deliver_outbound"),
    "media": ("files to be fetched", 900, "fetch_media"),
    "metakocka": ("contacts to be sent to Metakocka", 900, "metakocka_sync"),
    "notifications": ("notifications", 300, "send_notifications"),
    "scheduled": ("scheduled messages", 300, "send_later"),
}


def examine_database(deployment: Deployment, migrations: Path = MIGRATIONS) -> Iterator[Finding]:
    """What the facts say; `migrations` is the folder of this version's."""
    yield release(deployment.release)
    yield _migrations(deployment, migrations)
    yield from _guards(deployment)
    yield from _realtime(deployment.realtime)
    yield from _net(deployment.net)
    yield _cron(deployment)
    yield from _queues(deployment)
    yield _webhooks(deployment)
    yield _accounts(deployment)
    yield from _templates(deployment)


def release(schema: str, functions: str = VERSION) -> Finding:
    """Whether schema and functions are of one release, and which of them comes next."""
    check = "Release"
    found = fit(schema, functions)
    if found is Fit.SAME:
        return fine(check, f"The schema is of {schema}, as this command is.")
    told = wrong if found.is_far else warning
    return told(
        check, f"The schema is of {schema}, and this command is of {functions}.", found.value
    )


def shipped(folder: Path) -> dict[str, tuple[str, str]]:
    """The migrations of this version, by their versions: name, and digest of the text.

    The digest is of the text without spaces, line breaks and semicolons, since the Supabase CLI
    keeps the statements and not what stands between them.
    """
    found = {}
    for file in sorted(folder.glob("*.sql")):
        version, _, name = file.stem.partition("_")
        text = file.read_text().translate(str.maketrans("", "", " \n\t\r;"))
        found[version] = (name, hashlib.sha256(text.encode()).hexdigest())
    return found


def _migrations(deployment: Deployment, folder: Path) -> Finding:
    check = "Migrations"
    if not folder.is_dir():
        return warning(
            check,
            "They were not compared: this installation has no migrations.",
            "Run `rapport check` from a checkout of the version that is deployed.",
        )
    wanted = shipped(folder)
    if deployment.migrations is None:
        return wrong(
            check,
            "The Supabase CLI has applied none here, so their version is not known.",
            f"{_MIGRATE} What was applied by other means: supabase migration repair.",
        )
    applied = {one.version: one for one in deployment.migrations}
    missing = [
        f"{version}_{name}" for version, (name, _) in wanted.items() if version not in applied
    ]
    if missing:
        return wrong(check, f"Not applied: {listed(missing)}.", _MIGRATE)
    others = sorted(set(applied) - set(wanted))
    # the project may have migrations of its own, between ours or after them
    differing = [
        version
        for version, (_, digest) in wanted.items()
        if applied[version].digest not in (None, digest)
    ]
    if differing:
        return wrong(
            check,
            f"{counted(len(differing), 'migration')} had another text when applied:"
            f" {listed(differing)}.",
            "The database was made by another version of Rapport. Run the command of that version,"
            " or make the database anew.",
        )
    more = f", and {counted(len(others), 'other')}" if others else ""
    return fine(check, f"All {len(wanted)} of this version are applied{more}.")


def _guards(deployment: Deployment) -> Iterator[Finding]:
    guards = deployment.guards
    check = "Limits of users"
    if guards.pre_request == _PRE_REQUEST:
        yield fine(check, f"PostgREST calls {_PRE_REQUEST} before each request.")
    else:
        yield wrong(
            check,
            f"PostgREST calls {guards.pre_request or 'nothing'} before each request, and not"
            f" {_PRE_REQUEST}: users are held to no limits.",
            f"alter role authenticator set pgrst.db_pre_request = '{_PRE_REQUEST}';"
            " notify pgrst, 'reload config';",
        )
    check = "Triggers"
    if guards.disabled_triggers:
        yield wrong(
            check,
            f"{counted(len(guards.disabled_triggers), 'trigger is', 'triggers are')} disabled:"
            f" {listed(guards.disabled_triggers)}.",
            "alter table … enable trigger …, for each of them.",
        )
    else:
        yield fine(check, "All are enabled.")
    check = "Row level security"
    if guards.unguarded or guards.open_to_anon:
        opened = [*guards.unguarded, *(f"{one} (to anon)" for one in guards.open_to_anon)]
        yield wrong(
            check,
            f"Open: {listed(opened)}.",
            "alter table … enable row level security; revoke all on … from anon.",
        )
    else:
        yield fine(check, "Every table has it, and nothing is open to people without a login.")


def _realtime(realtime: RealtimeState) -> Iterator[Finding]:
    check = "Publication"
    if realtime.publication is None:
        yield wrong(check, "There is no publication supabase_realtime.", _MIGRATE)
    elif sorted(realtime.publication.operations) != _PUBLISHED:
        told = listed(realtime.publication.operations)
        yield wrong(
            check,
            f"supabase_realtime tells of {told}. Realtime would tell deletions to everybody.",
            "alter publication supabase_realtime set (publish = 'insert, update');",
        )
    elif realtime.unpublished:
        yield wrong(
            check,
            f"Not in supabase_realtime: {listed(realtime.unpublished)}.",
            "alter publication supabase_realtime add table public.…, for each of them.",
        )
    else:
        yield fine(check, "supabase_realtime tells inserts and updates of all followed tables.")

    check = "Policies of Realtime"
    present = {one.name for one in realtime.policies}
    widening = [
        one.name for one in realtime.policies if one.is_permissive and one.name not in POLICIES
    ]
    if not realtime.is_guarded:
        yield wrong(
            check,
            "realtime.messages has no row level security: everybody may listen to everything.",
            "Turn it on in the project's dashboard: Realtime, Policies.",
        )
    elif missing := sorted(POLICIES - present):
        yield wrong(
            check,
            f"Missing on realtime.messages: {listed(missing)}. Nobody can join topics.",
            "Run the `create policy` of that name again; it is in supabase/migrations.",
        )
    elif widening:
        yield warning(
            check,
            f"Others on realtime.messages let more people listen or send: {listed(widening)}.",
            "Drop them, unless they are for topics of your own.",
        )
    else:
        yield fine(check, "realtime.messages has the two policies, and no others.")

    check = "Broadcasts"
    if realtime.has_todays_partition:
        yield fine(check, "realtime.messages has today's partition.")
    else:
        yield wrong(
            check,
            "realtime.messages has no partition of today, so broadcasts are lost.",
            "Realtime makes it when a client connects: open the dashboard once. If it does not,"
            " restart the project.",
        )
    yield _slots(realtime)


def _slots(realtime: RealtimeState) -> Finding:
    check = "Replication slots"
    for slot in realtime.slots:
        lag = slot.lag_bytes or 0
        behind = f"{slot.name} is {lag / _MEGABYTE:,.0f} MB behind"
        if slot.wal_status in ("unreserved", "lost"):
            return wrong(
                check,
                f"{slot.name} has lost its place in the log (wal_status {slot.wal_status}).",
                f"select pg_drop_replication_slot('{slot.name}'); Realtime makes it again.",
            )
        if not slot.is_active and lag > _LAG_WARNING:
            return wrong(
                check,
                f"{behind}, and nobody reads it: the disk fills up.",
                f"select pg_drop_replication_slot('{slot.name}'), unless its reader comes back.",
            )
        if lag > _LAG_WRONG:
            return wrong(
                check,
                f"{behind}.",
                "Look for a long transaction (pg_stat_activity), and restart Realtime.",
            )
        if lag > _LAG_WARNING:
            return warning(check, f"{behind}.", "Look again in some minutes: it should fall.")
    if not realtime.slots:
        return fine(check, "None at the moment: Realtime makes its own when a client listens.")
    most = max(slot.lag_bytes or 0 for slot in realtime.slots)
    return fine(
        check, f"{counted(len(realtime.slots), 'slot')}, {most / _MEGABYTE:,.1f} MB behind at most."
    )


def _net(net: Requests | None) -> Iterator[Finding]:
    check = "pg_net"
    if net is None:
        yield warning(
            check,
            "It is not there: workers start by their schedule alone, up to a minute late.",
            "create extension pg_net with schema extensions;",
        )
        return
    version = f"pg_net {net.version}" if net.version else "It is there"
    if net.waiting > _RINGS_WAITING:
        yield wrong(
            check,
            f"{net.waiting:,} requests wait to be made.",
            "select net.worker_restart(); or restart the project.",
        )
    else:
        yield fine(check, f"{version}; {counted(net.waiting, 'request waits', 'requests wait')}.")
    if not net.answers:
        return
    check = "Doorbell, last hour"
    told = listed(
        f"{counted(one.count, 'answer')}, status {one.result}"
        if one.result.isdigit()
        else f"{one.count:,} {one.result}"
        for one in net.answers
    )
    failed = sum(one.count for one in net.answers if not one.result.startswith("2"))
    latest = net.answers[0]
    if not failed:
        yield fine(check, f"{told}.")
    elif latest.result.startswith("2"):
        yield warning(
            check,
            f"{told}; the latest was good.",
            "What was missed is found by the schedules. Look at the log of the function wake.",
        )
    else:
        yield wrong(
            check,
            f"{told}; the latest at {latest.latest_at:%H:%M:%S} UTC.",
            "401 and 403: run `rapport connect functions` with the secret that the function has."
            " 404: with the right address. Otherwise look at the log of the function wake.",
        )


def _cron(deployment: Deployment) -> Finding:
    if deployment.cron:
        return fine("pg_cron", f"pg_cron {deployment.cron}.")
    return fine("pg_cron", "It is not there, and is not needed: the functions have schedules.")


def _queues(deployment: Deployment) -> Iterator[Finding]:
    for name, (what, late, worker) in _QUEUES.items():
        queue = deployment.queues[name]
        check = f"Queue: {name}"
        if not queue.count:
            yield fine(check, "Nothing waits.")
            continue
        found = f"{queue.count:,} {what} wait, the oldest for {lasting(queue.oldest_seconds)}."
        if queue.oldest_seconds < late:
            yield fine(check, found)
        else:
            yield wrong(
                check,
                found,
                f"The worker {worker} does not run, or fails: look at its log and its schedule.",
            )


def _webhooks(deployment: Deployment) -> Finding:
    check = "Webhooks"
    webhooks = deployment.webhooks
    refused = (
        f"{counted(webhooks.refused_signatures, 'webhook')} of the last day had a signature that is"
        " not good"
    )
    if webhooks.refused_signatures and not webhooks.taken_since_refused:
        return wrong(
            check,
            f"{refused}, and no good one has come since.",
            "The app secret of the functions is another one than Meta's: App settings, Basic.",
        )
    if webhooks.rejected:
        return warning(
            check,
            f"{counted(webhooks.rejected, 'webhook')} of the last day could not be applied.",
            "The view rejected_webhooks says why: usually a number that was not added. After that:"
            " rapport replay.",
        )
    if webhooks.refused_signatures:
        return warning(
            check,
            f"{refused}, and others were taken.",
            "Look whether two apps at Meta send to this address, and whether both secrets are set;"
            " otherwise a stranger sent them.",
        )
    if webhooks.latest_at is None:
        return warning(
            check,
            "None has come yet.",
            "Run `rapport connect whatsapp`, then write to the number from a phone.",
        )
    ago = (deployment.now - webhooks.latest_at).total_seconds()
    return fine(check, f"The latest came {lasting(ago)} ago.")


def _accounts(deployment: Deployment) -> Finding:
    check = "Accounts"
    if not deployment.accounts:
        return wrong(check, "There is none.", "rapport account create NAME --owner EMAIL")
    if deployment.accounts_without_owner:
        return wrong(
            check,
            f"Without an owner: {listed(deployment.accounts_without_owner)}.",
            "rapport member add ACCOUNT EMAIL --role owner",
        )
    if not deployment.numbers:
        return warning(
            check,
            f"{counted(deployment.accounts, 'account')}, and no WhatsApp number.",
            "rapport number add ACCOUNT '+386 …' --phone-number-id …",
        )
    return fine(
        check,
        f"{counted(deployment.accounts, 'account')} with"
        f" {counted(len(deployment.numbers), 'WhatsApp number')}, each with an owner.",
    )


def _templates(deployment: Deployment) -> Iterator[Finding]:
    for number in deployment.numbers:
        check = f"Templates of {number.display_phone_number}"
        if number.waba_id is None:
            yield warning(
                check,
                "Its WhatsApp Business account is not known, so none are read.",
                f"rapport number add {number.account} '{number.display_phone_number}'"
                f" --phone-number-id {number.phone_number_id} --waba-id …",
            )
            continue
        read_at = number.templates_read_at
        if read_at is None:
            yield warning(
                check,
                "None is known: the WhatsApp Business account has none, or they were not read.",
                "Within 15 minutes of `rapport number add` they are here; otherwise look at the log"
                " of the worker sync_templates, and at the number's token.",
            )
            continue
        age = deployment.now - read_at
        found = f"{counted(number.templates, 'template')}, read {lasting(age.total_seconds())} ago."
        if age > _TEMPLATES_OLD:
            yield wrong(
                check,
                found,
                "The worker sync_templates fails: look at its log, and at the number's token.",
            )
        else:
            yield fine(check, found)
