/*
    The meaning of WhatsApp's error codes for a message and for its number. The code decides, never
    the text. Codes below zero are our own: -1 nothing reached WhatsApp; -2 the message can't be
    sent (a failure with a sentence of its own); -3 no access token; -4 the file can't be read.
    (Source: developers.facebook.com, WhatsApp Cloud API, "Error codes".)
*/
create table private.send_errors (
    code     integer primary key,
    -- retry: later, by itself; fail: never; stop: the number sends nothing until a person resumes
    -- it
    action   text not null
             constraint send_errors_action_check check (action in ('retry', 'fail', 'stop')),
    -- the first wait, and the factor by which each next one is longer
    wait     interval
             constraint send_errors_wait_check check ((action = 'retry') = (wait is not null)),
    factor   integer not null default 2,
    -- whether all messages from the number wait, not only this one
    holds    boolean not null default false
             constraint send_errors_holds_check check (action = 'retry' or not holds),
    -- the sentence that the operator reads
    sentence text not null,
    -- how long people can't send it again either: an earlier attempt would make it worse
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
    (-1, 'retry', '5 seconds', 2, false, 'WhatsApp can''t be reached at the moment.'),
    (-4, 'retry', '5 seconds', 2, false, 'The file of this message can''t be read at the moment.'),
    (1, 'retry', '5 seconds', 2, false, 'WhatsApp has an internal error at the moment.'),
    (2, 'retry', '5 seconds', 2, false, 'WhatsApp is not available at the moment.'),
    (4, 'retry', '30 seconds', 2, true, 'This app sends too many requests to WhatsApp.'),
    (80007, 'retry', '30 seconds', 2, true, 'This business sends too many requests to WhatsApp.'),
    (130429, 'retry', '2 seconds', 2, true, 'This number sends too many messages at once.'),
    -- 4 to the power of the attempt, in seconds
    (131056, 'retry', '4 seconds', 4, false, 'This number sends too many messages to this person in a short time.'),
    (131000, 'retry', '5 seconds', 2, false, 'WhatsApp could not send the message at the moment.'),
    (131016, 'retry', '5 seconds', 2, false, 'WhatsApp is not available at the moment.'),
    (131057, 'retry', '60 seconds', 2, true, 'The WhatsApp account is under maintenance.'),
    (133004, 'retry', '5 seconds', 2, true, 'WhatsApp is not available at the moment.'),
    (100, 'fail', null, 1, false, 'WhatsApp does not accept the content of this message.'),
    (130472, 'fail', null, 1, false, 'WhatsApp withholds marketing messages from this person.'),
    (131008, 'fail', null, 1, false, 'The message lacks a field that WhatsApp requires.'),
    (131009, 'fail', null, 1, false, 'WhatsApp does not accept a value in this message.'),
    (131021, 'fail', null, 1, false, 'A number can''t send a message to itself.'),
    (131026, 'fail', null, 1, false, 'The message can''t be delivered: the person may not be on WhatsApp.'),
    (131047, 'fail', null, 1, false, 'More than 24 hours have passed since the person last wrote: send a template.'),
    (131048, 'fail', null, 1, false, 'WhatsApp restricts this number, because too many people have reported it.'),
    (131050, 'fail', null, 1, false, 'This person has stopped marketing messages from you: send a utility template.'),
    (131051, 'fail', null, 1, false, 'WhatsApp does not know this type of message.'),
    (131052, 'fail', null, 1, false, 'WhatsApp could not download the file.'),
    (131053, 'fail', null, 1, false, 'WhatsApp does not accept the type or the size of the file.'),
    (131062, 'fail', null, 1, false, 'This person can''t be reached without a phone number.'),
    (132000, 'fail', null, 1, false, 'The message gives another number of variables than the template takes: see sendable_templates.'),
    (132001, 'fail', null, 1, false, 'There is no approved template with this name in this language.'),
    (132005, 'fail', null, 1, false, 'The template with its variables is too long.'),
    (132007, 'fail', null, 1, false, 'The template breaks a rule of WhatsApp.'),
    (132012, 'fail', null, 1, false, 'A variable of the template has the wrong format.'),
    (132015, 'fail', null, 1, false, 'WhatsApp has paused the template because of its low quality.'),
    (132016, 'fail', null, 1, false, 'WhatsApp has disabled the template because of its low quality.'),
    (-3, 'stop', null, 1, false, 'This number has no access token: set one.'),
    (0, 'stop', null, 1, false, 'WhatsApp does not accept the access token: renew it.'),
    (3, 'stop', null, 1, false, 'The access token may not send messages.'),
    (10, 'stop', null, 1, false, 'The access token may not send messages.'),
    (190, 'stop', null, 1, false, 'The access token has expired: renew it.'),
    (200, 'stop', null, 1, false, 'The access token may not send from this number.'),
    (368, 'stop', null, 1, false, 'WhatsApp has blocked the account because it broke a rule.'),
    (131005, 'stop', null, 1, false, 'The access token may not send messages.'),
    (131031, 'stop', null, 1, false, 'WhatsApp has locked the account.'),
    (131042, 'stop', null, 1, false, 'WhatsApp can''t charge the account: check its payment settings.'),
    (131045, 'stop', null, 1, false, 'The number must be registered with WhatsApp again.'),
    (133010, 'stop', null, 1, false, 'The number is not registered with WhatsApp.');

insert into private.send_errors (code, action, factor, sentence, rest)
values
    (131049, 'fail', 1, 'WhatsApp limits marketing messages to this person: try again tomorrow.', '24 hours');


comment on table private.send_errors is
    'The action that follows each error code of WhatsApp. A code that is not here fails the message.';
comment on policy "nobody reads send errors directly" on private.send_errors is
    'Clients see the sentence on the message.';
