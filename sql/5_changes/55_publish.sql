/*
    What follows from a change of a followed row, in the same transaction. Per statement, not
    per row: 50,000 rows with a send each took 3.83 s and 50,001 transaction ids, without 0.44 s.
*/
create function private.shown_change(old_row jsonb, new_row jsonb)
    returns private.row_change
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- what is deleted softly is gone for everybody, and what is undeleted is new
    return (
        case
            when old_row ->> 'deleted_at' is null then
                case
                    when new_row ->> 'deleted_at' is null then old_row
                    -- a tombstone's version is that of the deletion
                    else old_row || jsonb_build_object('version', new_row -> 'version')
                end
        end,
        case when new_row ->> 'deleted_at' is null then new_row end
    )::private.row_change;
end
$$;


create function private.publish_changes(
    followed private.followed_tables,
    operation text,
    changes private.row_change[]
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    logged constant integer :=
        private.log_changes(followed, operation => operation, changes => changes);
    to_tell private.row_change[] := changes;
    told integer;
begin
    if current_setting('rapport.quiet', true) = 'on' then
        -- staff are told once, when all of it is done; customers of their own at once
        to_tell := array(
            select c
            from unnest(changes) c
            where coalesce(c.old ->> 'portal_user_id', c.new ->> 'portal_user_id') is not null
        );
    end if;
    if to_tell <> '{}' then
        told := private.broadcast_changes(followed, to_tell);
    end if;
    return logged;
end
$$;


create function private.publish_from(
    followed private.followed_tables,
    operation text,
    source refcursor
)
    returns integer
    language plpgsql
    set search_path = ''
as $$
declare
    held constant integer := 1000;
    change private.row_change;
    changes private.row_change[];
    topics text[] := '{}';
    logged integer := 0;
begin
    loop
        changes := '{}';
        loop
            fetch source into change.old, change.new;
            exit when not found;
            changes := changes || change;
            exit when cardinality(changes) = held;
        end loop;
        exit when changes = '{}';
        if logged = 0 and cardinality(changes) < held then
            return private.publish_changes(followed, operation => operation, changes => changes);
        end if;

        -- too much to hold at once, and to tell one by one: everybody concerned reads again
        logged := logged
            + private.log_changes(followed, operation => operation, changes => changes);
        topics := array(
            select unnest(topics)
            union
            select t.topic
            from private.changed_topics(followed, changes) t
        );
    end loop;
    perform private.broadcast_to(
        topics => topics,
        event => 'resync',
        payload => jsonb_build_object('tables', array[followed.table_name])
    );
    return logged;
end
$$;


comment on function private.shown_change(jsonb, jsonb) is
    'A row before and after an update, as those see it who do not see what is deleted.';
comment on function private.publish_changes(private.followed_tables, text, private.row_change[]) is
    'Logs changes and tells them; returns how many entries.';
comment on function private.publish_from(private.followed_tables, text, refcursor) is
    'The same of as many as a cursor (old, new) has: more than 1000 are told as one resync.';
