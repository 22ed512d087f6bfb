"""Supabase Auth (GoTrue) as far as password logins need it, on the tables of schema `auth`."""
