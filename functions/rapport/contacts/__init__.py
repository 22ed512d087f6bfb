"""An account's contacts as a table: reading one in, writing one out, phone numbers."""
