/*
    The fields that contacts share with partners: how they are read together, what is taken of
    them, and what of them a contact is known by.
*/
create function private.contact_party(contact public.contacts)
    returns jsonb
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    -- the name that staff gave: not that of the WhatsApp profile, which anybody may choose
    return to_jsonb(contact) - private.unshared_columns();
end
$$;


/*
    Tax numbers are one with and without the country before them; of two countries they are two.
    So the key, which leaves the country out, only finds those of whom same_tax tells.
    (rapport.metakocka.agreement.compare has the same rule.)
*/
create function private.tax_country(tax_id_number text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return coalesce(
        substring(
            upper(regexp_replace(tax_id_number, '[^A-Za-z0-9]', '', 'g'))
            from '^(A[LT]|B[AEG]|C[HYZ]|D[EK]|E[ELS]|F[IR]|G[BR]|H[RU]|I[ET]|L[TUV]|M[EKT]|N[LO]|P[LT]|R[OS]|S[EIK]|X[IK])[A-Z]{0,2}[0-9]'
        ),
        ''
    );
end
$$;


create function private.tax_key(tax_id_number text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return substr(
        upper(regexp_replace(tax_id_number, '[^A-Za-z0-9]', '', 'g')),
        length(private.tax_country(tax_id_number)) + 1
    );
end
$$;


create function private.same_tax(one text, other text)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return private.tax_key(one) = private.tax_key(other)
        and (
            private.tax_country(one) = private.tax_country(other)
            or '' in (private.tax_country(one), private.tax_country(other))
        );
end
$$;


create function private.number_tail(number text)
    returns text
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return right(regexp_replace(number, '[^0-9]', '', 'g'), 6);
end
$$;


-- whom a tax number may be; no identity, since the branches of a company share one
create index contacts_tax_key_idx
    on public.contacts (account_id, private.tax_key(tax_id_number))
    where tax_id_number is not null;

-- whom a mobile number may be that is written without its country, and so is no identity
create index contacts_gsm_tail_idx
    on public.contacts (account_id, private.number_tail(gsm))
    where gsm is not null and left(gsm, 1) <> '+';


comment on function private.contact_party(public.contacts) is
    'The fields of a contact that a partner has as well.';
comment on function private.tax_country(text) is
    'The country before a tax number, two letters; empty where there is none.';
comment on function private.tax_key(text) is
    'One key for the spellings of a tax number, without its country.';
comment on function private.same_tax(text, text) is
    'Whether two tax numbers are one: one may lack its country.';
comment on function private.number_tail(text) is
    'The last six digits of a number, which all its spellings have.';
comment on index public.contacts_gsm_tail_idx is
    'Whom a partner''s mobile number may be.';
comment on index public.contacts_tax_key_idx is
    'Whom a partner''s tax number may be.';
