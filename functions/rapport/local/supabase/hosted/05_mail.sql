/*
    The local inbox: the mails and SMS of Auth. A hosted project has nothing like it; there they
    go to the mail server and to the SMS provider. Run as supabase_admin.
*/
create schema local_inbox authorization supabase_auth_admin;

set role supabase_auth_admin;


create table local_inbox.messages (
    id        bigint generated always as identity
              constraint messages_pkey primary key,
    sent_at   timestamptz not null default now(),
    channel   text not null
              constraint messages_channel_check check (channel in ('email', 'sms')),
    recipient text not null,
    subject   text not null,
    body      text not null,
    code      text,
    link      text
);
alter table local_inbox.messages enable row level security;


create policy "Auth writes and reads what it has sent"
    on local_inbox.messages
    to supabase_auth_admin
    using (true)
    with check (true);


create index messages_recipient_idx on local_inbox.messages (recipient, id);


comment on table local_inbox.messages is
    'The last messages that Auth sent. Codes and links are readable: a real inbox has them too.';

reset role;
