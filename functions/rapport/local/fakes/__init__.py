"""Stand-ins for WhatsApp, Metakocka and AWS that can produce faults; never deployed."""
