/*
    The tables whose every change is logged and broadcast. A table that is added here is
    added to private.shown_columns, private.visible_rows and the publication as well, and to
    private.customer_change if a customer does not see all of its own rows.
*/
create trigger _900_publish_insert
    after insert on public.contacts
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.contacts
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.contacts
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();


create trigger _900_publish_insert
    after insert on public.customers
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.customers
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.customers
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();


create trigger _900_publish_insert
    after insert on public.conversations
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.conversations
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.conversations
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();


-- new messages: 768_new_messages
create trigger _900_publish_update
    after update on public.messages
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.messages
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();


create trigger _900_publish_insert
    after insert on public.jobs
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.jobs
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.jobs
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();


create trigger _900_publish_insert
    after insert on public.invoices
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.invoices
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.invoices
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();


create trigger _900_publish_insert
    after insert on public.loyalty_transactions
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.loyalty_transactions
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.loyalty_transactions
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();


create trigger _900_publish_insert
    after insert on public.sync_runs
    referencing new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_update
    after update on public.sync_runs
    referencing old table as old_rows new table as new_rows
    for each statement
    execute function private.tg__publish();

create trigger _900_publish_delete
    after delete on public.sync_runs
    referencing old table as old_rows
    for each statement
    execute function private.tg__publish();
