"""Messages and conversations over HTTP, each request as its own user."""
