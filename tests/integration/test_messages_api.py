"""Messages and conversations over HTTP, by everybody who may and who may not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import jwt
import pytest
from tests.integration.desk import Desk, open_desk
from tests.integration.graph_server import refused
from tests.sql.outbound import ago, conversation, post, send_to
from tests.sql.portal import CILKA, make_job, send_invoice
from tests.stacks import Start
from tests.world import ALPINE, seed_uuid

from rapport.local.stack.postgres import Database

BOOKING = seed_uuid("booking")


@pytest.fixture
def database(world_database: Database) -> Database:
    """What the stack runs on."""
    return world_database


@pytest.fixture
def desk(start: Start, database: Database) -> Iterator[Desk]:
    with open_desk(start, database, "functions") as desk:
        yield desk


@pytest.fixture
def thread(desk: Desk) -> UUID:
    return conversation(desk.world)


@pytest.fixture
def booking(desk: Desk) -> UUID:
    make_job(desk.world, id=BOOKING)
    return BOOKING


def test_an_operator_writes_and_it_is_queued(desk: Desk, thread: UUID) -> None:
    body = {"conversationId": str(thread), "message": "Tuesday at 9?", "clientRef": "a"}
    answer = desk.call("andrej", "POST", "/api/operator/messages", body)
    assert answer.status_code == 201
    assert answer.json()["status"] == "queued"
    assert desk.world.value("select count(*) from private.outbound_queue") == 1


def test_a_phone_number_is_read_as_at_home(desk: Desk) -> None:
    account = str(ALPINE)
    desk.world.owner.execute("update public.accounts set country = 'AT' where id = %s", [account])

    def read(user: str, phone: str, **where: str) -> tuple[int, dict[str, object]]:
        answer = desk.call(user, "POST", "/api/phone", {"phone": phone, **where})
        return answer.status_code, answer.json()

    whole = {"phone": "+4366412345678"}
    assert read("andrej", "0664 12345678", accountId=account) == (200, whole)
    # a customer needs to name no account
    assert read("cilka", "0664 12345678") == (200, whole)
    status, refused = read("andrej", "38640222018", accountId=account)
    assert (status, refused["code"], refused["field"]) == (422, "not_a_phone_number", "phone")
    assert refused["readings"] == ["+38640222018 (SI)", "+4338640222018 (AT)"]
    assert read("ana", "0664 12345678", accountId=account)[0] == 404
    assert read("stranger", "0664 12345678")[0] == 422


def test_what_is_sent_many_times_at_once_is_one_message(desk: Desk, thread: UUID) -> None:
    body = {"conversation_id": str(thread), "message": "hi", "client_ref": "a"}

    def send(_: int) -> tuple[int, str]:
        answer = desk.call("andrej", "POST", "/api/operator/messages", body)
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(send, range(6)))) == 1


def test_who_writes_too_much_is_told_when_to_come_again(desk: Desk, thread: UUID) -> None:
    desk.world.owner.execute("update public.accounts set messages_per_minute = 1")
    body = {"conversation_id": str(thread), "message": "hi"}

    answers = [desk.call("andrej", "POST", "/api/operator/messages", body) for _ in range(4)]

    # a new minute may begin between two of them
    assert [answer.status_code for answer in answers].count(201) <= 2
    refused = next(answer for answer in answers if answer.status_code != 201)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json() == {
        "code": "too_many_requests",
        "message": "You have written 1 messages in this minute.",
        "hint": "A user may write 1 in a minute; go on in the next.",
    }


def test_a_conversation_may_be_named_by_its_older_key(desk: Desk, thread: UUID) -> None:
    key = "695a15a5c526dbe7c085ece2_1003427786179738_38640111222"
    body = {"conversation_id": key, "message": "hi"}
    written = desk.call("andrej", "POST", "/api/operator/messages", body)
    assert written.json()["conversationId"] == str(thread)
    listed = desk.call("andrej", "GET", "/api/operator/messages", conversationId=key)
    assert len(listed.json()["messages"]) == 2


def test_pages_go_back_to_the_beginning(desk: Desk, thread: UUID) -> None:
    for n in range(6):
        post(desk.world, "andrej", thread, str(n))
    seen, before = [], {}
    while True:
        page = desk.call(
            "vera", "GET", "/api/operator/messages", conversationId=thread, limit=3, **before
        ).json()
        seen.append([message["seq"] for message in page["messages"]])
        if page["nextBefore"] is None:
            break
        before = {"before": page["nextBefore"]}
    assert seen == [[7, 6, 5], [4, 3, 2], [1]]


def test_both_sides_of_a_booking_write_and_read_one_chat(desk: Desk, booking: UUID) -> None:
    asks = desk.call("cilka", "POST", "/api/messages", {"message": "Is it on?"}, bookingId=booking)
    told = desk.call(
        "andrej", "POST", "/api/operator/messages", {"message": "Yes", "bookingId": str(BOOKING)}
    )
    assert (asks.status_code, told.status_code) == (201, 201)
    for reader in ("cilka", "olivia"):
        page = desk.call(reader, "GET", "/api/messages", bookingId=booking).json()
        assert [(m["senderType"], m["message"]) for m in page["messages"]] == [
            ("operator", "Yes"),
            ("client", "Is it on?"),
            ("system", "Carpet cleaning is scheduled for Tuesday, 1 December 2026 at 09:00."),
        ]


def test_the_operators_door_is_for_those_who_work_there(desk: Desk, booking: UUID) -> None:
    refusals = [
        desk.call("cilka", "GET", "/api/operator/messages", bookingId=booking),
        desk.call("cilka", "POST", "/api/operator/messages", {"message": "hi"}, bookingId=booking),
        desk.call("cilka", "GET", "/api/operator/messages", customerId=CILKA),
        desk.call("cilka", "POST", "/api/operator/messages", {"message": "hi"}, customerId=CILKA),
    ]
    assert {(answer.status_code, answer.json()["code"]) for answer in refusals} == {
        (403, "not_allowed")
    }
    assert desk.world.value("select count(*) from public.messages") == 1
    assert desk.world.value("select count(*) from public.conversations") == 1


def test_a_repeated_message_to_a_booking_is_one(desk: Desk, booking: UUID) -> None:
    body = {"bookingId": str(booking), "message": "hi", "clientRef": "a"}

    def send(_: int) -> tuple[int, str]:
        answer = desk.call("cilka", "POST", "/api/messages", body)
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(4) as pool:
        ((status, _),) = set(pool.map(send, range(4)))
    assert status == 201


def test_what_came_since_is_paged_forwards(desk: Desk, booking: UUID) -> None:
    """As a client asks that is away from Realtime, every two seconds."""
    for n in range(4):
        post(desk.world, "cilka", None, str(n), booking_id=booking)
    seen, after = [], 1
    while True:
        page = desk.call(
            "cilka", "GET", "/api/messages", bookingId=booking, after=after, limit=3
        ).json()
        seen.append([message["seq"] for message in page["messages"]])
        if page["nextAfter"] is None:
            break
        after = page["nextAfter"]
    assert seen == [[2, 3, 4], [5]]
    empty = desk.call("cilka", "GET", "/api/messages", bookingId=booking, after=5).json()
    assert empty == {"messages": [], "nextAfter": None}


def test_the_portals_thread_opens_with_the_first_message(desk: Desk) -> None:
    before = desk.call("cilka", "GET", "/api/messages", customerId=CILKA)
    assert (before.status_code, before.json()) == (200, {"messages": [], "nextBefore": None})
    body = {"customerId": str(CILKA), "message": "Hello", "client_ref": "a"}
    first = desk.call("cilka", "POST", "/api/messages", body)
    again = desk.call("cilka", "POST", "/api/messages", body)
    answer = desk.call("andrej", "POST", "/api/operator/messages", body | {"message": "Hi"})

    assert (first.status_code, first.json()) == (201, again.json())
    assert answer.json()["conversationId"] == first.json()["conversationId"]
    page = desk.call("andrej", "GET", "/api/operator/messages", customerId=CILKA).json()
    assert [message["message"] for message in page["messages"]] == ["Hi", "Hello"]
    for other in ("carlos", "ana", "stranger"):
        for method, sent in (("GET", None), ("POST", {"message": "hi"})):
            answer = desk.call(other, method, "/api/messages", sent, customerId=CILKA)
            assert answer.status_code == 404


def test_staff_show_an_invoice(desk: Desk, booking: UUID) -> None:
    invoice = send_invoice(desk.world)
    body = {
        "bookingId": str(booking),
        "hasInvoice": True,
        "invoiceData": {"invoiceId": str(invoice["id"])},
    }
    shown = desk.call("andrej", "POST", "/api/operator/messages", body)
    assert (shown.status_code, shown.json()["message"]) == (201, "Invoice 2026-001")
    assert shown.json()["invoiceData"]["amountMinor"] == 12050

    wrong = body | {"invoiceData": {"invoiceId": str(invoice["id"]), "amountMinor": 1}}
    refused = desk.call("andrej", "POST", "/api/operator/messages", wrong)
    assert (refused.status_code, refused.json()["field"]) == (422, "invoiceData.amountMinor")
    assert desk.call("cilka", "POST", "/api/messages", body).status_code == 403
    del body["invoiceData"]
    assert desk.call("andrej", "POST", "/api/operator/messages", body).status_code == 422


def test_reading_over_http_is_a_receipt(desk: Desk, booking: UUID) -> None:
    post(desk.world, "andrej", None, booking_id=booking)
    thread = desk.world.value("select id from public.conversations")
    path = f"/api/conversations/{thread}/read"

    first = desk.call("cilka", "POST", path, {"upToSeq": 1})
    assert (first.status_code, first.json()) == (200, {"lastReadSeq": 1, "shown": False})
    rest = desk.call("cilka", "POST", path)
    assert rest.json()["lastReadSeq"] == 2
    statuses = "select array_agg(distinct status::text) from public.messages"
    assert desk.world.value(statuses) == ["read"]
    assert desk.call("cilka", "POST", path, {"up_to_seq": 0}).status_code == 422


@pytest.mark.parametrize("user", ["ana", "carlos", "stranger"])
def test_strangers_see_and_touch_nothing(
    desk: Desk, thread: UUID, booking: UUID, user: str
) -> None:
    message = desk.world.value(
        "select id from public.messages where conversation_id = %s", [thread]
    )
    write = {"conversation_id": str(thread), "message": "hi"}
    for method, path, body, query in (
        ("GET", "/api/messages", None, {"bookingId": booking}),
        ("GET", "/api/operator/messages", None, {"conversationId": thread}),
        ("POST", "/api/operator/messages", write, {}),
        ("POST", "/api/messages", {"message": "hi"}, {"bookingId": booking}),
        ("POST", "/api/operator/messages", {"message": "hi"}, {"bookingId": booking}),
        ("POST", f"/api/conversations/{thread}/read", None, {}),
        ("POST", f"/api/conversations/{thread}/typing", None, {}),
        ("GET", f"/api/conversations/{thread}/window", None, {}),
        ("POST", f"/api/messages/{message}/resend", None, {}),
        ("POST", f"/api/messages/{message}/drop", None, {}),
    ):
        answer = desk.call(user, method, path, body, **query)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), path
    assert desk.world.value("select count(*) from public.messages") == 2
    assert desk.graph.received == []


def test_a_viewer_reads_and_does_nothing_else(desk: Desk, thread: UUID) -> None:
    write = {"conversation_id": str(thread), "message": "hi"}
    refusals = [
        desk.call("vera", "POST", "/api/operator/messages", write),
        desk.call("vera", "POST", f"/api/conversations/{thread}/typing"),
    ]
    assert {answer.status_code for answer in refusals} == {403}
    assert refusals[0].json() == {
        "code": "not_allowed",
        "message": "You may read this conversation, not write in it.",
        "hint": "Owners, admins and agents may.",
    }
    # for themselves alone
    read = desk.call("vera", "POST", f"/api/conversations/{thread}/read")
    assert (read.status_code, read.json()) == (200, {"lastReadSeq": 1, "shown": False})
    window = desk.call("vera", "GET", f"/api/conversations/{thread}/window")
    assert window.json()["open"] is True
    assert desk.graph.received == []


def test_without_a_valid_token_nobody_is_served(desk: Desk, thread: UUID) -> None:
    claims = {"sub": str(seed_uuid("andrej")), "role": "authenticated"}
    expired = jwt.encode(
        claims | {"exp": int(time.time()) - 60}, desk.stack.jwt_secret, algorithm="HS256"
    )
    forged = jwt.encode(claims | {"exp": int(time.time()) + 60}, "x" * 40, algorithm="HS256")
    for header in ("", "Bearer", "Basic YTpi", f"Bearer {expired}", f"Bearer {forged}", "Bearer x"):
        answer = desk.http.get(
            f"/api/operator/messages?conversationId={thread}", headers={"Authorization": header}
        )
        assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in"), header


def test_the_anon_key_is_nobody(desk: Desk, thread: UUID) -> None:
    answer = desk.http.get(
        f"/api/operator/messages?conversationId={thread}",
        headers={"Authorization": f"Bearer {desk.stack.publishable_key}"},
    )
    assert answer.status_code in (401, 403)


MISTAKES: list[tuple[dict[str, object], int, str | None]] = [
    ({"message": "hi"}, 422, "conversationId"),
    ({"conversation_id": "x", "booking_id": str(BOOKING), "message": "hi"}, 422, "conversationId"),
    ({"conversation_id": "not a key", "message": "hi"}, 422, "conversationId"),
    ({"conversation_id": str(uuid4()), "message": "hi"}, 404, None),
    ({"message": " "}, 422, "message"),
    ({"message": "x" * 4097}, 422, "message"),
    ({"message": "hi", "client_ref": "x" * 129}, 422, "clientRef"),
    ({"message": "hi", "reply_to": "x"}, 422, "replyTo"),
    ({"message": "hi", "reply_to": str(uuid4())}, 422, "replyTo"),
    ({"message": "hi", "status": "read"}, 422, "status"),
    ({"type": "poll"}, 422, "type"),
    ({"type": "image"}, 422, "content"),
    ({"type": "image", "content": {"link": "ftp://a"}}, 422, "content.link"),
    ({"type": "location", "content": {"latitude": 1, "longitude": 181}}, 422, "content.longitude"),
    ({"message": "hi", "content": {"a": 1}}, 422, "content"),
    ({"message": "h\x00i"}, 422, "message"),
    ({"type": "image", "content": {"id": "1", "caption": "\x00"}}, 422, "content"),
]


def test_a_mistake_is_answered_with_its_field(desk: Desk, thread: UUID) -> None:
    for mistake, status, field in MISTAKES:
        body = mistake
        if "conversation_id" not in body and field != "conversationId":
            body = {"conversation_id": str(thread)} | body
        answer = desk.call("andrej", "POST", "/api/operator/messages", body)
        assert (answer.status_code, answer.json().get("field")) == (status, field), mistake
        assert answer.json()["message"]
    assert desk.world.value("select count(*) from private.outbound_queue") == 0


def test_a_number_beyond_all_bounds_is_a_mistake_and_no_fault_of_ours(
    desk: Desk, thread: UUID
) -> None:
    body = (
        f'{{"conversation_id": "{thread}", "type": "location",'
        ' "content": {"latitude": 1e999, "longitude": 0}}'
    )
    answer = desk.http.post(
        "/api/operator/messages",
        content=body,
        headers={
            "Authorization": f"Bearer {desk.token('andrej')}",
            "Content-Type": "application/json",
        },
    )
    assert (answer.status_code, answer.json()["field"]) == (422, "content")


def test_the_same_reference_for_other_words_is_a_conflict(desk: Desk, thread: UUID) -> None:
    def write(text: str) -> int:
        body = {"conversation_id": str(thread), "message": text, "client_ref": "1"}
        return desk.call("andrej", "POST", "/api/operator/messages", body).status_code

    assert [write("one"), write("one"), write("two")] == [201, 201, 409]
    assert desk.graph.received == []


def test_a_query_that_makes_no_sense_is_refused(desk: Desk) -> None:
    for query in (
        {},
        {"conversationId": "x", "bookingId": BOOKING},
        {"conversationId": "x", "limit": 0},
        {"conversationId": "x", "limit": 201},
        {"conversationId": "x", "before": 0},
        {"conversationId": "x", "page": 2},
        {"conversationId": "x", "before": 2, "after": 1},
        {"bookingId": BOOKING, "customerId": CILKA},
    ):
        answer = desk.call("andrej", "GET", "/api/messages", **query)
        assert (answer.status_code, answer.json()["code"]) == (422, "unprocessable"), query


def test_a_body_that_is_no_json_is_malformed(desk: Desk) -> None:
    answer = desk.http.post(
        "/api/messages",
        content=b"{",
        headers={
            "Authorization": f"Bearer {desk.token('andrej')}",
            "Content-Type": "application/json",
        },
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_payload")


def test_outside_the_window_the_answer_says_what_to_do(desk: Desk) -> None:
    """Failure case 19: free text outside 24 hours."""
    thread = conversation(desk.world, written=ago(hours=25))
    body = {"conversation_id": str(thread), "message": "hi"}
    answer = desk.call("andrej", "POST", "/api/operator/messages", body)
    assert answer.status_code == 422
    assert answer.json() == {
        "code": "unprocessable",
        "message": "More than 24 hours have passed since the person last wrote.",
        "field": "type",
        "hint": "Send a template.",
    }
    window = desk.call("andrej", "GET", f"/api/conversations/{thread}/window").json()
    assert window["open"] is False
    template = {"name": "hello", "language": "sl"}
    body = {"conversation_id": str(thread), "type": "template", "content": template}  # type: ignore[dict-item]
    written = desk.call("andrej", "POST", "/api/operator/messages", body)
    assert (written.status_code, written.json()["message"]) == (201, "[template] hello")


@pytest.mark.parametrize("action", ["read", "typing"])
def test_the_customer_is_shown_that_we_read_and_that_we_write(
    desk: Desk, thread: UUID, action: str
) -> None:
    answer = desk.call("andrej", "POST", f"/api/conversations/{thread}/{action}")
    assert answer.status_code == 200
    assert answer.json()["shown"] is True
    ((path, body),) = desk.graph.received
    assert path == "/v26.0/1003427786179738/messages"
    assert body["status"] == "read"
    assert body["message_id"] == "wamid.in.1003427786179738.38640111222"
    assert ("typing_indicator" in body) == (action == "typing")


def test_a_courtesy_that_whatsapp_refuses_is_no_error(desk: Desk, thread: UUID) -> None:
    desk.graph.answer = lambda _body: refused(131009)
    answer = desk.call("andrej", "POST", f"/api/conversations/{thread}/read")
    assert (answer.status_code, answer.json()) == (200, {"lastReadSeq": 1, "shown": False})


def test_a_booking_has_nothing_to_show_at_whatsapp(desk: Desk, booking: UUID) -> None:
    thread = desk.world.value("select id from public.conversations where channel = 'booking'")
    assert booking == BOOKING
    answer = desk.call("andrej", "POST", f"/api/conversations/{thread}/typing")
    assert (answer.status_code, answer.json()["field"]) == (422, "conversationId")


def test_a_person_decides_about_an_unknown_message(desk: Desk, thread: UUID) -> None:
    message = send_to(desk.world, thread)
    again = f"/api/messages/{message}/resend"
    early = desk.call("andrej", "POST", again)
    assert (early.status_code, early.json()["code"]) == (409, "conflict")
    desk.world.owner.execute("update public.messages set status = 'unknown' where seq = 2")
    desk.world.owner.execute("delete from private.outbound_queue")
    desk.world.owner.execute(
        "update private.outbound_attempts"
        " set outcome = 'unknown', ended_at = now() - interval '3 minutes'"
    )
    assert desk.call("vera", "POST", again).status_code == 403
    assert desk.call("andrej", "POST", again).status_code == 202
    assert desk.world.value("select count(*) from private.outbound_queue") == 1
    assert desk.call("andrej", "POST", "/api/messages/x/drop").status_code == 422
