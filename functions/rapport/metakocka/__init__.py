"""Metakocka: its API, partners as contacts and contacts as partners, and how the two agree."""
