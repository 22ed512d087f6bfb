-- Made from sql/ by tests/migrations/baseline.py: edit there.
set lock_timeout = '5s';


select private.guard_table(
    'accounts',
    updated => array[
        'name', 'country', 'time_zone', 'language', 'assigns_in_turn', 'quiet_from', 'quiet_until',
        'messages_kept_days', 'files_kept_days'
    ]
);


-- the database fills in all other columns
select private.guard_table(
    'messages',
    inserted => array[
        'id', 'conversation_id', 'type', 'message', 'content', 'reply_to', 'client_ref',
        'booking_id', 'customer_id', 'has_invoice', 'invoice_data'
    ]
);


select private.guard_table(
    'scheduled_messages',
    inserted => array[
        'id', 'conversation_id', 'customer_id', 'type', 'message', 'content', 'reply_to', 'template',
        'send_at'
    ],
    updated => array['type', 'message', 'content', 'reply_to', 'template', 'send_at', 'status']
);


select private.guard_table(
    'conversation_notes',
    inserted => array['id', 'conversation_id', 'note', 'mentions'],
    updated => array['note', 'mentions']
);


select private.guard_table(
    'labels',
    inserted => array['id', 'account_id', 'name', 'colour'],
    updated => array['name', 'colour']
);


select private.guard_table(
    'saved_replies',
    inserted => array['id', 'account_id', 'short_code', 'title', 'text'],
    updated => array['short_code', 'title', 'text']
);


select private.guard_table(
    'jobs',
    inserted => array[
        'id', 'account_id', 'customer_id', 'service_type', 'starts_at', 'ends_at', 'address',
        'description'
    ],
    updated => array['service_type', 'status', 'starts_at', 'ends_at', 'address', 'description']
);


select private.guard_table(
    'invoices',
    inserted => array[
        'id', 'account_id', 'customer_id', 'job_id', 'number', 'currency', 'amount_minor',
        'tax_minor', 'description', 'issued_on', 'due_on'
    ],
    updated => array[
        'job_id', 'number', 'status', 'currency', 'amount_minor', 'tax_minor', 'description',
        'issued_on', 'due_on'
    ]
);


select private.guard_table(
    'loyalty_transactions',
    inserted => array[
        'id', 'account_id', 'customer_id', 'type', 'points', 'description', 'expires_on'
    ]
);


select private.guard_table(
    'reminder_rules',
    inserted => array[
        'id', 'account_id', 'name', 'kind', 'minutes', 'days', 'time_of_day', 'template',
        'whatsapp_channel_id', 'text', 'is_active'
    ],
    updated => array[
        'name', 'kind', 'minutes', 'days', 'time_of_day', 'template', 'whatsapp_channel_id',
        'text', 'is_active'
    ]
);


select private.guard_table(
    'metakocka_connections',
    inserted => array[
        'account_id', 'company_id', 'base_url', 'conflict_rule', 'listing', 'active',
        'sync_interval', 'request_wait', 'retries'
    ],
    updated => array[
        'company_id', 'base_url', 'conflict_rule', 'listing', 'active', 'sync_interval',
        'request_wait', 'retries', 'paused_until'
    ]
);
