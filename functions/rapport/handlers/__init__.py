"""One module for each deployed function: verify, parse, call, map errors."""
