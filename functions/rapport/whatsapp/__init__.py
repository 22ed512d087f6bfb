"""The WhatsApp Cloud API: signature and webhook payloads."""
