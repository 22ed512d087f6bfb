"""What the stand-in for Metakocka's API knows and does; metakocka_fake serves it."""
