/*
    The contacts page's face of a contact: status in lower case.
*/
create view public.contacts_v2
    with (security_invoker = true)
as
select
    s.id,
    s.account_id,
    s.name,
    s.profile_name,
    s.phone,
    s.username,
    s.email,
    s.tags,
    s.notes,
    s.preferences,
    s.marketing_stopped_at,
    w.word as conversation_status,
    s.conversation_id,
    s.portal_user_id,
    s.created_at,
    s.updated_at,
    s.version
from private.contact_states s
join public.status_words w
    on w.face = 'contacts_page'
   and w.status = s.status;


grant select, insert, update, delete on public.contacts_v2 to authenticated;


create trigger _100_expect_hits
    before insert or update or delete on public.contacts_v2
    for each statement
    execute function private.tg__expect_hits();

create trigger _110_expect_version
    before update of version on public.contacts_v2
    for each statement
    execute function private.tg__expect_version();

create trigger _500_write_face
    instead of insert or update or delete on public.contacts_v2
    for each row
    execute function private.tg__write_face('contacts_page');

create trigger _900_require_hits
    after insert or update or delete on public.contacts_v2
    for each statement
    execute function private.tg__require_hits();


comment on view public.contacts_v2 is
    'Contacts as the contacts page has them. Write name, phone, email, username, tags, notes, preferences and conversation_status; a write that hits nothing is refused (404), one of a version that has passed as well (409).';
comment on column public.contacts_v2.name is
    'What staff call them, or else the name of their WhatsApp profile.';
comment on column public.contacts_v2.marketing_stopped_at is
    'Since when the person takes no marketing messages on WhatsApp, by their own choice there; read-only.';
comment on column public.contacts_v2.conversation_status is
    'open, pending or closed: of the current conversation, the latest active; the contact''s own before the first.';
comment on column public.contacts_v2.conversation_id is
    'The current conversation, to which a written status goes.';


select private.limit_writes('contacts_v2', '{insert,update,delete}');
