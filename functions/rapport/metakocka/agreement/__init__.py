"""What a contact and its partner agree on; pure, without I/O."""
