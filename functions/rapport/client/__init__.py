"""What clients in Python share: the faces of a contact, kept live from the canonical rows."""
