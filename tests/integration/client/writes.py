"""All that signed-in users may write, read from the catalog, and random writes made of it.

A table, a view or a function that is new in the catalog is drawn as well. Where nobody has said
what its columns or arguments may be, `Catalog` names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid4

from tests.world import World

Body = dict[str, Any]

_FUNCTIONS = """
    select p.proname as name,
        coalesce(array(
            select jsonb_build_object(
                'name', p.proargnames[n], 'type', format_type(p.proargtypes[n - 1], null),
                'is_needed', n <= p.pronargs - p.pronargdefaults
            )
            from generate_series(1, p.pronargs) n
        ), '{}') as arguments
    from pg_proc p
    where p.pronamespace = 'public'::regnamespace and p.provolatile = 'v'
      and has_function_privilege('authenticated', p.oid, 'execute')
    order by p.proname
"""
_RELATIONS = """
    select c.relname as name, w.how,
        array(
            select jsonb_build_object('name', a.attname, 'type', format_type(
                coalesce(nullif(t.typbasetype, 0), t.oid), null), 'is_needed', false)
            from pg_attribute a
            join pg_type t on t.oid = a.atttypid
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
              and w.how <> 'delete'
              and has_column_privilege('authenticated', c.oid, a.attname, w.how)
            order by a.attnum
        ) as arguments
    from pg_class c
    cross join (values ('insert'), ('update'), ('delete')) w (how)
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v')
      and case w.how
          when 'delete' then has_table_privilege('authenticated', c.oid, 'delete')
          else has_any_column_privilege('authenticated', c.oid, w.how)
      end
    order by c.relname, w.how
"""
# what an account has, by kind: where ids, or what else names one, are
_FACTS = {
    "account": "id from public.accounts t where id",
    "channel": "id from public.whatsapp_channels t where account_id",
    "conflict": "id from public.sync_conflicts t where account_id",
    "contact": "id from public.contacts t where deleted_at is null and account_id",
    "conversation": "id from public.conversations t where account_id",
    "failed": "id from public.messages t where status = 'failed' and account_id",
    "invitation": "id from public.portal_invitations t where account_id",
    "invoice": "id from public.invoices t where account_id",
    "job": "id from public.jobs t where account_id",
    "label": "id from public.labels t where account_id",
    "login": "id from public.customers t where portal_user_id is not null and account_id",
    "merge": "id from public.contact_merges t where account_id",
    "message": "id from public.messages t where type <> 'system' and account_id",
    "rule": "id from public.reminder_rules t where account_id",
    "scheduled": "id from public.scheduled_messages t where account_id",
    "note": "id from public.conversation_notes t where account_id",
    "ours": "id from public.messages t where sender_type = 'operator' and account_id",
    "photo": "message_id from public.message_media t where account_id",
    "member": "user_id from public.account_members t where account_id",
    "saved reply": "id from public.saved_replies t where account_id",
    "provider_id": "provider_id from public.messages t where provider_id > '' and account_id",
    "suggestion": "id from public.contact_suggestions t where account_id",
}
# the oldest first
_ORDER = "order by to_jsonb(t) ->> 'created_at', 1"
# from the end of a list more often: what has been written lately
_LATE = 0.6

NAMES = ("Nika", "Jan", "Čilka", "Ana Novak", "J. Novak", "Nejc")
PHONES = ("+38640111222", "+38640999888", "+38640333444", "+38640555666", "+385911234567")
WORDS = ("hello", "when do you come?", "thank you", "a 🙂 and č", "one\ntwo", "x" * 3000)


class Facts:
    """What the businesses have at the moment."""

    def __init__(self, world: World, accounts: tuple[UUID, ...]) -> None:
        self._of = {
            account: {
                kind: [
                    row[0]
                    for row in world.owner.execute(
                        f"select {query} = %s {_ORDER}".encode(), [account]
                    )
                ]
                for kind, query in _FACTS.items()
            }
            for account in accounts
        }

    def draw(self, random: Random, account: UUID, kind: str) -> Any:
        """One of a kind, rather a late one; None where there is none."""
        of = self._of[account][kind]
        if not of:
            return None
        return random.choice(of[-6:]) if random.random() < _LATE else random.choice(of)


@dataclass
class Draw:
    """Draws values for one writer, of whose account most of them are."""

    random: Random
    facts: Facts
    accounts: tuple[UUID, ...]
    account: UUID
    # those that invitations were answered with
    tokens: list[str]

    def of(self, kind: str) -> Any:
        random = self.random
        account = random.choice(self.accounts) if random.random() < 0.05 else self.account
        found = self.facts.draw(random, account, kind)
        return str(uuid4()) if found is None else str(found)

    def one(self, *values: Any) -> Any:
        return self.random.choice(values)


def _kind(kind: str) -> Callable[[Draw], Any]:
    return lambda draw: draw.of(kind)


def _one(*values: Any) -> Callable[[Draw], Any]:
    return lambda draw: draw.one(*values)


def _in_days(*days: int) -> Callable[[Draw], Any]:
    return lambda draw: (datetime.now(UTC) + timedelta(days=draw.one(*days))).isoformat()


def _new(prefix: str) -> Callable[[Draw], Any]:
    return lambda draw: f"{prefix}{draw.random.getrandbits(40):x}"


def _seldom(value: Callable[[Draw], Any], otherwise: Any = None) -> Callable[[Draw], Any]:
    return lambda draw: value(draw) if draw.random.random() < 0.3 else otherwise


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _contact(draw: Draw) -> Body:
    drawn = {
        "name": draw.one(*NAMES),
        "phone": draw.one(*PHONES),
        "email": draw.one(None, "a@b.si"),
    }
    return {key: value for key, value in drawn.items() if draw.random.random() < 0.6}


NOBODY = "00000000-0000-4000-8000-000000000000"
_STATUS = _one("open", "pending", "closed")
_AT = _one("2026-12-01T09:00:00Z", "2027-01-15T10:30:00+01:00", "2026-12-24T00:00:00.5Z")
_DAY = _one("2026-12-31", "2027-02-01", "2027-06-30")

# by name, or by where it is and its name where one name means several things
VALUES: Mapping[str, Callable[[Draw], Any]] = {
    "account_id": _kind("account"),
    "channel_id": _kind("channel"),
    "conflict_id": _kind("conflict"),
    "contact_id": _kind("contact"),
    "conversation_id": _kind("conversation"),
    "customer_id": lambda draw: draw.of(draw.one("login", "login", "contact")),
    "drop": _kind("contact"),
    "invitation_id": _kind("invitation"),
    "keep": _kind("contact"),
    "label_id": _kind("label"),
    "merge_id": _kind("merge"),
    "note_id": _kind("note"),
    "hand_over_conversation.user_id": _kind("member"),
    "message_id": _kind("message"),
    "suggestion_id": _kind("suggestion"),
    "booking_id": _seldom(_kind("job")),
    "job_id": _seldom(_kind("job")),
    "reply_to": _seldom(_kind("message")),
    "delete_message.message_id": _kind("ours"),
    "drop_message.message_id": _kind("failed"),
    "resend_message.message_id": _kind("failed"),
    "refetch_media.message_id": _kind("photo"),
    "invite_to_portal.contact_id": _kind("contact"),
    "unlink_portal_login.contact_id": _kind("login"),
    "my_profile.id": _kind("login"),
    "token": lambda draw: draw.random.choice(draw.tokens) if draw.tokens else "none",
    # of texts
    "auth": _one("A" * 22),
    "endpoint": _one("https://push.example/1", "https://push.example/2"),
    "choose_notifications.kind": _one("points", "message"),
    "p256dh": _one("A" * 87),
    "labels.colour": _one("#ffffff", "#000000"),
    "labels.name": _new("label "),
    "note": _one("rings twice", "pays late"),
    "short_code": _new("r"),
    "address": _one("Here 1", "There 2", None),
    "base_url": _one(None),
    "choice": _one("crm", "metakocka"),
    "client_ref": _seldom(_new("ref ")),
    "company_id": _one("16", "17"),
    "conflict_rule": _one("crm", "metakocka", "ask"),
    "contact": _contact,
    "contacts_live_chat.conversation_status": _one("Open", "Pending", "Closed"),
    "conversation_status": _STATUS,
    "metakocka_partners.conversation_status": _one("O", "P", "C"),
    "country": _one("SI", "HR", None),
    "currency": _one("EUR", "USD"),
    "description": _one("as agreed", None),
    "direction": _one("both", "to_metakocka", "from_metakocka"),
    "email": _one("ana@example.com", "b@example.com", None),
    "external_id": _new("x"),
    "face": _one("contacts_page"),
    "file_name": _one("a.png"),
    "fields": _one(None, ["name"], ["phone"]),
    "language": _one("en", "sl"),
    "listing": _one(None),
    "message": _one(*WORDS),
    "mime_type": _one("image/png"),
    "name": _one(*NAMES, None),
    "accounts.name": _one("Alpine", "Bay"),
    "notes": _one("rings twice", None),
    "number": _new("2026-"),
    "phone": _one(*PHONES, None),
    "reminder_rules.kind": _one("after_job"),
    "scheduled_messages.status": _one("cancelled"),
    "send_at": _in_days(30, 60),
    "minutes": _one(60, 90),
    "service_type": _one("Carpet cleaning", "Windows"),
    "set_conversation_status.status": _STATUS,
    "jobs.status": _one("pending", "confirmed", "in_progress", "completed", "cancelled"),
    "invoices.status": _one("sent", "sent", "paid", "void", "draft"),
    "tags": _one([], ["vip"], ["vip", "late"]),
    "time_zone": _one("Europe/Ljubljana", "UTC"),
    "username": _one(None, "nika"),
    "begin_upload.type": _one("image"),
    "loyalty_transactions.type": _one("earned", "earned", "bonus", "redeemed"),
    "type": _one("text"),
    "export_contact.table_name": _one(None),
    "export_contact.after": _one(None),
    "hold_contact.reason": _one("a lawsuit"),
    "invite_member.role": _one("agent"),
    # who works for an account stays: all of them are told what happens to it
    "change_member.user_id": _one(NOBODY),
    "change_member.role": _one("agent"),
    "change_member.display_name": _one("Somebody"),
    "remove_member.user_id": _one(NOBODY),
    "invite_member.display_name": _one("Somebody"),
    "resume_sending.withdraw": _one(True, False),
    "send_template.template": _one({"name": "hello", "language": "en"}),
    # the rest
    "is_wanted": _one(True, False),
    "mentions": lambda draw: draw.one([], [draw.of("member")]),
    "until": _in_days(1, 30),
    "amount_minor": _one(0, 1, 12050),
    "content": _one(None),
    "contact_ids": _one([]),
    "ends_at": _one("2028-01-01T00:00:00Z", None),
    "expires_on": _seldom(_DAY),
    "invoice_data": _one(None),
    "issued_on": _one(None, "2026-11-01"),
    "due_on": _DAY,
    "messages_per_minute": _one(100_000),
    "messages_per_request": _one(100),
    "metakocka_ids": _one([]),
    "points": _one(1, 50, -1, -30),
    "preferences": _one({}, {"language": "sl"}, {"a": [1, {"b": None}]}),
    "request_wait": _one("00:00:01"),
    "rows_per_request": _one(1000),
    "size": _one(9, 100_000),
    "starts_at": _AT,
    "sync_interval": _one("01:00:00"),
    "tax_minor": _one(0, 1),
    "up_to_seq": _one(1, 2, 5, 1000),
    "valid_for": _one("7 days"),
    "writes_per_minute": _one(100_000),
}
# of columns alone; an argument has a name that says what it is
BY_TYPE: Mapping[str, Callable[[Draw], Any]] = {
    "boolean": _one(True, False),
    "text": _one("x", "y", None),
    "jsonb": _one({}, []),
    "integer": _one(1),
    "bigint": _one(1),
    "date": _DAY,
    "time without time zone": _one("08:00", "20:00"),
    "timestamp with time zone": _AT,
    "interval": _one("01:00:00"),
    "text[]": _one([]),
}
# what the server writes; users try it now and then
SERVERS = _words(
    """
    id version created_at updated_at seq sender_type sender_id sender_name provider_id is_history
    error_code error_message reactions has_invoice sent_at delivered_at read_at failed_at
    edited_at revoked_at paid_at voided_at whatsapp_channel_id user_id retries pauses paused_until
    pause_reason documents_seen_until metakocka_id sync_state missing last_synced_at profile_name
    marketing_stopped_at portal_user_id wa_id channel last_message_at last_inbound_at account_name
    messages.status author_id author_name deleted_at event
    """
)
# the table of a written row's key, and the key
KEYS = {
    "accounts": ("id", "account"),
    "contacts_live_chat": ("id", "contact"),
    "contacts_v2": ("id", "contact"),
    "conversation_notes": ("id", "note"),
    "invoices": ("id", "invoice"),
    "jobs": ("id", "job"),
    "labels": ("id", "label"),
    "metakocka_connections": ("account_id", "account"),
    "metakocka_partners": ("id", "contact"),
    "my_profile": ("id", "login"),
    "reminder_rules": ("id", "rule"),
    "saved_replies": ("id", "saved reply"),
    "scheduled_messages": ("id", "scheduled"),
}
# without which no row is made
NEEDED = {
    "contacts_live_chat": ("account_id", "name"),
    "contacts_v2": ("account_id", "name"),
    "conversation_notes": ("conversation_id", "note"),
    "invoices": ("customer_id", "number", "currency", "amount_minor"),
    "jobs": ("customer_id", "service_type", "starts_at"),
    "labels": ("account_id", "name"),
    "loyalty_transactions": ("customer_id", "type", "points"),
    "messages": ("message",),
    "metakocka_connections": ("account_id", "company_id"),
    "metakocka_partners": ("account_id", "name"),
    "reminder_rules": ("account_id", "name", "kind", "minutes", "text"),
    "saved_replies": ("account_id", "short_code", "text"),
    "scheduled_messages": ("conversation_id", "message", "send_at"),
}
# where a message goes: one of them
ADDRESSES = ("conversation_id", "customer_id", "booking_id")
ADDRESSED = ("messages", "post_message")
# how often beside the others, which are drawn once
OFTEN = {
    "post_message": 6,
    "insert messages": 6,
    "insert jobs": 3,
    "update jobs": 3,
    "insert invoices": 3,
    "update invoices": 3,
    "merge_contacts": 2,
    "undo_merge": 2,
    "mark_read": 2,
}


@dataclass(frozen=True)
class Argument:
    """An argument of a function, or a column that is written."""

    name: str
    type: str
    is_needed: bool


@dataclass(frozen=True)
class Write:
    """A way to write: a function, or an operation on a table or view."""

    of: str
    # insert, update or delete; nothing for a function
    how: str
    arguments: tuple[Argument, ...]

    @property
    def name(self) -> str:
        return f"{self.how} {self.of}".strip()

    def unknown(self) -> list[str]:
        """What there is no value for."""
        lacking = [
            f"{self.of}.{one.name} ({one.type})"
            for one in self.arguments
            if self._is_servers(one) is False and self._value(one) is None
        ]
        if self.how == "insert" and self.of not in NEEDED:
            lacking.append(f"{self.name}: its NEEDED columns")
        if self.how in ("update", "delete") and self.of not in KEYS:
            lacking.append(f"{self.name}: its KEYS")
        return lacking

    def draw(self, draw: Draw) -> Request:
        """A request that writes so."""
        if not self.how:
            return Request(self.name, "POST", f"/rpc/{self.of}", self._arguments(draw))
        if self.how == "insert":
            return Request(self.name, "POST", f"/{self.of}", self._columns(draw, NEEDED[self.of]))
        key, kind = KEYS[self.of]
        path = f"/{self.of}?{key}=eq.{draw.of(kind)}"
        if self.how == "delete":
            return Request(self.name, "DELETE", path, None)
        return Request(self.name, "PATCH", path, self._columns(draw, ()))

    def _value(self, one: Argument) -> Callable[[Draw], Any] | None:
        named = VALUES.get(f"{self.of}.{one.name}") or VALUES.get(one.name)
        return named or (BY_TYPE.get(one.type) if self.how else None)

    def _is_servers(self, one: Argument) -> bool:
        return bool(self.how) and bool(SERVERS & {one.name, f"{self.of}.{one.name}"})

    def _arguments(self, draw: Draw) -> Body:
        return self._values(
            draw, [one for one in self.arguments if one.is_needed or draw.random.random() < 0.3]
        )

    def _columns(self, draw: Draw, needed: tuple[str, ...]) -> Body:
        wanted = [one for one in self.arguments if one.name in needed]
        servers = draw.random.random() < 0.05
        others = [
            one
            for one in self.arguments
            if one.name not in needed and self._is_servers(one) is servers
        ]
        count = draw.random.randint(0 if needed else 1, 2)
        return self._values(draw, wanted + draw.random.sample(others, min(count, len(others))))

    def _values(self, draw: Draw, arguments: list[Argument]) -> Body:
        values = {}
        for one in arguments:
            value = self._value(one) or BY_TYPE.get(one.type) or _kind("contact")
            values[one.name] = value(draw)
        if self.of in ADDRESSED:
            values = {name: value for name, value in values.items() if name not in ADDRESSES}
            address = draw.one(*ADDRESSES)
            kind = {"conversation_id": "conversation", "customer_id": "login", "booking_id": "job"}
            values |= {address: draw.of(kind[address])}
        return values


@dataclass(frozen=True)
class Request:
    """What somebody asks of PostgREST."""

    write: str
    method: str
    path: str
    body: Body | None


@dataclass
class Catalog:
    """Everything that users may write."""

    world: World
    writes: list[Write] = field(init=False)

    def __post_init__(self) -> None:
        found = [
            *self.world.rows(_FUNCTIONS),
            *self.world.rows(_RELATIONS),
        ]
        self.writes = [
            Write(
                row["name"],
                row.get("how", ""),
                tuple(Argument(**argument) for argument in row["arguments"]),
            )
            for row in found
        ]

    def unknown(self) -> list[str]:
        """What is new in the catalog: nobody has said what can be written there."""
        return [lacking for write in self.writes for lacking in write.unknown()]

    def plan(self, random: Random, count: int) -> list[Write]:
        """Ways to write, each at least once in so many draws as there are ways."""
        drawn: list[Write] = []
        while len(drawn) < count:
            often = [write for write in self.writes for _ in range(OFTEN.get(write.name, 1))]
            drawn += random.sample(often, len(often))
        return drawn[:count]
