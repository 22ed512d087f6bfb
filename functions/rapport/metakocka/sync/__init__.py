"""The run: read partners, match, merge, send, settle."""
