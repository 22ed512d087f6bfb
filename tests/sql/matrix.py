"""Who may do what with everything that clients can name: a line each, nothing else is allowed.

A member is known by its role (owner, admin, agent, viewer), a customer as customer, whoever is
only signed in as stranger; beside them there are anon and service_role. Conditions and calls
name what they are about: %(account)s, its %(contact)s who has a login, and their
%(conversation)s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

EDITORS = frozenset({"owner", "admin", "agent"})
MEMBERS = EDITORS | {"viewer"}
SIGNED_IN = MEMBERS | {"customer", "stranger"}
SERVICE = frozenset({"service_role"})


@dataclass(frozen=True)
class Table:
    """A table or view: whose rows are seen, and by whom its rows are written."""

    # the rows of an account and of a customer, as conditions; None where they see none
    staff: str | None = "account_id = %(account)s"
    customer: str | None = None
    # what everybody sees who is signed in
    stranger: str | None = None
    # insert, update, delete: who may do it to rows of the own account
    writers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # for those who write: what is inserted and what is set
    inserted: str = ""
    updated: str = ""


@dataclass(frozen=True)
class Function:
    """A function: the roles of the database that may call it, and on whose behalf it works."""

    roles: frozenset[str]
    # a call about one account, allowed to the callers who belong to it
    call: str | None = None
    callers: frozenset[str] = frozenset()
    # others are answered without a word about the account, instead of being refused
    quiet: bool = False


AUTHENTICATED = frozenset({"authenticated"})
FACE = Table(
    writers={"insert": EDITORS, "update": EDITORS, "delete": EDITORS},
    inserted="(account_id, name) values (%(account)s, 'Nika')",
    updated="name = 'Nika'",
)
OF_CUSTOMER = Table(customer="customer_id = %(contact)s")

TABLES = {
    "accounts": Table(staff="id = %(account)s"),
    "account_members": Table(),
    "whatsapp_channels": Table(),
    "status_words": Table(staff="true", customer="true", stranger="true"),
    "contacts": Table(),
    "contacts_v2": FACE,
    "contacts_live_chat": FACE,
    "contact_identities": Table(),
    "contact_suggestions": Table(),
    "customers": Table(customer="id = %(contact)s"),
    "conversations": OF_CUSTOMER,
    "conversation_activity": OF_CUSTOMER,
    "messages": OF_CUSTOMER,
}

FUNCTIONS = {
    "public.my_topics": Function(
        AUTHENTICATED,
        call="select * from public.my_topics(%(conversation)s)",
        callers=SIGNED_IN,
        quiet=True,
    ),
    "public.changes_since": Function(
        AUTHENTICATED,
        # a cursor of before everything, in this reader's scope
        call="select public.changes_since(%(cursor)s)",
        callers=SIGNED_IN,
        quiet=True,
    ),
    "public.resolve_conversation": Function(
        AUTHENTICATED,
        call="select public.resolve_conversation(%(conversation)s::text)",
        callers=MEMBERS | {"customer"},
    ),
    "public.upsert_contact": Function(
        AUTHENTICATED,
        call='select public.upsert_contact(%(account)s, \'{"name": "Nika"}\')',
        callers=EDITORS,
    ),
    "backend.ingest_whatsapp": Function(SERVICE),
}
