"""The WhatsApp Cloud API: webhooks, sending, files, templates."""
