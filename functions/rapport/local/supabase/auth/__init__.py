"""Supabase Auth (GoTrue), the part that password logins need, on the tables of schema `auth`."""
