"""Metakocka's API: its words, its bodies, its calls."""
