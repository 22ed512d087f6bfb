/*
    A face of contacts is a view that shows the fields which private.contact_fields has for it,
    and takes writes by the triggers of write_faces. The columns of all faces come first, so that
    a field that is added later is its last column, and the view can be made again.
*/
create function private.make_face(
    view_name text,
    -- as in status_words
    face text,
    -- further columns that the face shows: of contact_states (s), and of the joined table
    more text[],
    joined text default '',
    name text default 's.name'
)
    returns void
    language plpgsql
    set search_path = ''
as $make$
declare
    fields constant text := (
        select string_agg(
            case f.field
                when 'name' then make_face.name || ' as name'
                else 's.' || quote_ident(f.field)
            end,
            ', ' order by f.place
        )
        from private.contact_fields f
        where make_face.face = any (f.shown_by)
    );
    documented record;
begin
    execute format(
        $sql$
        create or replace view public.%1$I
            with (security_invoker = true)
        as
        select
            s.id, s.account_id, w.word as conversation_status, %2$s, s.created_at, s.updated_at,
            s.version, %3$s
        from private.contact_states s
        join public.status_words w
            on w.face = %4$L
           and w.status = s.status
        %5$s;

        grant select, insert, update, delete on public.%1$I to authenticated;

        create or replace trigger _100_expect_hits
            before insert or update or delete on public.%1$I
            for each statement
            execute function private.tg__expect_hits();

        create or replace trigger _110_expect_version
            before update of version on public.%1$I
            for each statement
            execute function private.tg__expect_version();

        create or replace trigger _500_write_face
            instead of insert or update or delete on public.%1$I
            for each row
            execute function private.tg__write_face(%4$L);

        create or replace trigger _900_require_hits
            after insert or update or delete on public.%1$I
            for each statement
            execute function private.tg__require_hits();
        $sql$,
        view_name, array_to_string(more, ', '), fields, face, joined
    );

    -- the comment of the table's column serves for the face's column, unless the face has its own
    for documented in
        select a.attname, d.description
        from pg_catalog.pg_attribute a
        join pg_catalog.pg_attribute c
            on c.attrelid = 'public.contacts'::regclass
           and c.attname = a.attname
        join pg_catalog.pg_description d
            on d.classoid = 'pg_catalog.pg_class'::regclass
           and d.objoid = c.attrelid
           and d.objsubid = c.attnum
        where a.attrelid = format('public.%I', view_name)::regclass
          and pg_catalog.col_description(a.attrelid, a.attnum) is null
    loop
        execute format(
            'comment on column public.%I.%I is %L',
            view_name, documented.attname, documented.description
        );
    end loop;
end
$make$;


comment on function private.make_face(text, text, text[], text, text) is
    'Makes a face''s view, or makes it again for the fields that it shows now.';
