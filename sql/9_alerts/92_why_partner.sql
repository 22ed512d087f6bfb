/*
    A contact and its partner at Metakocka: the connection, which contact is which partner, and what
    the sync waits for.
*/
create function private.connection_step(account_id uuid)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    connection public.metakocka_connections;
begin
    select k.*
    into connection
    from public.metakocka_connections k
    where k.account_id = connection_step.account_id;
    return case
        when connection.account_id is null then private.as_step('connection.none', false)
        when not connection.active then private.as_step('connection.off', false)
        when connection.paused_until > now() then private.as_step(
            'connection.paused',
            false,
            jsonb_build_object(
                'until', connection.paused_until,
                'reason', connection.pause_reason,
                'pauses', connection.pauses
            )
        )
        else private.as_step('connection.active', true)
    end;
end
$$;


create function private.question_step(account_id uuid, contact_id uuid, metakocka_id text)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    asked record;
begin
    select
        min(c.created_at) as since,
        array_agg(c.id order by c.created_at, c.id) as conflict_ids,
        array_agg(c.field order by c.field) filter (where c.field is not null) as fields,
        bool_or(c.field is null) as is_about_identity
    into asked
    from public.sync_conflicts c
    where c.account_id = question_step.account_id
      and c.state = 'open'
      and (
          c.contact_id = question_step.contact_id
          or c.metakocka_id = question_step.metakocka_id
          -- a partner that may be this contact
          or question_step.contact_id = any (c.candidates)
          or c.partners @> jsonb_build_array(
              jsonb_build_object('metakocka_id', question_step.metakocka_id))
      );
    return case
        when asked.since is null then private.as_step('question.none', true)
        when asked.is_about_identity then private.as_step('question.identity', false, to_jsonb(asked))
        else private.as_step('question.field', false, to_jsonb(asked))
    end;
end
$$;


create function private.error_step(
    account_id uuid,
    contact_id uuid,
    metakocka_id text,
    since timestamptz
)
    returns private.why_step
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    latest public.sync_errors;
begin
    select e.*
    into latest
    from public.sync_errors e
    where e.account_id = error_step.account_id
      and (e.contact_id = error_step.contact_id or e.metakocka_id = error_step.metakocka_id)
      and e.created_at > coalesce(since, '-infinity')
    order by e.created_at desc, e.id
    limit 1;
    if not found then
        return private.as_step('error.none', true);
    end if;
    return private.as_step('error.latest', false, jsonb_build_object(
        'sync_error_id', latest.id,
        'run_id', latest.run_id,
        'operation', latest.operation,
        'error_code', latest.code,
        'reason', left(latest.message, 500),
        'at', latest.created_at
    ));
end
$$;


-- Of a contact, or of a partner that is no contact: then contact_id is null.
create function private.partner_steps(account_id uuid, contact_id uuid, metakocka_id text)
    returns private.why_step[]
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    mapping public.metakocka_contact_mappings;
    mark private.metakocka_dirty;
    call private.partner_intents;
    partner private.why_step;
    question private.why_step;
    error private.why_step;
    facts jsonb;
begin
    select m.*
    into mapping
    from public.metakocka_contact_mappings m
    where m.account_id = partner_steps.account_id
      and (
          m.contact_id = partner_steps.contact_id
          or m.metakocka_id = partner_steps.metakocka_id
      );
    question := private.question_step(
        account_id => partner_steps.account_id,
        contact_id => coalesce(mapping.contact_id, partner_steps.contact_id),
        metakocka_id => coalesce(mapping.metakocka_id, partner_steps.metakocka_id)
    );
    error := private.error_step(
        account_id => partner_steps.account_id,
        contact_id => coalesce(mapping.contact_id, partner_steps.contact_id),
        metakocka_id => coalesce(mapping.metakocka_id, partner_steps.metakocka_id),
        since => mapping.last_synced_at
    );
    facts := jsonb_build_object(
        'contact_id', coalesce(mapping.contact_id, partner_steps.contact_id),
        'metakocka_id', coalesce(mapping.metakocka_id, partner_steps.metakocka_id),
        'state', mapping.state,
        'last_run', (
            select max(r.finished_at)
            from public.sync_runs r
            where r.account_id = partner_steps.account_id
              and r.state = 'done'
              and r.direction <> 'to_metakocka'
        )
    );

    partner := case
        when mapping.state = 'unlinked' then private.as_step('partner.unlinked', false, facts)
        when mapping.contact_id is not null and mapping.metakocka_id is not null
            then private.as_step('partner.mapped', true, facts)
        -- the steps that follow say why
        when partner_steps.contact_id is not null
            then private.as_step('partner.unmapped', null, facts)
        when question.ok and error.ok then private.as_step('partner.unread', false, facts)
        else private.as_step('partner.open', null, facts)
    end;
    if mapping.contact_id is null and partner_steps.contact_id is null then
        return array[
            private.connection_step(partner_steps.account_id), partner, question, error];
    end if;

    select d.*
    into mark
    from private.metakocka_dirty d
    where d.contact_id = coalesce(mapping.contact_id, partner_steps.contact_id);
    select i.*
    into call
    from private.partner_intents i
    where i.contact_id = coalesce(mapping.contact_id, partner_steps.contact_id)
      and i.state in ('sent', 'unknown');

    return array[
        private.connection_step(partner_steps.account_id),
        partner,
        question,
        case
            when mapping.missing <> '{}' then private.as_step(
                'fields.missing', false, jsonb_build_object('missing', mapping.missing))
            else private.as_step('fields.complete', true)
        end,
        case
            when call.id is null then private.as_step('call.none', true)
            when call.state = 'sent' and call.sent_at > now() - interval '1 minute'
                then private.as_step('call.unknown', null, jsonb_build_object('since', call.sent_at))
            else private.as_step('call.unknown', false, jsonb_build_object('since', call.sent_at))
        end,
        error,
        case
            when mark.contact_id is null then private.as_step('mark.none', true)
            when coalesce(mark.edited_at, mark.not_before) < now() - interval '5 minutes'
                then private.as_step('mark.late', false, jsonb_build_object(
                    'since', coalesce(mark.edited_at, mark.not_before), 'attempts', mark.attempts))
            else private.as_step('mark.waiting', null, jsonb_build_object(
                'since', coalesce(mark.edited_at, mark.not_before)))
        end,
        case
            when mapping.last_synced_at is null then private.as_step('agreed.never', null)
            else private.as_step(
                'agreed.since', true, jsonb_build_object('at', mapping.last_synced_at))
        end
    ];
end
$$;


comment on function private.connection_step(uuid) is
    'Whether an account is connected to Metakocka, and whether Metakocka takes calls.';
comment on function private.question_step(uuid, uuid, text) is
    'Whether a person has to decide something about a contact or a partner.';
comment on function private.error_step(uuid, uuid, text, timestamptz) is
    'The latest error of the sync about a contact or a partner since a time.';
comment on function private.partner_steps(uuid, uuid, text) is
    'The way between a contact and its partner.';
