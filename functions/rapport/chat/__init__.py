"""Messages and conversations over HTTP; each request runs as its user."""
