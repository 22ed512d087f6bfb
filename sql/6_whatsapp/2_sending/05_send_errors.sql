/*
    What WhatsApp's error codes mean for a message and for its number. The code decides, never
    the text. Codes below zero are our own: -1 where nothing reached WhatsApp, -2 where what
    was written can't be sent (a failure, with a sentence of its own), -3 without an access
    token, -4 where the file can't be read. (Source: developers.facebook.com, WhatsApp Cloud
    API, "Error codes".)
*/
create table private.send_errors (
    code     integer primary key,
    -- retry: later, by itself; fail: this message never will; stop: nothing from this number
    -- goes until somebody has seen to it
    action   text not null
             constraint send_errors_action_check check (action in ('retry', 'fail', 'stop')),
    -- the first wait, and by what each next one is longer
    wait     interval
             constraint send_errors_wait_check check ((action = 'retry') = (wait is not null)),
    factor   integer not null default 2,
    -- whether everything from the number waits, not this message alone
    holds    boolean not null default false
             constraint send_errors_holds_check check (action = 'retry' or not holds),
    -- what the operator reads
    sentence text not null,
    -- how long nobody has it sent again either: to try sooner makes it worse
    rest     interval
             constraint send_errors_rest_check check (action = 'fail' or rest is null)
);
alter table private.send_errors enable row level security;


create policy "nobody reads send errors directly"
    on private.send_errors
    for all
    to authenticated
    using (false);


insert into private.send_errors (code, action, wait, factor, holds, sentence)
values
    (-1, 'retry', '5 seconds', 2, false, 'WhatsApp can not be reached at the moment.'),
    (-4, 'retry', '5 seconds', 2, false, 'The file of this message can not be read at the moment.'),
    (1, 'retry', '5 seconds', 2, false, 'WhatsApp has a problem of its own at the moment.'),
    (2, 'retry', '5 seconds', 2, false, 'WhatsApp is not available at the moment.'),
    (4, 'retry', '30 seconds', 2, true, 'WhatsApp receives too many requests from this app.'),
    (80007, 'retry', '30 seconds', 2, true, 'WhatsApp receives too many requests from this business.'),
    (130429, 'retry', '2 seconds', 2, true, 'Too many messages at once from this number.'),
    -- 4 to the power of the attempt, in seconds
    (131056, 'retry', '4 seconds', 4, false, 'Too many messages to this person in a short time.'),
    (131000, 'retry', '5 seconds', 2, false, 'WhatsApp could not send it at the moment.'),
    (131016, 'retry', '5 seconds', 2, false, 'WhatsApp is not available at the moment.'),
    (131057, 'retry', '60 seconds', 2, true, 'The WhatsApp account is in maintenance.'),
    (133004, 'retry', '5 seconds', 2, true, 'WhatsApp is not available at the moment.'),
    (100, 'fail', null, 1, false, 'WhatsApp does not accept the content of this message.'),
    (130472, 'fail', null, 1, false, 'WhatsApp withholds marketing messages from this person.'),
    (131008, 'fail', null, 1, false, 'Something that WhatsApp requires is missing in this message.'),
    (131009, 'fail', null, 1, false, 'WhatsApp does not accept a value in this message.'),
    (131021, 'fail', null, 1, false, 'A number can not write to itself.'),
    (131026, 'fail', null, 1, false, 'It can not be delivered: the person may not be on WhatsApp.'),
    (131047, 'fail', null, 1, false, 'More than 24 hours have passed since the person last wrote: send a template.'),
    (131048, 'fail', null, 1, false, 'WhatsApp restricts this number, since too many people reported it.'),
    (131050, 'fail', null, 1, false, 'The person does not want marketing messages from you.'),
    (131051, 'fail', null, 1, false, 'WhatsApp does not know this type of message.'),
    (131052, 'fail', null, 1, false, 'The file could not be downloaded.'),
    (131053, 'fail', null, 1, false, 'The file could not be uploaded: its type or size is not accepted.'),
    (131062, 'fail', null, 1, false, 'This person can not be reached without a phone number.'),
    (132000, 'fail', null, 1, false, 'The template wants another number of variables.'),
    (132001, 'fail', null, 1, false, 'There is no such template in this language, or it is not approved.'),
    (132005, 'fail', null, 1, false, 'The template with its variables is too long.'),
    (132007, 'fail', null, 1, false, 'The template breaks a rule of WhatsApp.'),
    (132012, 'fail', null, 1, false, 'A variable of the template has the wrong form.'),
    (132015, 'fail', null, 1, false, 'The template is paused for its low quality.'),
    (132016, 'fail', null, 1, false, 'The template is disabled for its low quality.'),
    (-3, 'stop', null, 1, false, 'No access token is set for this number.'),
    (0, 'stop', null, 1, false, 'WhatsApp does not accept the access token: renew it.'),
    (3, 'stop', null, 1, false, 'The access token may not send messages.'),
    (10, 'stop', null, 1, false, 'The access token may not send messages.'),
    (190, 'stop', null, 1, false, 'The access token has expired: renew it.'),
    (200, 'stop', null, 1, false, 'The access token may not send from this number.'),
    (368, 'stop', null, 1, false, 'WhatsApp has blocked the account for breaking a rule.'),
    (131005, 'stop', null, 1, false, 'The access token may not send messages.'),
    (131031, 'stop', null, 1, false, 'WhatsApp has locked the account.'),
    (131042, 'stop', null, 1, false, 'WhatsApp lacks a way to be paid: see to the payment settings.'),
    (131045, 'stop', null, 1, false, 'The number has to be registered anew.'),
    (133010, 'stop', null, 1, false, 'The number is not registered with WhatsApp.');

insert into private.send_errors (code, action, factor, sentence, rest)
values
    (131049, 'fail', 1, 'WhatsApp limits marketing messages to this person: try again tomorrow.', '24 hours');


comment on table private.send_errors is
    'What follows from each error code of WhatsApp''s; a code that is not here fails the message.';
comment on policy "nobody reads send errors directly" on private.send_errors is
    'Clients see the sentence on the message.';
