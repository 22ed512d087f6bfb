/*
    The fields that contacts share with partners: how they are read together, and which of them
    identify a contact.
*/
create function private.contact_party(contact public.contacts)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- the name that staff gave: not that of the WhatsApp profile, which anybody may choose
    return jsonb_build_object(
        'name', contact.name,
        'email', contact.email,
        'phone', contact.phone,
        'gsm', contact.gsm,
        'fax', contact.fax,
        'business_entity', contact.business_entity,
        'taxpayer', contact.taxpayer,
        'foreign_county', contact.foreign_county,
        'buyer', contact.buyer,
        'supplier', contact.supplier,
        'tax_id_number', contact.tax_id_number,
        'registration_number', contact.registration_number,
        'street', contact.street,
        'post_number', contact.post_number,
        'place', contact.place,
        'province', contact.province,
        'country', contact.country,
        'people', contact.people,
        'addresses', contact.addresses
    );
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


create function private.clean_partner_fields(fields jsonb)
    returns jsonb
    language plpgsql
    immutable
    set search_path = ''
as $$
declare
    cleaned jsonb := fields;
    field text;
    longest integer;
begin
    for field, longest in
        values
            ('gsm', 255), ('fax', 255), ('tax_id_number', 50), ('registration_number', 50),
            ('street', 150), ('post_number', 20), ('place', 100), ('province', 50), ('country', 50)
    loop
        continue when not cleaned ? field;
        if jsonb_typeof(cleaned -> field) not in ('string', 'null') then
            raise sqlstate 'PT422' using
                message = format('The %s is a text.', field),
                detail = 'field: ' || field,
                hint = 'Send a text, or null for none.';
        end if;
        cleaned := jsonb_set(
            cleaned, array[field],
            coalesce(to_jsonb(nullif(btrim(cleaned ->> field, E' \t\r\n'), '')), 'null'));
        if length(cleaned ->> field) > longest then
            raise sqlstate 'PT422' using
                message = format('The %s is too long.', field),
                detail = 'field: ' || field,
                hint = format('At most %s characters.', longest);
        end if;
    end loop;

    foreach field in array array[
        'business_entity', 'taxpayer', 'foreign_county', 'buyer', 'supplier'
    ] loop
        if jsonb_typeof(cleaned -> field) not in ('boolean', 'null') then
            raise sqlstate 'PT422' using
                message = format('%s is true or false.', field),
                detail = 'field: ' || field,
                hint = 'Send true, false, or null for what is not known.';
        end if;
    end loop;

    foreach field in array array['people', 'addresses'] loop
        continue when not cleaned ? field;
        if jsonb_typeof(cleaned -> field) = 'null' then
            cleaned := jsonb_set(cleaned, array[field], '[]');
        end if;
        if jsonb_typeof(cleaned -> field) <> 'array'
            or cleaned -> field @? 'strict $[*] ? (@.type() != "object")'
            or octet_length((cleaned -> field)::text) > 32768
        then
            raise sqlstate 'PT422' using
                message = format('%s are a list of objects.', field),
                detail = 'field: ' || field,
                hint = 'At most 32 kB.';
        elsif cleaned -> field @? 'strict $.** ? (@.type() == "number") ? (@ >= 1e300 || @ <= -1e300)' then
            -- jsonb keeps all their digits, and readers give up on thousands of them
            raise sqlstate 'PT422' using
                message = format('A number in %s is too large.', field),
                detail = 'field: ' || field,
                hint = 'Write it as a text.';
        end if;
    end loop;
    return cleaned;
end
$$;


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
    'Whom a partner''s tax number may be.';
comment on function private.clean_partner_fields(jsonb) is
    'The fields that contacts share with partners without stray spaces, or a refusal that names the field.';
