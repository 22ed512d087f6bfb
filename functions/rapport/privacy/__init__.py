"""Erasing all that is known of one person."""
