"""What the stand-in for WhatsApp's Graph API knows and does; whatsapp_fake serves it."""
