/*
    Two businesses that know nothing of each other, their staff and a customer of each, so
    that isolation can be seen. For development only: every password is rapport-demo.
*/
with people (id, email, name) as (
    values
        ('0a000000-0000-4000-8000-000000000001'::uuid, 'olivia@alpine.example', 'Olivia Ozbolt'),
        ('0a000000-0000-4000-8000-000000000002', 'andrej@alpine.example', 'Andrej Arko'),
        ('0a000000-0000-4000-8000-000000000003', 'cilka@customers.example', 'Cilka Cerar'),
        ('0b000000-0000-4000-8000-000000000001', 'otto@bay.example', 'Otto Obrez'),
        ('0b000000-0000-4000-8000-000000000002', 'ana@bay.example', 'Ana Avsec'),
        ('0b000000-0000-4000-8000-000000000003', 'carlos@customers.example', 'Carlos Costa')
),
logins as (
    insert into auth.users (
        instance_id, id, aud, role, email, encrypted_password, email_confirmed_at,
        raw_app_meta_data, raw_user_meta_data, created_at, updated_at,
        confirmation_token, recovery_token, email_change_token_new, email_change
    )
    select
        '00000000-0000-0000-0000-000000000000',
        p.id,
        'authenticated',
        'authenticated',
        p.email,
        extensions.crypt('rapport-demo', extensions.gen_salt('bf')),
        now(),
        '{"provider": "email", "providers": ["email"]}',
        jsonb_build_object('name', p.name),
        now(),
        now(),
        '', '', '', ''
    from people p
    returning id, email
)
insert into auth.identities (
    id, user_id, provider_id, provider, identity_data, last_sign_in_at, created_at, updated_at
)
select
    gen_random_uuid(),
    l.id,
    l.id::text,
    'email',
    jsonb_build_object('sub', l.id::text, 'email', l.email, 'email_verified', true),
    now(),
    now(),
    now()
from logins l;


insert into public.accounts (id, external_id, name, country)
values
    ('a0000000-0000-4000-8000-00000000000a', '695a15a5c526dbe7c085ece2', 'Alpine Carpet Care', 'SI'),
    ('b0000000-0000-4000-8000-00000000000b', '695a15a5c526dbe7c085ece3', 'Bay Boat Rental', 'BR');


insert into public.account_members (account_id, user_id, role, display_name)
values
    ('a0000000-0000-4000-8000-00000000000a', '0a000000-0000-4000-8000-000000000001', 'owner', 'Olivia Ozbolt'),
    ('a0000000-0000-4000-8000-00000000000a', '0a000000-0000-4000-8000-000000000002', 'agent', 'Andrej Arko'),
    ('b0000000-0000-4000-8000-00000000000b', '0b000000-0000-4000-8000-000000000001', 'owner', 'Otto Obrez'),
    ('b0000000-0000-4000-8000-00000000000b', '0b000000-0000-4000-8000-000000000002', 'agent', 'Ana Avsec');


insert into public.whatsapp_channels (account_id, phone_number_id, waba_id, display_phone_number, name)
values
    ('a0000000-0000-4000-8000-00000000000a', '1003427786179738', '102290129340398', '+386 1 555 01 00', 'Alpine front desk'),
    ('b0000000-0000-4000-8000-00000000000b', '1003427786179739', '102290129340399', '+386 5 555 02 00', 'Bay harbour office');


-- the customers, known by number and able to enter the portal
with customers (id, account_id, name, phone, email, portal_user_id) as (
    values
        (
            'c0000000-0000-4000-8000-00000000000a'::uuid,
            'a0000000-0000-4000-8000-00000000000a'::uuid,
            'Cilka Cerar',
            '+38640111222',
            'cilka@customers.example',
            '0a000000-0000-4000-8000-000000000003'::uuid
        ),
        (
            'c0000000-0000-4000-8000-00000000000b',
            'b0000000-0000-4000-8000-00000000000b',
            'Carlos Costa',
            '+5511987654321',
            'carlos@customers.example',
            '0b000000-0000-4000-8000-000000000003'
        )
),
known as (
    insert into public.contacts (id, account_id, name, phone, email, portal_user_id)
    select c.id, c.account_id, c.name, c.phone, c.email, c.portal_user_id
    from customers c
    returning id, account_id, phone, email
)
insert into public.contact_identities (account_id, kind, value, contact_id)
select k.account_id, i.kind, i.value, k.id
from known k
cross join lateral (values ('phone', k.phone), ('email', k.email)) as i (kind, value);
