/*
    The tables whose changes clients may also follow by postgres_changes, under their own
    row level security. No column lists: Realtime and clients expect whole rows.
*/
alter publication supabase_realtime add table
    public.contacts,
    public.customers,
    public.conversations,
    public.messages,
    public.jobs,
    public.invoices,
    public.loyalty_transactions,
    public.sync_runs;
