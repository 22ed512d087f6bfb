"""The agreement between a contact and its partner; pure, without I/O."""
