"""Who may do what with everything that clients can name: a line each, nothing else is allowed.

A member has the name of its role (owner, admin, agent, viewer), a customer is customer, and a user
who is only signed in is stranger; beside them there are anon and service_role. Conditions and calls
name what they are about: %(account)s, its %(contact)s who has a login and %(other)s who has
none, the first one's %(conversation)s with a %(failed)s message and a %(photo)s, a message of
%(ours)s in its portal, a %(note)s, a %(label)s, a saved %(reply)s, the %(channel)s, a %(merge)s,
%(suggestion)s, %(invitation)s and %(conflict)s, and the reader: %(user)s, %(role)s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OWNERS = frozenset({"owner"})
ADMINS = frozenset({"owner", "admin"})
EDITORS = ADMINS | {"agent"}
MEMBERS = EDITORS | {"viewer"}
SIGNED_IN = MEMBERS | {"customer", "stranger"}
SERVICE = frozenset({"service_role"})
UNPROCESSABLE = frozenset({"PT422"})


@dataclass(frozen=True)
class Table:
    """A table or view: whose rows are seen, and by whom its rows are written."""

    # the rows of an account and of a customer, as conditions; None where they see none
    staff: str | None = "account_id = %(account)s"
    customer: str | None = None
    # what everybody sees who is signed in
    stranger: str | None = None
    # where the rows are, of a view that shows each caller its own
    source: str | None = None
    # columns that differ from reader to reader
    personal: tuple[str, ...] = ()
    # insert, update, delete: who may do it to rows of the own account
    writers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    # for the writers: the inserted values and the set ones
    inserted: str = ""
    updated: str = ""
    # the codes that refuse a write, beside those for users who may not
    refused: frozenset[str] = frozenset()

    @property
    def condition(self) -> str:
        """The rows that are written, by the users who see any."""
        return self.staff or self.customer or "false"


@dataclass(frozen=True)
class Function:
    """A function: the roles of the database that may call it, and on whose behalf it works."""

    roles: frozenset[str]
    # a call about one account, allowed to the callers who belong to it
    call: str | None = None
    callers: frozenset[str] = frozenset()
    # others are answered without a word about the account, instead of being refused
    quiet: bool = False
    # the codes that refuse a call, beside those for users who may not
    refused: frozenset[str] = frozenset()


AUTHENTICATED = frozenset({"authenticated"})
FACE = Table(
    writers={"insert": EDITORS, "update": EDITORS, "delete": EDITORS},
    inserted="(account_id, name) values (%(account)s, 'Nika')",
    updated="name = 'Nika'",
)
OF_CUSTOMER = Table(customer="customer_id = %(contact)s")

# of all that is sent by WhatsApp the window keeps only this from nobody
TEMPLATE = '{"name": "hello", "language": "en"}'

TABLES = {
    "accounts": Table(
        staff="id = %(account)s",
        writers={"update": ADMINS},
        updated="name = 'Nika'",
    ),
    "account_members": Table(),
    "whatsapp_channels": Table(),
    "status_words": Table(staff="true", customer="true", stranger="true"),
    "contacts": Table(),
    "contacts_v2": FACE,
    "contacts_live_chat": FACE,
    "contact_identities": Table(),
    "contact_suggestions": Table(),
    "open_suggestions": Table(),
    "contact_merges": Table(),
    "portal_invitations": Table(),
    "customers": Table(customer="id = %(contact)s"),
    "my_profile": Table(
        staff=None,
        customer="id = %(contact)s",
        source="""
            (
                select c.id, c.account_id, a.name as account_name, a.country as account_country,
                       a.time_zone as account_time_zone, c.name, c.phone, c.email,
                       c.preferences, c.updated_at, c.version
                from public.customers c
                join public.accounts a on a.id = c.account_id
            )
        """,
        writers={"update": frozenset({"customer"})},
        updated="name = 'Nika'",
    ),
    "conversations": OF_CUSTOMER,
    "conversation_activity": OF_CUSTOMER,
    "conversation_notes": Table(
        # the account's agent wrote the one that is there
        writers={"insert": EDITORS, "update": frozenset({"agent"})},
        inserted="(conversation_id, note) values (%(conversation)s, 'any')",
        updated="note = 'other'",
    ),
    "desk_states": Table(),
    "labels": Table(
        writers={"insert": EDITORS, "update": EDITORS, "delete": EDITORS},
        inserted="(account_id, name) values (%(account)s, 'new')",
        updated="colour = '#ffffff'",
    ),
    "conversation_labels": Table(),
    "saved_replies": Table(
        writers={"insert": EDITORS, "update": EDITORS, "delete": EDITORS},
        inserted="(account_id, short_code, text) values (%(account)s, 'new', 'any')",
        updated="text = 'other'",
    ),
    "messages": Table(
        customer="customer_id = %(contact)s",
        writers={"insert": EDITORS},
        inserted="(conversation_id, type, message, content)"
        f" values (%(conversation)s, 'template', 'hello', '{TEMPLATE}')",
        updated="message = 'x'",
        # a conversation that is held on WhatsApp, to its customer
        refused=UNPROCESSABLE,
    ),
    "scheduled_messages": Table(
        writers={"insert": EDITORS, "update": EDITORS},
        inserted="(conversation_id, type, content, send_at)"
        f" values (%(conversation)s, 'template', '{TEMPLATE}', now() + interval '1 day')",
        updated="status = 'cancelled'",
    ),
    "jobs": Table(
        customer="customer_id = %(contact)s",
        writers={"insert": EDITORS, "update": EDITORS},
        inserted="(customer_id, service_type, starts_at) values (%(contact)s, 'any', now())",
        updated="address = 'any'",
    ),
    "invoices": Table(
        customer="customer_id = %(contact)s and sent_at is not null",
        writers={"insert": EDITORS, "update": EDITORS},
        inserted="(customer_id, number, currency, amount_minor)"
        " values (%(contact)s, 'new', 'EUR', 1)",
        updated="due_on = '2030-01-01'",
    ),
    "reminder_rules": Table(
        writers={"insert": ADMINS, "update": ADMINS, "delete": ADMINS},
        inserted="(account_id, name, kind, minutes, text)"
        " values (%(account)s, 'any', 'after_job', 60, 'How was it?')",
        updated="is_active = false",
    ),
    "loyalty_transactions": Table(
        customer="customer_id = %(contact)s",
        writers={"insert": EDITORS},
        inserted="(customer_id, type, points) values (%(contact)s, 'earned', 1)",
        updated="points = 1",
    ),
    "loyalty_balances": OF_CUSTOMER,
    "message_media": OF_CUSTOMER,
    "whatsapp_templates": Table(),
    "sendable_templates": Table(),
    "rejected_webhooks": Table(
        staff="account_id = %(account)s and %(role)s in ('owner', 'admin')",
        source="private.rejected_webhooks",
    ),
    "privacy_actions": Table(staff="account_id = %(account)s and %(role)s = 'owner'"),
    "account_events": Table(staff="account_id = %(account)s and %(role)s in ('owner', 'admin')"),
    "metakocka_connections": Table(
        staff="account_id = %(account)s and %(role)s in ('owner', 'admin')",
        writers={"insert": ADMINS, "update": ADMINS, "delete": ADMINS},
        inserted="(account_id, company_id) values (%(account)s, '2')"
        " on conflict (account_id) do update set conflict_rule = 'crm'",
        updated="conflict_rule = 'crm'",
    ),
    "metakocka_contact_mappings": Table(),
    "metakocka_partners": FACE,
    "sync_runs": Table(),
    "sync_conflicts": Table(),
    "sync_errors": Table(staff="account_id = %(account)s and %(role)s in ('owner', 'admin')"),
    "account_health": Table(),
    "push_subscriptions": Table(staff="user_id = %(user)s", customer="user_id = %(user)s"),
    "notification_choices": Table(staff="user_id = %(user)s", customer="user_id = %(user)s"),
    "read_markers": Table(staff="user_id = %(user)s", customer="user_id = %(user)s"),
    "inbox": Table(
        customer="customer_id = %(contact)s",
        # the last five are staff's; customers see none of them
        personal=(
            "last_read_seq",
            "unread_count",
            "assignee_id",
            "assignee_name",
            "label_ids",
            "snoozed_until",
            "send_later_count",
        ),
    ),
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
    "public.search_contacts": Function(
        AUTHENTICATED, call="select public.search_contacts(%(account)s, '')", callers=MEMBERS
    ),
    "public.mark_read": Function(
        AUTHENTICATED,
        call="select public.mark_read(%(conversation)s, 1)",
        callers=MEMBERS | {"customer"},
    ),
    "public.take_conversation": Function(
        AUTHENTICATED,
        call="select public.take_conversation(%(conversation)s)",
        callers=EDITORS,
    ),
    "public.hand_over_conversation": Function(
        AUTHENTICATED,
        call="select public.hand_over_conversation(%(conversation)s, %(user)s)",
        callers=EDITORS,
    ),
    "public.release_conversation": Function(
        AUTHENTICATED,
        call="select public.release_conversation(%(conversation)s)",
        callers=EDITORS,
    ),
    "public.label_conversation": Function(
        AUTHENTICATED,
        call="select public.label_conversation(%(conversation)s, %(label)s)",
        callers=EDITORS,
    ),
    "public.unlabel_conversation": Function(
        AUTHENTICATED,
        call="select public.unlabel_conversation(%(conversation)s, %(label)s)",
        callers=EDITORS,
    ),
    "public.snooze_conversation": Function(
        AUTHENTICATED,
        call="select public.snooze_conversation(%(conversation)s, now() + interval '1 day')",
        callers=EDITORS,
    ),
    "public.mark_unread": Function(
        AUTHENTICATED,
        call="select public.mark_unread(%(conversation)s)",
        callers=MEMBERS | {"customer"},
    ),
    "public.inbox_page": Function(
        AUTHENTICATED, call="select public.inbox_page(%(account)s)", callers=MEMBERS
    ),
    "public.inbox_counts": Function(
        AUTHENTICATED, call="select public.inbox_counts(%(account)s)", callers=MEMBERS
    ),
    "public.label_counts": Function(
        AUTHENTICATED, call="select public.label_counts(%(account)s)", callers=MEMBERS
    ),
    "public.saved_replies_beginning": Function(
        AUTHENTICATED,
        call="select public.saved_replies_beginning(%(account)s)",
        callers=MEMBERS,
        quiet=True,
    ),
    "public.fill_saved_reply": Function(
        AUTHENTICATED,
        call="select public.fill_saved_reply(%(reply)s, %(conversation)s)",
        callers=EDITORS,
    ),
    "public.stay_at_desk": Function(
        AUTHENTICATED, call="select public.stay_at_desk(%(account)s)", callers=MEMBERS
    ),
    "public.delete_note": Function(
        AUTHENTICATED,
        call="select public.delete_note(%(note)s)",
        callers=EDITORS,
    ),
    "public.delete_message": Function(
        AUTHENTICATED,
        call="select public.delete_message(%(ours)s)",
        callers=EDITORS,
    ),
    "public.conversation_people": Function(
        AUTHENTICATED,
        call="select * from public.conversation_people(%(conversation)s)",
        callers=MEMBERS | {"customer"},
        quiet=True,
    ),
    "public.set_conversation_status": Function(
        AUTHENTICATED,
        call="select public.set_conversation_status(%(conversation)s, 'closed')",
        callers=EDITORS,
    ),
    "public.post_message": Function(
        AUTHENTICATED,
        call=f"select public.post_message(%(conversation)s, 'hello', 'template', '{TEMPLATE}')",
        callers=EDITORS,
        refused=UNPROCESSABLE,
    ),
    "public.upcoming_reminders": Function(
        AUTHENTICATED, call="select public.upcoming_reminders(%(account)s)", callers=MEMBERS
    ),
    "public.try_reminder_rule": Function(
        AUTHENTICATED,
        call="select public.try_reminder_rule(%(account)s, 'after_job', 60, text => 'any')",
        callers=MEMBERS,
    ),
    "public.reply_window": Function(
        AUTHENTICATED,
        call="select public.reply_window(%(conversation)s)",
        callers=MEMBERS | {"customer"},
    ),
    "public.latest_inbound": Function(
        AUTHENTICATED, call="select public.latest_inbound(%(conversation)s)", callers=EDITORS
    ),
    "public.resend_message": Function(
        AUTHENTICATED, call="select public.resend_message(%(failed)s)", callers=EDITORS
    ),
    "public.drop_message": Function(
        AUTHENTICATED, call="select public.drop_message(%(failed)s)", callers=EDITORS
    ),
    "public.resume_channel": Function(
        AUTHENTICATED, call="select public.resume_channel(%(channel)s)", callers=EDITORS
    ),
    "public.pause_sending": Function(
        AUTHENTICATED,
        call="select public.pause_sending(%(account)s, %(channel)s)",
        callers=ADMINS,
    ),
    "public.resume_sending": Function(
        AUTHENTICATED, call="select public.resume_sending(%(account)s)", callers=ADMINS
    ),
    "public.begin_upload": Function(
        AUTHENTICATED,
        call="select public.begin_upload(%(conversation)s, 'image', 'image/png', 9)",
        callers=EDITORS,
    ),
    "public.refetch_media": Function(
        AUTHENTICATED, call="select public.refetch_media(%(photo)s)", callers=EDITORS
    ),
    "public.merge_contacts": Function(
        AUTHENTICATED,
        call="select public.merge_contacts(%(contact)s, %(other)s)",
        callers=EDITORS,
    ),
    "public.undo_merge": Function(
        AUTHENTICATED, call="select public.undo_merge(%(merge)s)", callers=EDITORS
    ),
    "public.unproved_fields": Function(
        AUTHENTICATED,
        call="select public.unproved_fields(%(contact)s)",
        callers=MEMBERS,
        quiet=True,
    ),
    "public.confirm_contact": Function(
        AUTHENTICATED, call="select public.confirm_contact(%(contact)s)", callers=EDITORS
    ),
    "public.suggest_duplicates": Function(
        AUTHENTICATED, call="select public.suggest_duplicates(%(account)s)", callers=EDITORS
    ),
    "public.dismiss_suggestion": Function(
        AUTHENTICATED, call="select public.dismiss_suggestion(%(suggestion)s)", callers=EDITORS
    ),
    "public.invite_to_portal": Function(
        AUTHENTICATED, call="select public.invite_to_portal(%(other)s)", callers=EDITORS
    ),
    "public.revoke_invitation": Function(
        AUTHENTICATED, call="select public.revoke_invitation(%(invitation)s)", callers=EDITORS
    ),
    "public.unlink_portal_login": Function(
        AUTHENTICATED, call="select public.unlink_portal_login(%(contact)s)", callers=EDITORS
    ),
    # for the holder of the token, and nobody here is one
    "public.claim_portal_invitation": Function(
        AUTHENTICATED, call="select public.claim_portal_invitation(%(invitation)s::text)"
    ),
    "public.invite_member": Function(
        AUTHENTICATED,
        call="select public.invite_member(%(account)s, 'new@alpine.example', 'agent')",
        callers=frozenset({"owner"}),
    ),
    "public.revoke_member_invitation": Function(
        AUTHENTICATED,
        call="select public.revoke_member_invitation(%(account)s, 'invited@alpine.example')",
        callers=frozenset({"owner"}),
    ),
    "public.open_member_invitations": Function(
        AUTHENTICATED,
        call="select * from public.open_member_invitations(%(account)s)",
        callers=frozenset({"owner"}),
    ),
    "public.change_member": Function(
        AUTHENTICATED,
        call="select public.change_member(%(account)s, %(user)s, 'owner')",
        callers=frozenset({"owner"}),
    ),
    "public.remove_member": Function(
        AUTHENTICATED,
        call="select public.remove_member(%(account)s, %(user)s)",
        callers=frozenset({"owner"}),
    ),
    # as claim_portal_invitation
    "public.claim_member_invitation": Function(
        AUTHENTICATED, call="select public.claim_member_invitation(%(invitation)s::text)"
    ),
    "public.portal_invitation": Function(
        frozenset({"anon", "authenticated"}),
        call="select public.portal_invitation(%(invitation)s::text)",
    ),
    "public.send_template": Function(
        AUTHENTICATED,
        call=f"select public.send_template(%(contact)s, '{TEMPLATE}')",
        callers=EDITORS,
    ),
    "public.resolve_sync_conflict": Function(
        AUTHENTICATED,
        call="select public.resolve_sync_conflict(%(conflict)s, 'crm')",
        callers=EDITORS,
    ),
    "public.authorize_sync": Function(
        AUTHENTICATED, call="select public.authorize_sync(%(account)s)", callers=ADMINS
    ),
    "public.request_sync": Function(
        AUTHENTICATED, call="select public.request_sync('both', %(account)s)", callers=ADMINS
    ),
    "public.metakocka_mappings": Function(
        AUTHENTICATED,
        call="select public.metakocka_mappings(account_id => %(account)s)",
        callers=SIGNED_IN,
        quiet=True,
    ),
    "public.account_health": Function(
        AUTHENTICATED, call="select * from public.account_health(%(account)s)", callers=ADMINS
    ),
    "public.why_not_shown": Function(
        AUTHENTICATED,
        call="select public.why_not_shown(%(conversation)s::text, %(account)s)",
        callers=ADMINS,
    ),
    "public.push_key": Function(
        AUTHENTICATED, call="select public.push_key()", callers=SIGNED_IN, quiet=True
    ),
    "public.save_push_subscription": Function(
        AUTHENTICATED,
        call="select public.save_push_subscription('https://push.example/new',"
        " repeat('A', 87), repeat('A', 22))",
        callers=SIGNED_IN,
        quiet=True,
    ),
    "public.delete_push_subscription": Function(
        AUTHENTICATED,
        call="select public.delete_push_subscription('https://push.example/none')",
        callers=SIGNED_IN,
        quiet=True,
    ),
    "public.choose_notifications": Function(
        AUTHENTICATED,
        call="select public.choose_notifications('points', false)",
        callers=SIGNED_IN,
        quiet=True,
    ),
    "public.stay_at_conversation": Function(
        AUTHENTICATED,
        call="select public.stay_at_conversation(%(conversation)s)",
        callers=MEMBERS | {"customer"},
    ),
    "backend.create_account": Function(SERVICE),
    "backend.account_id": Function(SERVICE),
    "backend.list_accounts": Function(SERVICE),
    "backend.add_member": Function(SERVICE),
    "backend.add_number": Function(SERVICE),
    "backend.connect_metakocka": Function(SERVICE),
    "backend.deployment": Function(SERVICE),
    "backend.try_doorbell": Function(SERVICE),
    "backend.doorbell_answer": Function(SERVICE),
    "backend.try_broadcast": Function(SERVICE),
    "backend.forget_broadcast": Function(SERVICE),
    "backend.set_push_key": Function(SERVICE),
    "backend.claim_pushes": Function(SERVICE),
    "backend.settle_push": Function(SERVICE),
    "backend.figures": Function(SERVICE),
    "backend.sweep_health": Function(SERVICE),
    "backend.why_not_shown": Function(SERVICE),
    "backend.note_refused_signatures": Function(SERVICE),
    "backend.send_scheduled": Function(SERVICE),
    "backend.send_reminders": Function(SERVICE),
    "backend.mark_overdue_invoices": Function(SERVICE),
    "backend.expire_points": Function(SERVICE),
    "backend.end_snoozes": Function(SERVICE),
    "backend.ingest_whatsapp": Function(SERVICE),
    "backend.span_of_webhook_events": Function(SERVICE),
    "backend.read_webhook_events": Function(SERVICE),
    "backend.replay_webhook": Function(SERVICE),
    "backend.import_contacts": Function(SERVICE),
    "backend.announce_import": Function(SERVICE),
    "backend.export_contacts": Function(SERVICE),
    "backend.account_country": Function(SERVICE),
    "backend.contacts_of_ids": Function(SERVICE),
    "public.erase_contact": Function(
        AUTHENTICATED, call="select public.erase_contact(%(other)s)", callers=OWNERS
    ),
    "public.export_contact": Function(
        AUTHENTICATED, call="select public.export_contact(%(other)s)", callers=OWNERS
    ),
    "public.hold_contact": Function(
        AUTHENTICATED, call="select public.hold_contact(%(other)s, 'any')", callers=OWNERS
    ),
    "public.release_contact": Function(
        AUTHENTICATED, call="select public.release_contact(%(other)s)", callers=OWNERS
    ),
    "backend.erase_contact": Function(SERVICE),
    "backend.erase_some": Function(SERVICE),
    "backend.export_overview": Function(SERVICE),
    "backend.export_page": Function(SERVICE),
    "backend.hold_contact": Function(SERVICE),
    "backend.note_erased_files": Function(SERVICE),
    "backend.privacy_actions": Function(SERVICE),
    "backend.release_contact": Function(SERVICE),
    "backend.running_erasures": Function(SERVICE),
    "backend.claim_scheduled_runs": Function(SERVICE),
    "backend.release": Function(SERVICE),
    "backend.end_scheduled_run": Function(SERVICE),
    "backend.prune": Function(SERVICE),
    "backend.claim_outbound": Function(SERVICE),
    "backend.begin_send": Function(SERVICE),
    "backend.settle_send": Function(SERVICE),
    "backend.set_doorbell": Function(SERVICE),
    "backend.pause_sending": Function(SERVICE),
    "backend.resume_sending": Function(SERVICE),
    "backend.redrive_messages": Function(SERVICE),
    "backend.redrive_notifications": Function(SERVICE),
    "backend.redrive_files": Function(SERVICE),
    "backend.rejected_webhooks": Function(SERVICE),
    "backend.numbers_of": Function(SERVICE),
    "backend.prune_kept": Function(SERVICE),
    "backend.files_to_delete": Function(SERVICE),
    "backend.settle_file_deletions": Function(SERVICE),
    "backend.count_usage": Function(SERVICE),
    "backend.after_restore": Function(SERVICE),
    "backend.claim_media": Function(SERVICE),
    "backend.settle_media": Function(SERVICE),
    "backend.media_to_send": Function(SERVICE),
    "backend.template_owners": Function(SERVICE),
    "backend.apply_templates": Function(SERVICE),
    "backend.metakocka_connection": Function(SERVICE),
    "backend.metakocka_connections_due": Function(SERVICE),
    "backend.begin_sync": Function(SERVICE),
    "backend.advance_sync": Function(SERVICE),
    "backend.keep_sync": Function(SERVICE),
    "backend.pause_sync": Function(SERVICE),
    "backend.sync_at_work": Function(SERVICE),
    "backend.next_lease_end": Function(SERVICE),
    "backend.note_partners_seen": Function(SERVICE),
    "backend.note_sent": Function(SERVICE),
    "backend.finish_sync": Function(SERVICE),
    "backend.compare_partners": Function(SERVICE),
    "backend.read_partners": Function(SERVICE),
    "backend.apply_partners": Function(SERVICE),
    "backend.claim_dirty_contacts": Function(SERVICE),
    "backend.count_blocked_contacts": Function(SERVICE),
    "backend.settle_partner": Function(SERVICE),
    "backend.block_contact": Function(SERVICE),
    "backend.postpone_contact": Function(SERVICE),
    "backend.begin_intent": Function(SERVICE),
    "backend.forget_partner": Function(SERVICE),
    "backend.unsettled_intents": Function(SERVICE),
    "backend.ask_partner": Function(SERVICE),
    "backend.settle_intent": Function(SERVICE),
    "backend.log_sync_error": Function(SERVICE),
}
