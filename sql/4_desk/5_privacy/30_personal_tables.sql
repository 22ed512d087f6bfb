/*
    Every table of the database, and what it holds about a person: which rows, and what an erasure
    does with them. Export, erasure and their tests read this list, in its order. So a new table
    needs its row here: a test says which one is missing.

    treatment is

        delete    the rows go
        change    the rows stay for others or by law; what they say about the person goes
        keep      the rows hold ids alone, of what is gone
        none      nothing about customers

    condition and to_do are about a row r and a person p, a row of the columns of private.person and,
    as self, of the whole. Child rows stand before the rows that they refer to.
*/
create table private.personal_tables (
    place       integer generated always as identity primary key,
    table_name  text not null
                constraint personal_tables_table_name_check check (table_name ~ '^\w+\.\w+$'),
    treatment   text not null
                constraint personal_tables_treatment_check
                check (treatment in ('delete', 'change', 'keep', 'none')),
    -- the person's rows
    condition   text,
    -- the rows that are due: all if null, for a change those that still have to be changed; and how
    to_do       text,
    assignments text,
    -- a large table without an index for the condition is read block by block, once
    walks       boolean not null default false,
    -- whether an export has the rows; the columns that it leaves out; the row as it shows it
    is_exported boolean not null default true,
    hidden      text[] not null default '{}',
    shown       text,
    -- the order in an export, by columns that no two rows share; by default the primary key
    sorted_by   text[],
    why         text,

    constraint personal_tables_condition_check
        check ((condition is not null) = (treatment in ('delete', 'change'))),
    constraint personal_tables_change_check
        check (
            (assignments is not null) = (treatment = 'change')
            and (to_do is not null or treatment <> 'change')
            and (to_do is null or treatment in ('delete', 'change'))
        ),
    constraint personal_tables_why_check
        check (treatment = 'delete' or why is not null)
);
alter table private.personal_tables enable row level security;


create policy "nobody reads the list of personal tables directly"
    on private.personal_tables
    for all
    to authenticated
    using (false);


insert into private.personal_tables (
    table_name, treatment, condition, to_do, assignments, walks, is_exported, hidden, shown,
    sorted_by, why
)
values
-- first, while the messages are there to tell whose an update is
('private.webhook_events', 'change',
    $$r.received_at < p.until and r.body ~ p.ids_pattern
      and (private.cut_webhook(r.body, p.self)).cut <> '[]'$$,
    'true',
    $$body = (private.cut_webhook(r.body, p.self)).rest,
      is_cut = true,
      rejected = (
          -- WhatsApp's ids of messages hold numbers
          select coalesce(
              jsonb_agg(case
                  when position(e ->> 'provider_id' in (private.cut_webhook(r.body, p.self)).rest) > 0
                      then e - 'detail'
                  else e - array['detail', 'provider_id']
              end),
              '[]')
          from jsonb_array_elements(r.rejected) e
      )$$,
    true, true, '{}',
    $$jsonb_build_object('received_at', r.received_at, 'updates', (private.cut_webhook(r.body, p.self)).cut)$$,
    null, 'A webhook carries updates about others too, and is known by its hash when it comes again.'),

-- what waits to be told
('private.push_queue', 'delete',
    $$r.account_id = p.account_id and (
          r.subject_id = any (p.subject_ids)
          or r.conversation_id = any (p.conversation_ids)
          or r.source_id in (select private.messages_of(p.self))
      ) or r.subscription_id in (
          select s.id from public.push_subscriptions s where s.user_id = any (p.user_ids)
      )$$,
    null, null, false, true, '{}', null, null, null),
('private.notifications', 'delete',
    $$r.account_id = p.account_id and (
          r.subject_id = any (p.subject_ids)
          or r.conversation_id = any (p.conversation_ids)
          or r.source_id in (select private.messages_of(p.self))
      ) or r.user_id = any (p.user_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.conversation_watchers', 'delete',
    $$r.conversation_id = any (p.conversation_ids) or r.user_id = any (p.user_ids)$$,
    null, null, false, true, '{}', null, null, null),

-- files
('private.media_queue', 'delete',
    $$r.media_id in (
          select f.id
          from public.message_media f
          where f.message_id in (select private.messages_of(p.self))
      )$$,
    null, null, false, true, '{}', null, null, null),
('private.media_uploads', 'delete',
    $$r.account_id = p.account_id
      and (
          r.id = any (p.upload_ids)
          or r.object_key in (
              select f.object_key
              from public.message_media f
              where f.message_id in (select private.messages_of(p.self))
          )
      )
      -- one file may have been sent to several people
      and not exists (
          select
          from public.message_media f
          where f.account_id = p.account_id
            and f.object_key = r.object_key
            and f.message_id not in (select private.messages_of(p.self))
      )$$,
    null, null, false, true, '{}', null, null, null),
('public.message_media', 'delete',
    $$r.message_id in (select private.messages_of(p.self))$$,
    null, null, false, true, '{}', null, null, null),

-- what is known of messages
('private.message_statuses', 'delete',
    $$(r.whatsapp_channel_id, r.provider_id) in (
          select m.whatsapp_channel_id, m.provider_id from private.provider_ids_of(p.self) m
      )$$,
    null, null, false, true, '{}', null, null, null),
('private.message_effects', 'delete',
    $$(r.whatsapp_channel_id, r.parent_provider_id) in (
          select m.whatsapp_channel_id, m.provider_id from private.provider_ids_of(p.self) m
      )
      or r.whatsapp_channel_id = any (p.channel_ids) and r.sender_id = any (p.ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.call_events', 'delete',
    $$(r.whatsapp_channel_id, r.provider_id) in (
          select m.whatsapp_channel_id, m.provider_id from private.provider_ids_of(p.self) m
      )$$,
    null, null, false, true, '{}', null, null, null),
('private.parked_replies', 'delete', $$r.message_id in (select private.messages_of(p.self))$$,
    null, null, false, true, '{}', null, null, null),
('private.outbound_queue', 'delete', $$r.message_id in (select private.messages_of(p.self))$$,
    null, null, false, true, '{}', null, null, null),
('private.outbound_attempts', 'delete', $$r.message_id in (select private.messages_of(p.self))$$,
    null, null, false, true, '{}', null, null, null),
('private.message_failures', 'delete', $$r.message_id in (select private.messages_of(p.self))$$,
    null, null, false, true, '{}', null, null, null),

-- conversations
('public.scheduled_messages', 'delete',
    $$r.customer_id = any (p.contact_ids) or r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.conversation_notes', 'delete', $$r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, array['conversation_id', 'seq'], null),
('public.messages', 'delete', $$r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, array['conversation_id', 'seq'], null),
('public.messages', 'change',
    $$r.customer_id is null
      and r.sender_type = 'client'
      and r.sender_id = any (p.ids)
      and r.conversation_id in (
          select k.id
          from public.conversations k
          where k.account_id = p.account_id and k.group_id is not null
      )$$,
    'true',
    $$sender_id = null,
      sender_name = null,
      message = '',
      content = null,
      reactions = '[]',
      provider_id = null,
      revoked_at = coalesce(r.revoked_at, now())$$,
    false, true, '{}', null, array['conversation_id', 'seq'],
    'A message in a group keeps its place among those of others, without its contents.'),
('public.messages', 'change',
    $$r.customer_id is null
      and r.reactions <> '[]'
      and r.conversation_id in (
          select k.id
          from public.conversations k
          where k.account_id = p.account_id and k.group_id is not null
      )
      and r.reactions::text ~ p.ids_pattern
      and private.without_ids(r.reactions, p.ids) <> r.reactions$$,
    'true',
    $$reactions = private.without_ids(r.reactions, p.ids)$$,
    false, false, '{}', null, null, 'Others'' messages in a group lose the person''s reactions.'),
('public.read_markers', 'delete',
    $$r.conversation_id = any (p.conversation_ids) or r.user_id = any (p.user_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.conversation_activity', 'delete', $$r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.conversation_labels', 'delete', $$r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.desk_states', 'delete', $$r.id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.unclosed_labels', 'delete', $$r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.unclosed_conversations', 'delete', $$r.conversation_id = any (p.conversation_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.conversations', 'delete', $$r.customer_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.conversations', 'change',
    $$r.account_id = p.account_id
      and r.group_id is not null
      and private.without_ids(r.participants, p.ids) <> r.participants$$,
    'true',
    $$participants = private.without_ids(r.participants, p.ids)$$,
    false, false, '{}', null, null, 'A group is others'' too; the person leaves its list.'),
('private.group_events', 'change',
    $$r.whatsapp_channel_id = any (p.channel_ids)
      and private.without_ids(jsonb_build_array(r.joined, r.departed, r.named), p.ids)
          <> jsonb_build_array(r.joined, r.departed, r.named)$$,
    'true',
    $$joined = private.without_ids(r.joined, p.ids),
      departed = private.without_ids(r.departed, p.ids),
      named = private.without_ids(r.named, p.ids)$$,
    false, false, '{}', null, null, 'What happened in a group is about others too.'),

-- the portal
('private.sent_reminders', 'delete',
    $$r.account_id = p.account_id and r.subject_id = any (p.subject_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.loyalty_balances', 'delete', $$r.customer_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.loyalty_lots', 'delete', $$r.customer_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.loyalty_transactions', 'delete', $$r.customer_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.invoices', 'delete', $$r.customer_id = any (p.contact_ids) and r.sent_at is null$$,
    null, null, false, true, '{}', null, null, null),
('public.invoices', 'change',
    $$r.customer_id = any (p.contact_ids) and r.sent_at is not null$$,
    'r.description is not null',
    'description = null',
    false, true, '{}', null, null,
    'Tax law has a business keep the invoices that it sent: their numbers, amounts and dates stay.'),
('public.jobs', 'delete', $$r.customer_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.portal_invitation_tokens', 'delete',
    $$r.invitation_id in (
          select i.id from public.portal_invitations i where i.contact_id = any (p.contact_ids)
      )$$,
    null, null, false, false, '{}', null, null, null),
('public.portal_invitations', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),

-- Metakocka
('public.sync_conflicts', 'delete',
    $$r.account_id = p.account_id and (
          r.contact_id = any (p.contact_ids) or r.metakocka_id = any (p.partner_ids)
      )$$,
    null, null, false, true, '{}', null, null, null),
('public.sync_conflicts', 'change',
    $$r.account_id = p.account_id
      and (r.contact_id is null or r.contact_id <> all (p.contact_ids))
      and (
          r.candidates && p.contact_ids
          or private.without_ids(r.partners, p.partner_ids) <> r.partners
      )$$,
    'true',
    $$candidates = array(
          select c from unnest(r.candidates) c where c <> all (p.contact_ids)
      ),
      partners = private.without_ids(r.partners, p.partner_ids)$$,
    false, false, '{}', null, null, 'A question about somebody else no longer offers the person.'),
('public.sync_errors', 'delete',
    $$r.account_id = p.account_id and (
          r.contact_id = any (p.contact_ids) or r.metakocka_id = any (p.partner_ids)
      )$$,
    null, null, false, true, '{}', null, null, null),
('public.sync_runs', 'change',
    $$r.account_id = p.account_id
      and private.without_ids(r.request, p.partner_ids || p.contact_ids::text[]) <> r.request$$,
    'true',
    $$request = private.without_ids(r.request, p.partner_ids || p.contact_ids::text[])$$,
    false, false, '{}', null, null, 'A run was about others too.'),
('private.partner_intents', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    'not private.may_make_partner(r)',
    null, false, true, '{}', null, null, null),
('private.metakocka_dirty', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.metakocka_contact_mappings', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),

-- the ids of WhatsApp
('private.whatsapp_id_changes', 'delete',
    $$r.account_id = p.account_id and (
          r.old_key = any (p.ids) or r.new_value = any (p.ids)
          or r.kind = 'phone' and private.match_key('phone', r.new_value) = any (p.phone_keys)
      )$$,
    null, null, false, true, '{}', null, null, null),
('private.whatsapp_user_numbers', 'delete',
    $$r.account_id = p.account_id and (r.user_id = any (p.ids) or r.phone_key = any (p.phone_keys))$$,
    null, null, false, true, '{}', null, null, null),
('private.phone_book', 'delete',
    $$r.whatsapp_channel_id = any (p.channel_ids) and r.phone_key = any (p.phone_keys)$$,
    null, null, false, true, '{}', null, null, null),
('private.send_paces', 'delete',
    -- a recipient is the thread_key of conversations
    $$r.whatsapp_channel_id = any (p.channel_ids)
      and r.recipient = any (array(
          select k.kind || ':' || i
          from unnest(array['phone', 'bsuid']) as k (kind)
          cross join unnest(p.ids) i
      ))$$,
    null, null, false, true, '{}', null, null, null),

-- the contact
('public.contact_suggestions', 'delete',
    $$r.contact_id = any (p.contact_ids) or r.other_contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.contact_merges', 'delete',
    $$r.kept_contact_id = any (p.contact_ids) or r.dropped_contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.customer_words', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.stated_usernames', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.contact_search', 'delete', $$r.contact_id = any (p.contact_ids)$$,
    null, null, false, false, '{}', null, null, null),
('public.contact_identities', 'delete',
    $$r.account_id = p.account_id and r.contact_id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('public.customers', 'delete', $$r.id = any (p.contact_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.legal_holds', 'delete',
    $$r.account_id = p.account_id and r.contact_id = any (p.contact_ids)$$,
    null, null, false, false, '{}', null, null, null),
('public.contacts', 'change',
    $$r.id = any (p.contact_ids)$$,
    'num_nonnulls(r.marketing_stopped_at, r.marketing_chosen_at, r.status_changed_at) > 0',
    'marketing_stopped_at = null, marketing_chosen_at = null, status_changed_at = null',
    false, true, '{}', null, null,
    'The blanked row stays for the invoices that have to be kept, and so that its id is no other''s.'),

-- The login, if it is used for nothing else. Its rows in auth go in one transaction: somebody else
-- may take a login at any time, and needs it whole.
('public.push_subscriptions', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, true, array['auth', 'p256dh'], null, null, null),
('public.notification_choices', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, true, '{}', null, null, null),
('private.user_writes', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, false, '{}', null, null, null),
('auth.flow_state', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, false, '{}', null, null, null),
('auth.one_time_tokens', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, false, '{}', null, null, null),
('auth.mfa_amr_claims', 'delete',
    $$r.session_id in (select s.id from auth.sessions s where s.user_id = any (p.user_ids))$$,
    null, null, false, false, '{}', null, null, null),
('auth.refresh_tokens', 'delete', $$r.user_id = any (p.user_ids::text[])$$,
    null, null, false, false, '{}', null, null, null),
('auth.sessions', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, true, '{}', null, null, null),
('auth.identities', 'delete', $$r.user_id = any (p.user_ids)$$,
    null, null, false, true, '{}', null, null, null),
('auth.users', 'delete', $$r.id = any (p.user_ids)$$,
    null, null, false, true,
    array[
        'encrypted_password', 'confirmation_token', 'recovery_token', 'email_change_token_new',
        'email_change_token_current', 'phone_change_token', 'reauthentication_token'
    ],
    null, null, null),
-- not in a database of this machine
('auth.audit_log_entries', 'delete',
    $$r.payload ->> 'actor_id' = any (p.user_ids::text[])
      or r.payload #>> '{traits,user_id}' = any (p.user_ids::text[])$$,
    null, null, true, false, '{}', null, null, null),

-- last, since the erasure itself broadcasts: ids alone
('realtime.messages', 'delete',
    $$split_part(r.topic, ':', 2) = any ((p.contact_ids || p.conversation_ids)::text[])
      or coalesce(r.payload #>> '{record,account_id}', r.payload #>> '{old_record,account_id}')
             = p.account_id::text
         and r.payload::text ~ p.pattern$$,
    null, null, true, false, '{}', null, null, null);


insert into private.personal_tables (table_name, treatment, is_exported, why)
select t.table_name, 'keep', false, t.why
from (
    values
    ('private.changes', 'Ids alone: clients that were away learn from it what is gone.'),
    ('private.topic_epochs', 'Ids alone.'),
    ('private.forgotten_partners', 'Salted hashes of partners, so that the sync does not bring them back.'),
    ('private.partner_salts', 'The salts.'),
    ('private.erased_messages', 'Hashes of messages'' ids, so that their updates do not bring the person back.'),
    ('public.privacy_actions', 'Who did what, when, and counts: ids alone.'),
    ('private.erasures', 'What an erasure still needs; its end deletes it.'),
    ('private.erased_files', 'Files that are still to be removed; then it is deleted.'),
    ('private.found_words', 'Where an erasure found words of the person in rows of others: ids alone.')
) as t (table_name, why);

insert into private.personal_tables (table_name, treatment, is_exported, why)
select t.table_name, 'none', false, t.why
from (
    values
    ('public.accounts', 'The business.'),
    ('public.account_members', 'Staff.'),
    ('private.member_invitations', 'Staff.'),
    ('public.whatsapp_channels', 'The numbers of the business.'),
    ('public.whatsapp_templates', 'Templates with variables in the place of words.'),
    ('public.account_events', 'What WhatsApp says of the business.'),
    ('public.account_health', 'Troubles of the business.'),
    ('public.labels', 'The words of the business.'),
    ('public.saved_replies', 'The words of the business.'),
    ('public.reminder_rules', 'The words of the business.'),
    ('public.status_words', 'Words of faces.'),
    ('public.metakocka_connections', 'Settings.'),
    ('private.metakocka_companies', 'Settings.'),
    ('private.sync_leases', 'Workers.'),
    ('private.desk_presence', 'Staff.'),
    ('private.desk_turns', 'Staff.'),
    ('private.desk_epochs', 'Numbers of topics.'),
    ('private.refused_signatures', 'Counts.'),
    ('private.change_log', 'Settings.'),
    ('private.retention', 'Settings.'),
    ('private.retention_passes', 'Counts.'),
    ('private.account_usage', 'Counts.'),
    ('private.file_deletions', 'Names of files that are deleted within the hour, made of ids.'),
    ('private.doorbell', 'Settings.'),
    ('private.schedule_runs', 'When schedules ran.'),
    ('private.push_settings', 'Settings.'),
    ('private.followed_tables', 'A list of the schema.'),
    ('private.contact_fields', 'A list of the schema.'),
    ('private.personal_tables', 'A list of the schema.'),
    ('private.media_types', 'A list of WhatsApp''s.'),
    ('private.send_errors', 'A list of WhatsApp''s.'),
    ('private.country_time_zones', 'A list of countries.'),
    ('private.sentences', 'Words of the product.'),
    ('net.http_request_queue', 'Calls of the doorbell, which name a worker.'),
    ('net._http_response', 'Answers to the doorbell.'),
    ('local_inbox.messages', 'Mails and SMS of the stand-in on one machine.')
) as t (table_name, why);


comment on table private.personal_tables is
    'Every table of the database: its rows about a person, and what an erasure does with them.';
comment on policy "nobody reads the list of personal tables directly" on private.personal_tables is
    'Export and erasure read it.';
