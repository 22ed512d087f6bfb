"""Every call to Postgres, one file a subject, with its rows."""
