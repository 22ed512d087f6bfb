/*
    A customer's choice to get no reminders: {"wants_reminders": false} among the contact's
    preferences. The customer writes it in my_profile, and staff on the contacts page.
*/
create function private.wants_reminders(preferences jsonb)
    returns boolean
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    -- any other value counts as no
    return coalesce(preferences -> 'wants_reminders', 'true') in ('true', 'null');
end
$$;


comment on function private.wants_reminders(jsonb) is
    'Whether a customer with these preferences wants reminders. The answer is no only if wants_reminders is there and is neither true nor null.';
