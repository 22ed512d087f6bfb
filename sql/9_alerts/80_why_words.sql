/*
    Why something does not show: its way from the webhook to the people who see it, as steps in
    their order. Each step says whether it is fine, in words and with the remedy. The files that
    follow take the steps; why_not_shown asks for them.

    A step has a code and facts, and its words are the sentence of that code, filled with the facts.
*/
create type private.why_step as (
    step  text,
    -- null where it can't be known
    ok    boolean,
    -- <step>.<what was found>
    code  text,
    facts jsonb
);


create function private.as_step(code text, ok boolean, facts jsonb default '{}')
    returns private.why_step
    language plpgsql
    immutable
    set search_path = ''
as $$
begin
    return (split_part(code, '.', 1), ok, code, coalesce(jsonb_strip_nulls(facts), '{}'))::private.why_step;
end
$$;


-- What an id stands for, as people call it; null where it stands for nothing any more.
create function private.named_row(kind text, id uuid, language text, time_zone text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return case kind
        when 'contact' then (
            select coalesce(c.name, c.profile_name, c.phone, c.email, c.username)
            from public.contacts c
            where c.id = named_row.id
        )
        -- two of one name are told apart
        when 'contact_ids' then (
            select concat_ws(' ', coalesce(c.name, c.profile_name), format('(%s)', coalesce(c.phone, i.value)))
            from public.contacts c
            left join lateral (
                select o.value
                from public.contact_identities o
                where o.contact_id = c.id
                order by o.kind = 'phone' desc, o.kind, o.match_key
                limit 1
            ) i
                on true
            where c.id = named_row.id
        )
        when 'conversation' then (
            select format(
                '%s (%s)',
                coalesce(
                    private.named_row('contact', k.customer_id, language => named_row.language, time_zone => named_row.time_zone),
                    k.group_name,
                    private.why_word('group', 'unnamed', named_row.language)
                ),
                private.why_word('channel', k.channel, named_row.language)
            )
            from public.conversations k
            where k.id = named_row.id
        )
        when 'message' then (
            select format(
                '%s, %s',
                case m.sender_type
                    when 'system' then private.why_word('sender', 'system', named_row.language)
                    else coalesce(
                        m.sender_name,
                        case m.sender_type when 'client' then
                            private.named_row('contact', m.customer_id, language => named_row.language, time_zone => named_row.time_zone)
                        end,
                        private.why_word('sender', m.sender_type, named_row.language)
                    )
                end,
                private.fact_words('at', to_jsonb(m.created_at), language => named_row.language, time_zone => named_row.time_zone)
            )
            from public.messages m
            where m.id = named_row.id
        )
    end;
end
$$;


create function private.why_word(kind text, word text, language text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return coalesce(
        (
            select s.sentence
            from private.sentences s
            where s.key = format('why_word.%s.%s', why_word.kind, why_word.word)
              and s.language = why_word.language
        ),
        word
    );
end
$$;


create function private.fact_words(name text, fact jsonb, language text, time_zone text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    plain constant text := fact #>> '{}';
    -- the rows that are named, by the fact that holds their id
    kind constant text := case name
        when 'contact_id' then 'contact'
        when 'merged_into' then 'contact'
        when 'contact_ids' then 'contact_ids'
        when 'conversation_id' then 'conversation'
        when 'message_id' then 'message'
    end;
begin
    if jsonb_typeof(fact) = 'array' then
        return (
            select string_agg(w.words, ', ' order by w.place)
            from (
                -- several topics are of one kind
                select o.words, min(o.place) as place
                from (
                    select
                        private.fact_words(name, e.value, language => fact_words.language, time_zone => fact_words.time_zone),
                        e.place
                    from jsonb_array_elements(fact) with ordinality as e (value, place)
                ) o (words, place)
                group by o.words
            ) w
        );
    elsif kind is not null and pg_input_is_valid(plain, 'uuid') then
        return coalesce(
            private.named_row(kind, plain::uuid, language => fact_words.language, time_zone => fact_words.time_zone),
            private.why_word('row', 'unnamed', language)
        );
    elsif name = 'topics' then
        return private.why_word('topic', split_part(plain, ':', 1), language);
    elsif name in ('missing', 'fields') then
        return private.why_word('field', plain, language);
    elsif name in ('status', 'role', 'operation', 'table') then
        return private.why_word(name, plain, language);
    elsif jsonb_typeof(fact) = 'string'
        and plain ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d'
        and pg_input_is_valid(plain, 'timestamptz')
    then
        -- to the second: a diagnosis compares times
        return to_char(
            plain::timestamptz at time zone time_zone,
            case language when 'sl' then 'FMDD. FMMM. YYYY "ob" HH24:MI:SS' else 'FMDD FMMonth YYYY, HH24:MI:SS' end
        ) || case time_zone when 'UTC' then ' UTC' else '' end;
    end if;
    return plain;
end
$$;


create function private.why_words(key text, language text, time_zone text, facts jsonb)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
declare
    written constant text := (
        select s.sentence
        from private.sentences s
        where s.key = 'why.' || why_words.key
          and s.language = why_words.language
    );
begin
    return private.fill_names(written, (
        select jsonb_object_agg(f.key, private.fact_words(
            f.key, f.value, language => why_words.language, time_zone => why_words.time_zone))
        from jsonb_each(facts) f
        -- an id that the sentence does not name is not looked up
        where position('{' || f.key || '}' in written) > 0
    ));
end
$$;


comment on type private.why_step is
    'A step of the way on which something comes to be shown.';
comment on function private.as_step(text, boolean, jsonb) is
    'A step by its code, without the facts that are null.';
comment on function private.named_row(text, uuid, text, text) is
    'A contact by its name, a conversation by its person and channel, a message by its author and time.';
comment on function private.why_word(text, text, text) is
    'A word of the database for people, such as that of a status; the word itself where there is none.';
comment on function private.fact_words(text, jsonb, text, text) is
    'A fact as a sentence has it: the name of what an id stands for, a list with commas, a time by the clocks of a time zone.';
comment on function private.why_words(text, text, text, jsonb) is
    'The sentence of a code, filled with facts; null where there is none.';


insert into private.sentences (key, language, sentence)
values
    ('why.summary.fine', 'en', 'Nothing is wrong, as far as it can be looked at.'),
    ('why.summary.fine', 'sl', 'Nič ni narobe, kolikor je mogoče preveriti.'),

    ('why.found.message', 'en', 'It is the message {message_id}.'),
    ('why.found.message', 'sl', 'To je sporočilo: {message_id}.'),
    ('why.found.effect', 'en', 'It is a reaction, an edit or a deletion. It is shown at the message that it changes: {message_id}.'),
    ('why.found.effect', 'sl', 'To je odziv, popravek ali izbris. Prikazan je pri sporočilu, ki ga spreminja: {message_id}.'),
    ('why.found.effect_alone', 'en', 'It is a reaction, an edit or a deletion.'),
    ('why.found.effect_alone', 'sl', 'To je odziv, popravek ali izbris.'),
    ('why.found.later', 'en', 'It is a message that is to be sent later.'),
    ('why.found.later', 'sl', 'To je sporočilo, ki bo poslano pozneje.'),
    ('why.found.conversation', 'en', 'It is the conversation with {conversation_id}.'),
    ('why.found.conversation', 'sl', 'To je pogovor: {conversation_id}.'),
    ('why.found.booking', 'en', 'It is an appointment; its chat is the conversation with {conversation_id}.'),
    ('why.found.booking', 'sl', 'To je termin; njegov klepet je pogovor: {conversation_id}.'),
    ('why.found.key', 'en', 'The key stands for the conversation with {conversation_id}. Rows, topics and events name it by its id, never by the key.'),
    ('why.found.key', 'sl', 'Ključ pomeni pogovor: {conversation_id}. Vrstice, teme in dogodki ga imenujejo z id-jem, nikoli s ključem.'),
    ('why.found.key.remedy', 'en', 'Compare with the conversation''s id in your client; resolve_conversation gives it for a key.'),
    ('why.found.key.remedy', 'sl', 'V svojem odjemalcu primerjajte z id-jem pogovora; za ključ ga pove resolve_conversation.'),
    ('why.found.key_account', 'en', 'The first part of the key, {account}, is not the external id of this account.'),
    ('why.found.key_account', 'sl', 'Prvi del ključa, {account}, ni zunanji id tega podjetja.'),
    ('why.found.key_account.remedy', 'en', 'A key is account, phone number id and customer number, joined by underscores: check its first part.'),
    ('why.found.key_account.remedy', 'sl', 'Ključ so podjetje, id številke in številka stranke, povezani s podčrtaji: preverite prvi del.'),
    ('why.found.key_number', 'en', 'The second part of the key, {phone_number_id}, is not a WhatsApp number of this account.'),
    ('why.found.key_number', 'sl', 'Drugi del ključa, {phone_number_id}, ni številka WhatsApp tega podjetja.'),
    ('why.found.key_number.remedy', 'en', 'Compare it with the number''s id at Meta. If it is right, have the number registered.'),
    ('why.found.key_number.remedy', 'sl', 'Primerjajte ga z id-jem številke pri podjetju Meta. Če je pravi, naj se številka vpiše.'),
    ('why.found.key_customer', 'en', 'Nobody with the number {customer} has a conversation with your number that the key names.'),
    ('why.found.key_customer', 'sl', 'Nihče s številko {customer} nima pogovora z vašo številko, ki jo navaja ključ.'),
    ('why.found.key_customer.remedy', 'en', 'Ask with the customer''s number alone: the person may write from another number, or to another one of yours.'),
    ('why.found.key_customer.remedy', 'sl', 'Vprašajte samo s številko stranke: morda piše z druge številke ali na drugo vašo številko.'),
    ('why.found.contact', 'en', 'It is the contact {contact_id}.'),
    ('why.found.contact', 'sl', 'To je stik {contact_id}.'),
    ('why.found.several', 'en', 'Several contacts could be meant: {contact_ids}.'),
    ('why.found.several', 'sl', 'Mišljenih je lahko več stikov: {contact_ids}.'),
    ('why.found.several.remedy', 'en', 'Write the number with its plus and country code, or give the id of one of them.'),
    ('why.found.several.remedy', 'sl', 'Napišite številko s plusom in kodo države ali navedite id enega od njih.'),
    ('why.found.number', 'en', 'It is the WhatsApp number {display_phone_number}.'),
    ('why.found.number', 'sl', 'To je številka WhatsApp {display_phone_number}.'),
    ('why.found.partner', 'en', 'It is a partner at Metakocka.'),
    ('why.found.partner', 'sl', 'To je partner v Metakocki.'),
    ('why.found.nothing', 'en', 'There is nothing here with this id: no message, conversation, contact, number or partner.'),
    ('why.found.nothing', 'sl', 'S tem id-jem tu ni ničesar: ne sporočila, pogovora, stika, številke ne partnerja.'),
    ('why.found.nothing.remedy', 'en', 'Copy the id anew, from its beginning to its end. If it is right, it belongs to another account, or it was deleted.'),
    ('why.found.nothing.remedy', 'sl', 'Znova kopirajte id, od začetka do konca. Če je pravi, pripada drugemu podjetju ali pa je bil izbrisan.'),

    ('why.signature.good', 'en', 'The signature of the webhook was good.'),
    ('why.signature.good', 'sl', 'Podpis webhooka je bil pravi.'),
    ('why.signature.refused', 'en', 'Since {since}, {count} webhooks were refused because of their signature, and no message has come since. What they held is not known.'),
    ('why.signature.refused', 'sl', 'Od {since} je bilo zaradi podpisa zavrnjenih toliko webhookov: {count}; od takrat ni prišlo nobeno sporočilo. Kaj je bilo v njih, ni znano.'),
    ('why.signature.refused.remedy', 'en', 'Compare the app''s secret (Meta, App settings, Basic) with WHATSAPP_APP_SECRET. Meta repeats refused webhooks for 7 days.'),
    ('why.signature.refused.remedy', 'sl', 'Primerjajte skrivnost aplikacije (Meta, App settings, Basic) z WHATSAPP_APP_SECRET. Meta zavrnjene webhooke ponavlja 7 dni.'),
    ('why.signature.some_refused', 'en', 'Since {since}, {count} webhooks were refused because of their signature, and others were taken. Whether this one was among the refused ones can''t be known: nothing of them is kept.'),
    ('why.signature.some_refused', 'sl', 'Od {since} je bilo zaradi podpisa zavrnjenih toliko webhookov: {count}; drugi so bili sprejeti. Ali je bil ta med zavrnjenimi, ni mogoče vedeti: od njih se nič ne hrani.'),
    ('why.signature.some_refused.remedy', 'en', 'Look whether two apps at Meta send to this address, and whether both secrets are set.'),
    ('why.signature.some_refused.remedy', 'sl', 'Preverite, ali na ta naslov pošiljata dve aplikaciji podjetja Meta in ali sta nastavljeni obe skrivnosti.'),
    ('why.signature.none_refused', 'en', 'No webhook was refused because of its signature in the last 24 hours; of earlier ones nothing is kept.'),
    ('why.signature.none_refused', 'sl', 'V zadnjih 24 urah zaradi podpisa ni bil zavrnjen noben webhook; od prejšnjih se nič ne hrani.'),

    ('why.stored.kept', 'en', 'Its webhook came at {received_at} and is kept as it was. Deliveries: {deliveries}.'),
    ('why.stored.kept', 'sl', 'Njegov webhook je prišel {received_at} in se hrani, kot je bil. Dostav: {deliveries}.'),
    ('why.stored.gone', 'en', 'It came at {received_at}. Its webhook itself is not kept any more, or came otherwise.'),
    ('why.stored.gone', 'sl', 'Prišlo je {received_at}. Sam webhook se ne hrani več ali pa je prišel drugače.'),
    ('why.stored.none', 'en', 'No webhook with this id is among the latest that are kept.'),
    ('why.stored.none', 'sl', 'Med zadnjimi webhooki, ki se hranijo, ni nobenega s tem id-jem.'),
    ('why.stored.none.remedy', 'en', 'See at Meta whether the app is subscribed to the WhatsApp Business account and to "messages", and which address it calls. Meta repeats a webhook that was not taken for 7 days.'),
    ('why.stored.none.remedy', 'sl', 'Pri podjetju Meta preverite, ali je aplikacija naročena na račun WhatsApp Business in na "messages" ter kateri naslov kliče. Nesprejet webhook Meta ponavlja 7 dni.'),
    ('why.stored.no_number', 'en', 'No contact has this number, and no webhook among the latest names it.'),
    ('why.stored.no_number', 'sl', 'Te številke nima noben stik in noben od zadnjih webhookov je ne omenja.'),
    ('why.stored.no_number.remedy', 'en', 'Check the number. If the person has written, see at Meta whether the app is subscribed to the WhatsApp Business account and to "messages", and which address it calls.'),
    ('why.stored.no_number.remedy', 'sl', 'Preverite številko. Če je oseba pisala, pri podjetju Meta preverite, ali je aplikacija naročena na račun WhatsApp Business in na "messages" ter kateri naslov kliče.'),

    ('why.read.applied', 'en', 'It was read and applied.'),
    ('why.read.applied', 'sl', 'Prebrano je bilo in uporabljeno.'),
    ('why.read.unknown_phone_number_id', 'en', 'The webhook was kept, but not applied: it is for a number that was not registered (Meta''s id {phone_number_id}).'),
    ('why.read.unknown_phone_number_id', 'sl', 'Webhook se hrani, a ni bil uporabljen: je za številko, ki ni bila vpisana (id pri podjetju Meta: {phone_number_id}).'),
    ('why.read.unknown_phone_number_id.remedy', 'en', 'Have the number registered (rapport number add), then have the webhook applied by rapport replay.'),
    ('why.read.unknown_phone_number_id.remedy', 'sl', 'Naj se številka vpiše (rapport number add), nato naj se webhook obdela z ukazom rapport replay.'),
    ('why.read.unhandled', 'en', 'The webhook was kept, but this part of it was not applied ({reason}): this kind is not understood.'),
    ('why.read.unhandled', 'sl', 'Webhook se hrani, a ta njegov del ni bil uporabljen ({reason}): te vrste program ne razume.'),
    ('why.read.unhandled.remedy', 'en', 'Run rapport replay after an update of this service; the webhook is kept until then, for 90 days.'),
    ('why.read.unhandled.remedy', 'sl', 'Po posodobitvi te storitve zaženite rapport replay; webhook se do takrat hrani, 90 dni.'),
    ('why.read.refused', 'en', 'The webhook was kept, but the database refused this part of it.'),
    ('why.read.refused', 'sl', 'Webhook se hrani, a je baza ta njegov del zavrnila.'),
    ('why.read.refused.remedy', 'en', 'Tell the people who run this service the time of the webhook: its reason stands beside the webhook as it was kept. Then have it applied by rapport replay.'),
    ('why.read.refused.remedy', 'sl', 'Upravljavcem te storitve povejte čas webhooka: razlog je zapisan ob njem. Nato naj se obdela z ukazom rapport replay.'),
    ('why.read.nothing', 'en', 'The webhook was kept and nothing of it was rejected, but there is no such message.'),
    ('why.read.nothing', 'sl', 'Webhook se hrani in nič v njem ni bilo zavrnjeno, a takega sporočila ni.'),
    ('why.read.nothing.remedy', 'en', 'Have the webhook applied again by rapport replay; it changes nothing that is right.'),
    ('why.read.nothing.remedy', 'sl', 'Naj se webhook znova obdela z ukazom rapport replay; kar je prav, se ne spremeni.'),
    ('why.read.only_status', 'en', 'Only reports of this message have come ({status}), not the message: it was sent from another program, or before the number was registered.'),
    ('why.read.only_status', 'sl', 'Prišla so le poročila o tem sporočilu ({status}), ne pa sporočilo: poslal ga je drug program ali pa je starejše od vpisa številke.'),
    ('why.read.only_status.remedy', 'en', 'Send from here, or subscribe the app to smb_message_echoes at Meta, which tells what the phone app sends.'),
    ('why.read.only_status.remedy', 'sl', 'Pošiljajte od tu ali pa pri podjetju Meta aplikacijo naročite na smb_message_echoes, ki pove, kaj pošilja telefon.'),
    ('why.read.no_parent', 'en', 'The message that it changes has not come. It waits for that message.'),
    ('why.read.no_parent', 'sl', 'Sporočilo, ki ga spreminja, ni prišlo. Čaka na to sporočilo.'),
    ('why.read.no_parent.remedy', 'en', 'Ask why that message does not show.'),
    ('why.read.no_parent.remedy', 'sl', 'Vprašajte, zakaj se tisto sporočilo ne prikaže.'),
    ('why.read.no_contact', 'en', 'A webhook of {received_at} names this number, but no contact has it: the contact was deleted, or now has another number.'),
    ('why.read.no_contact', 'sl', 'Webhook, ki je prišel {received_at}, omenja to številko, a je nima noben stik: bil je izbrisan ali pa ima zdaj drugo številko.'),
    ('why.read.no_contact.remedy', 'en', 'If the person writes again, there is a new contact.'),
    ('why.read.no_contact.remedy', 'sl', 'Če oseba znova piše, nastane nov stik.'),

    ('why.number.registered', 'en', 'The number {display_phone_number} is registered.'),
    ('why.number.registered', 'sl', 'Številka {display_phone_number} je vpisana.'),
    ('why.number.stopped', 'en', 'Since {stopped_at} nothing is sent from the number {display_phone_number}: {reason}'),
    ('why.number.stopped', 'sl', 'Od {stopped_at} se s številke {display_phone_number} nič ne pošilja: {reason}'),
    ('why.number.stopped.remedy', 'en', 'Solve it at Meta, then let the number send again, under Health: what waits is sent.'),
    ('why.number.stopped.remedy', 'sl', 'Odpravite razlog pri podjetju Meta, nato v razdelku Delovanje spet vključite pošiljanje: kar čaka, bo poslano.'),
    ('why.number.paused', 'en', 'Since {paused_at} nothing is sent from the number {display_phone_number}: a person has paused it, or the whole account.'),
    ('why.number.paused', 'sl', 'Od {paused_at} se s številke {display_phone_number} nič ne pošilja: nekdo je ustavil številko ali vse podjetje.'),
    ('why.number.paused.remedy', 'en', 'Let it send again, under Health: what waits is sent.'),
    ('why.number.paused.remedy', 'sl', 'V razdelku Delovanje spet vključite pošiljanje: kar čaka, bo poslano.'),
    ('why.number.unknown', 'en', 'The number is not registered here (Meta''s id {phone_number_id}).'),
    ('why.number.unknown', 'sl', 'Številka tu ni vpisana (id pri podjetju Meta: {phone_number_id}).'),
    ('why.number.unknown.remedy', 'en', 'Have the number registered (rapport number add), then have its webhooks applied by rapport replay.'),
    ('why.number.unknown.remedy', 'sl', 'Naj se številka vpiše (rapport number add), nato naj se njeni webhooki obdelajo z ukazom rapport replay.'),
    ('why.rejected.none', 'en', 'No webhook of this number was rejected.'),
    ('why.rejected.none', 'sl', 'Noben webhook te številke ni bil zavrnjen.'),
    ('why.rejected.some', 'en', 'Webhooks of this number that could not be applied: {count} ({reasons}), the latest at {last_at}.'),
    ('why.rejected.some', 'sl', 'Webhooki te številke, ki jih ni bilo mogoče uporabiti: {count} ({reasons}), zadnji {last_at}.'),
    ('why.rejected.some.remedy', 'en', 'The list of rejected webhooks (rejected_webhooks) says what to do about each; then rapport replay applies them.'),
    ('why.rejected.some.remedy', 'sl', 'Seznam zavrnjenih webhookov (rejected_webhooks) pri vsakem pove, kaj storiti; nato jih obdela rapport replay.'),
    ('why.received.latest', 'en', 'Somebody last wrote to this number at {at}.'),
    ('why.received.latest', 'sl', 'Na to številko je nekdo nazadnje pisal {at}.'),
    ('why.received.none', 'en', 'Nobody has written to this number since it was registered at {since}. Whether anybody tried can''t be known.'),
    ('why.received.none', 'sl', 'Na to številko ni pisal nihče, odkar je bila vpisana {since}. Ali je kdo poskusil, ni mogoče vedeti.'),
    ('why.received.none.remedy', 'en', 'Write to it from a telephone. If nothing comes, see at Meta whether the app is subscribed to the account and to "messages".'),
    ('why.received.none.remedy', 'sl', 'Pišite nanjo s telefona. Če nič ne pride, pri podjetju Meta preverite, ali je aplikacija naročena na račun in na "messages".');


-- Words of the database, as sentences have them.
insert into private.sentences (key, language, sentence)
values
    ('why_word.group.unnamed', 'en', 'a WhatsApp group'),
    ('why_word.group.unnamed', 'sl', 'skupina WhatsApp'),
    ('why_word.row.unnamed', 'en', '(no name)'),
    ('why_word.row.unnamed', 'sl', '(brez imena)'),
    ('why_word.channel.whatsapp', 'en', 'WhatsApp'),
    ('why_word.channel.whatsapp', 'sl', 'WhatsApp'),
    ('why_word.channel.booking', 'en', 'chat of an appointment'),
    ('why_word.channel.booking', 'sl', 'klepet o terminu'),
    ('why_word.channel.portal', 'en', 'portal'),
    ('why_word.channel.portal', 'sl', 'portal'),
    ('why_word.sender.system', 'en', 'this service'),
    ('why_word.sender.system', 'sl', 'ta storitev'),
    ('why_word.sender.client', 'en', 'the customer'),
    ('why_word.sender.client', 'sl', 'stranka'),
    ('why_word.sender.operator', 'en', 'a colleague'),
    ('why_word.sender.operator', 'sl', 'sodelavec'),
    ('why_word.topic.account', 'en', 'the staff of the business'),
    ('why_word.topic.account', 'sl', 'zaposleni v podjetju'),
    ('why_word.topic.customer', 'en', 'the customer in the portal'),
    ('why_word.topic.customer', 'sl', 'stranka na portalu'),
    ('why_word.topic.conversation', 'en', 'the people who have the conversation open'),
    ('why_word.topic.conversation', 'sl', 'kdor ima pogovor odprt'),
    ('why_word.status.open', 'en', 'open'),
    ('why_word.status.open', 'sl', 'odprto'),
    ('why_word.status.pending', 'en', 'pending'),
    ('why_word.status.pending', 'sl', 'na čakanju'),
    ('why_word.status.closed', 'en', 'closed'),
    ('why_word.status.closed', 'sl', 'zaprto'),
    ('why_word.status.sent', 'en', 'sent'),
    ('why_word.status.sent', 'sl', 'poslano'),
    ('why_word.status.delivered', 'en', 'delivered'),
    ('why_word.status.delivered', 'sl', 'dostavljeno'),
    ('why_word.status.read', 'en', 'read'),
    ('why_word.status.read', 'sl', 'prebrano'),
    ('why_word.status.failed', 'en', 'failed'),
    ('why_word.status.failed', 'sl', 'ni uspelo'),
    ('why_word.role.owner', 'en', 'owner'),
    ('why_word.role.owner', 'sl', 'lastnik'),
    ('why_word.role.admin', 'en', 'admin'),
    ('why_word.role.admin', 'sl', 'skrbnik'),
    ('why_word.role.agent', 'en', 'agent'),
    ('why_word.role.agent', 'sl', 'agent'),
    ('why_word.role.viewer', 'en', 'viewer, who only reads'),
    ('why_word.role.viewer', 'sl', 'bralec'),
    ('why_word.operation.INSERT', 'en', 'added'),
    ('why_word.operation.INSERT', 'sl', 'dodano'),
    ('why_word.operation.UPDATE', 'en', 'changed'),
    ('why_word.operation.UPDATE', 'sl', 'spremenjeno'),
    ('why_word.operation.DELETE', 'en', 'deleted'),
    ('why_word.operation.DELETE', 'sl', 'izbrisano'),
    ('why_word.table.messages', 'en', 'message'),
    ('why_word.table.messages', 'sl', 'sporočilo'),
    ('why_word.table.contacts', 'en', 'contact'),
    ('why_word.table.contacts', 'sl', 'stik'),
    ('why_word.table.customers', 'en', 'contact'),
    ('why_word.table.customers', 'sl', 'stik'),
    ('why_word.field.name', 'en', 'name'),
    ('why_word.field.name', 'sl', 'ime'),
    ('why_word.field.email', 'en', 'email'),
    ('why_word.field.email', 'sl', 'e-naslov'),
    ('why_word.field.phone', 'en', 'phone'),
    ('why_word.field.phone', 'sl', 'telefon'),
    ('why_word.field.gsm', 'en', 'mobile'),
    ('why_word.field.gsm', 'sl', 'mobilni telefon'),
    ('why_word.field.street', 'en', 'street'),
    ('why_word.field.street', 'sl', 'ulica'),
    ('why_word.field.post_number', 'en', 'postcode'),
    ('why_word.field.post_number', 'sl', 'poštna številka'),
    ('why_word.field.place', 'en', 'town'),
    ('why_word.field.place', 'sl', 'kraj'),
    ('why_word.field.province', 'en', 'province'),
    ('why_word.field.province', 'sl', 'pokrajina'),
    ('why_word.field.country', 'en', 'country'),
    ('why_word.field.country', 'sl', 'država'),
    ('why_word.field.tax_id_number', 'en', 'tax number'),
    ('why_word.field.tax_id_number', 'sl', 'davčna številka');
