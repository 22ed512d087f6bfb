/*
    The settings by which the functions of one transaction tell each other something. A setting
    lasts until the transaction ends, or until its savepoint is undone. Yes is 'on' and no is 'off'.
    Afterwards the session has an empty text in its place, which private.setting takes for none.

    setting                     value               set by                        read by
    --------------------------  ------------------  ----------------------------  ----------------------------
    rapport.broadcast_later     on, off             import_contacts,              broadcast_changes,
                                                    apply_whatsapp_people,        publish_change,
                                                    begin_erasure, erase_some     apply_whatsapp_items
    rapport.broadcasts          number of cursors   next_broadcast,               next_broadcast,
                                                    publish_change,               publish_change,
                                                    tg_changes__tell              waiting_broadcasts,
                                                                                  tg_changes__tell
    rapport.desk_raised         account's id        the trigger that raises       the same
                                                    the epoch of a desk
    rapport.erasing             on, off             erase_some                    tg_invoices__progress,
                                                                                  tg_loyalty_transactions__keep
    rapport.from_metakocka      on, off             apply_partners,               tg_contacts__mark_dirty
                                                    settle_partner
    rapport.given               object of columns   guard_given of a guarded      guard_row of the same
                                                    table                         table
    rapport.held_customer       contact's id        tg__own_by_customer           the same
    rapport.hits                number of rows      the triggers of faces and     the same
                                                    my_profile
    rapport.inserting           on, off             tg__require_rows              the same
    rapport.lock_timeout        as lock_timeout     tg__expect_hits               tg__require_hits
    rapport.logging             on, off             the change log's trigger,     the same
                                                    tg_changes__tell
    rapport.messages_tried      number of messages  tg_messages__                 the same
                                                    hold_to_request
    rapport.quiet               on, off             apply_partners                publish_change,
                                                                                  publish_changes
    rapport.read_conversation   conversation's id   mark_read                     the same
    rapport.repeated            messages' ids,      tg_messages__                 post_message,
                                by commas           leave_out_repeated            answer_repeated
    rapport.rows_counted        number of rows      count_rows                    the same
    rapport.rows_written        number of rows      hold_to_rows                  count_rows,
                                                                                  tg__count_view_rows
    rapport.rung_<worker>       on                  ring                          the same
    rapport.slot                1 to 8              before_request                count_rows
    rapport.version_named       on, off             tg__expect_hits,              tg__write_face
                                                    tg__expect_version
*/
create function private.setting(name text)
    returns text
    language plpgsql
    stable
    set search_path = ''
as $$
begin
    return nullif(current_setting(name, true), '');
end
$$;


comment on function private.setting(text) is
    'The value that this transaction has set; null where it has set none.';
