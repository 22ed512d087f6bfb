/*
    The change log: one entry for every change of a followed row, written in the transaction
    of the change. Broadcast, catch-up, polling and tombstones all come from it, so they
    cannot disagree.

    (An index on a stamp column of the rows would prevent HOT updates: 0 of 30,000 updates were HOT
    with it, 30,000 of 30,000 with the log.)
*/
create type private.change_operation as enum ('INSERT', 'UPDATE', 'DELETE');

create table private.changes (
    -- The writing transaction. Compared with a snapshot it shows which entries a reader has not
    -- seen yet. A sequence can't show that, since transactions commit out of order.
    xid                xid8 not null default pg_current_xact_id(),
    seq                bigint generated always as identity,
    account_id         uuid not null,
    -- the customer who follows the row; null where only staff follow it
    customer_id        uuid,
    conversation_id    uuid,
    table_name         text not null,
    row_id             uuid not null,
    operation          private.change_operation not null,
    -- The operation as the customer sees it, where it differs. A row that becomes visible to the
    -- customer is new to the customer.
    customer_operation private.change_operation,
    version            bigint not null,
    logged_at          timestamptz not null default now(),

    primary key (account_id, xid, seq)
);
alter table private.changes enable row level security;


create index changes_customer_idx
    on private.changes (customer_id, xid, seq)
    where customer_id is not null;


create policy "nobody reads the change log directly"
    on private.changes
    for all
    to authenticated
    using (false);


/*
    One row: the epoch of the log, and how long entries are kept.
*/
create table private.change_log (
    only_row  boolean primary key default true
              constraint change_log_only_row_check check (only_row),
    epoch     uuid not null default gen_random_uuid(),
    retention interval not null default interval '14 days'
              constraint change_log_retention_check check (retention >= interval '1 hour')
);
alter table private.change_log enable row level security;


create policy "nobody reads the change log's settings directly"
    on private.change_log
    for all
    to authenticated
    using (false);


insert into private.change_log default values;


create function private.change_log_epoch()
    returns text
    language sql
    stable
    set search_path = ''
as $$
    /*
        A restore starts a new timeline, a new cluster or a new database, or fills the log's table
        anew. It undoes later changes, and transaction ids then name other transactions. So no older
        cursor may be used.
    */
    select md5(concat_ws(
        ' ',
        l.epoch,
        s.system_identifier,
        c.timeline_id,
        d.oid,
        pg_relation_filenode('private.changes')
    ))
    from private.change_log l, pg_control_system() s, pg_control_checkpoint() c, pg_database d
    where d.datname = current_database()
$$;


comment on type private.change_operation is
    'The operation on a row. (An enum, since every statement parses a check on a text anew: 1 % of ingest each.)';
comment on table private.changes is
    'One entry for each change of a followed row. Clients read it through changes_since.';
comment on column private.changes.xid is
    'The writing transaction.';
comment on policy "nobody reads the change log directly" on private.changes is
    'changes_since joins the log with the rows that the caller may see.';
comment on table private.change_log is
    'The log''s epoch and retention.';
comment on column private.change_log.retention is
    'Entries are kept at least this long. An older cursor gets resync.';
comment on policy "nobody reads the change log's settings directly" on private.change_log is
    'changes_since applies them.';
comment on function private.change_log_epoch() is
    'A text that differs between databases, and before and after a restore.';
