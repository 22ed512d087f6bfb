"""Tables of contacts: reading, checking, importing, exporting."""
