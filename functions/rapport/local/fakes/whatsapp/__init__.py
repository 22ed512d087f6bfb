"""The stand-in for WhatsApp's Graph API; fakes.serve serves it."""
