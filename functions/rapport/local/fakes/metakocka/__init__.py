"""The stand-in for Metakocka's API; fakes.serve serves it."""
