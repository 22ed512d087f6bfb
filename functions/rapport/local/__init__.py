"""The embedded Supabase, the function host and the fakes; never deployed."""
