"""A stand-in for a browser's push service."""
