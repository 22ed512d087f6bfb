/*
    The ERP's face of a contact: the fields that partners have, which partner it is, and how the
    two stand. Written as the other faces are; what is written here is on its way to Metakocka.
*/
create view public.metakocka_partners
    with (security_invoker = true)
as
select
    c.id,
    c.account_id,
    c.name,
    c.email,
    c.phone,
    c.gsm,
    c.fax,
    c.business_entity,
    c.taxpayer,
    c.foreign_county,
    c.buyer,
    c.supplier,
    c.tax_id_number,
    c.registration_number,
    c.street,
    c.post_number,
    c.place,
    c.province,
    c.country,
    c.people,
    c.addresses,
    w.word as conversation_status,
    m.metakocka_id,
    m.state as sync_state,
    m.missing,
    m.last_synced_at,
    c.created_at,
    c.updated_at,
    c.version
from private.contact_states s
join public.contacts c
    on c.id = s.id
join public.status_words w
    on w.face = 'erp'
   and w.status = s.status
left join public.metakocka_contact_mappings m
    on m.contact_id = c.id;


grant select, insert, update, delete on public.metakocka_partners to authenticated;


create trigger _100_expect_hits
    before insert or update or delete on public.metakocka_partners
    for each statement
    execute function private.tg__expect_hits();

create trigger _110_expect_version
    before update of version on public.metakocka_partners
    for each statement
    execute function private.tg__expect_version();

create trigger _500_write_face
    instead of insert or update or delete on public.metakocka_partners
    for each row
    execute function private.tg__write_face('erp');

create trigger _900_require_hits
    after insert or update or delete on public.metakocka_partners
    for each statement
    execute function private.tg__require_hits();


comment on view public.metakocka_partners is
    'Contacts as Metakocka has partners, with the state of their sync. Write any of the fields that partners have; a write that hits nothing is refused (404), one of a version that has passed as well (409).';
comment on column public.metakocka_partners.name is
    'What staff call them; the name of a WhatsApp profile is not sent.';
comment on column public.metakocka_partners.conversation_status is
    'O, P or C: of the current conversation, the latest active; the contact''s own before the first.';
comment on column public.metakocka_partners.metakocka_id is
    'The partner''s mk_id; null while it is not there.';
comment on column public.metakocka_partners.sync_state is
    'As in metakocka_contact_mappings; null where it was never looked at.';
comment on column public.metakocka_partners.missing is
    'The fields that Metakocka asks for and that are missing.';
comment on column public.metakocka_partners.last_synced_at is
    'When both sides last agreed on something new.';


select private.limit_writes('metakocka_partners', '{insert,update,delete}');
