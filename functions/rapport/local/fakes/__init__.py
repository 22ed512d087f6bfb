"""Stand-ins for WhatsApp, Metakocka and AWS, which can be told to misbehave; never deployed."""
