/*
    The fields that contacts share with partners: how they are read together, and which of them
    identify a contact.
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
    A tax number with its country and the same number without it are one; with two different
    countries they are two. The key has no country, so it only finds candidates, and same_tax
    decides. (rapport.metakocka.agreement.compare has the same rule.)
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


-- contacts that may own a tax number; it is no identity, since branches of a company share it
create index contacts_tax_key_idx
    on public.contacts (account_id, private.tax_key(tax_id_number))
    where tax_id_number is not null;

-- contacts that may own a mobile number without a country, which is no identity
create index contacts_gsm_tail_idx
    on public.contacts (account_id, private.number_tail(gsm))
    where gsm is not null and left(gsm, 1) <> '+';


comment on function private.contact_party(public.contacts) is
    'The fields of a contact that partners have too.';
comment on function private.tax_country(text) is
    'The country of a tax number, two letters; empty where it has none.';
comment on function private.tax_key(text) is
    'One key for all spellings of a tax number, without its country.';
comment on function private.same_tax(text, text) is
    'Whether two tax numbers are the same; one of them may lack its country.';
comment on function private.number_tail(text) is
    'The last six digits of a number, which are the same in all its spellings.';
comment on index public.contacts_gsm_tail_idx is
    'Finds the contacts that may own a partner''s mobile number.';
comment on index public.contacts_tax_key_idx is
    'Finds the contacts that may own a partner''s tax number.';
