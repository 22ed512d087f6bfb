"""Supabase Realtime's protocol over real WAL and real RLS."""
