"""One push to one device: what a push service and the browser behind it make of it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from tests.stacks import served

from rapport.local.fakes.faults import CloseDropped
from rapport.local.fakes.push.app import PushService
from rapport.push import guarded, sender
from rapport.push.encryption import (
    CURVE,
    LONGEST,
    encrypted,
    from_base64url,
    point_of,
    to_base64url,
)
from rapport.push.guarded import AddressRefused, GuardedBackend, is_allowed
from rapport.push.sender import PushOutcome, PushSender
from rapport.push.vapid import Vapid, new_private_key
from rapport.store.notifications import PushJob

# RFC 8291, appendix A
RFC = {
    "plaintext": "V2hlbiBJIGdyb3cgdXAsIEkgd2FudCB0byBiZSBhIHdhdGVybWVsb24",
    "sender": "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw",
    "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-"
    "AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
    "auth": "BTBZMqHH6r4Tts7J_aSIgg",
    "salt": "DGv6ra1nlYgDCS1FRnbzlw",
    "body": "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3"
    "vCYLocInmY"
    "WAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj"
    "_Qulcy4a-fN",
}


def test_a_push_is_encrypted_as_the_standard_has_it() -> None:
    given = {name: from_base64url(value) for name, value in RFC.items()}
    key = ec.derive_private_key(int.from_bytes(given["sender"], "big"), CURVE)
    body = encrypted(
        given["plaintext"], given["p256dh"], given["auth"], salt=given["salt"], sender=key
    )
    assert to_base64url(body) == RFC["body"]
    with pytest.raises(ValueError, match="at most"):
        encrypted(b"x" * (LONGEST + 1), given["p256dh"], given["auth"])


class Service:
    """A push service in this process, and a sender that is allowed to reach it."""

    def __init__(self, url: str, vapid: Vapid, sender: PushSender) -> None:
        self.url = url
        self.vapid = vapid
        self.sender = sender

    def order(self, name: str, **order: Any) -> dict[str, Any]:
        response = httpx.post(f"{self.url}/_fake/{name}", json=order, trust_env=False)
        answer: dict[str, Any] = response.raise_for_status().json()
        return answer

    def device(self) -> PushJob:
        """A notification for a new device."""
        given = self.order("devices", public_key=self.vapid.public_key)
        return PushJob(
            push_id=uuid4(),
            account_id=uuid4(),
            endpoint=given["endpoint"],
            **given["keys"],
            kind="message",
            subject_id=uuid4(),
            title="Čilka",
            body="🙂" * 120,
        )

    def received(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"{self.url}/_fake/received", trust_env=False).json()
        return answer

    def misbehave(self, **fault: Any) -> None:
        self.order("behaviour", faults=[fault])


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    fake = PushService("")
    with served(CloseDropped(Starlette(routes=fake.routes))) as url:
        fake.url = url
        vapid = Vapid(new_private_key(), "mailto:desk@rapport.example")
        with closing(PushSender(vapid, allows_loopback=True)) as sending:
            yield Service(url, vapid, sending)


def test_the_device_shows_what_was_pushed_and_nothing_else(service: Service) -> None:
    service.order("reset")
    job = service.device()
    assert service.sender.send(job) == PushOutcome("sent", "201")
    assert service.received()["received"] == [
        {
            "endpoint": job.endpoint,
            "shown": {
                "title": job.title,
                "body": job.body,
                "kind": "message",
                "id": str(job.subject_id),
            },
            "topic": job.subject_id.hex,
            "urgency": "high",
            "ttl": 86400,
        }
    ]
    # an error of ours shows no secret
    assert not {job.endpoint, job.auth, job.p256dh, job.body} & set(repr(job).split("'"))


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"status": 429, "retry_after": 120}, PushOutcome("retry", "429", 120)),
        ({"status": 503}, PushOutcome("retry", "503")),
        ({"status": 413}, PushOutcome("refused", "413")),
        ({"status": 410}, PushOutcome("gone", "410")),
        ({"drop": True}, PushOutcome("retry", "RemoteProtocolError")),
        # it leads nowhere else
        ({"redirect_to": "http://127.0.0.1:9/"}, PushOutcome("refused", "307")),
        # and its answer is not read to an end that it does not have
        ({"endless": True}, PushOutcome("sent", "201")),
    ],
)
def test_what_a_push_service_may_answer(
    service: Service, fault: dict[str, Any], outcome: PushOutcome
) -> None:
    service.misbehave(**fault)
    assert service.sender.send(service.device()) == outcome


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"120", 120),
        (b"Mon, 01 Jan 2001 00:00:00 GMT", 0),
        (b"Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        (b"Mon, 01 Jan 10000 00:00:00 GMT", None),
        (b"Mon, 01 Jan 2030 00:00:00 +999999999999999", None),
        (b"Mon, 01 Jan 0001 00:00:00 +2359", 0),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_a_pause_that_a_push_service_asks_for(text: bytes, seconds: int | None) -> None:
    headers = {b"Retry-After": text}
    assert sender._outcome(429, headers) == PushOutcome("retry", "429", seconds)


def test_an_address_that_leads_nowhere_is_an_outcome(service: Service) -> None:
    job = service.device()
    # no name of DNS: its label has 64 characters
    nowhere = job.model_copy(update={"endpoint": f"https://{'a' * 64}.com/"})
    assert service.sender.send(nowhere) == PushOutcome("retry", "ConnectError")
    assert service.sender.send(job) == PushOutcome("sent", "201")

    class Broken(Vapid):
        def header(self, origin: str) -> str:
            raise LookupError(origin)

    # what nobody has thought of ends this push alone
    with closing(
        PushSender(Broken(new_private_key(), "mailto:x@y.example"), allows_loopback=True)
    ) as broken:
        assert broken.send(job) == PushOutcome("refused", "LookupError")


def test_a_push_that_no_device_can_get(service: Service) -> None:
    service.order("reset")
    job = service.device()
    unknown = job.model_copy(update={"endpoint": f"{service.url}/push/nobody"})
    assert service.sender.send(unknown) == PushOutcome("gone", "404")
    service.order("forget", endpoint=job.endpoint)
    assert service.sender.send(job) == PushOutcome("gone", "410")
    # no point of the curve
    odd = job.model_copy(update={"p256dh": "A" * 87})
    assert service.sender.send(odd) == PushOutcome("gone", "keys")
    # another server's key: the subscription is not ours
    with closing(
        PushSender(Vapid(new_private_key(), "mailto:x@y.example"), allows_loopback=True)
    ) as other:
        assert other.send(service.device()) == PushOutcome("refused", "403")
    assert service.received()["received"] == []


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1"),
        *("::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:10.0.0.1", "2002:0a00:0001::"),
        *("64:ff9b::a9fe:a9fe", "2001:0:1:2:3:4:f5ff:fffe", "fec0::1", "::10.0.0.1", "::8.8.8.8"),
        *("64:ff9b:1::a9fe:a9fe", "::ffff:0:10.0.0.1", "4000::1", "::ffff:0:0:1"),
    ],
)
def test_a_private_address_is_refused(text: str) -> None:
    assert not is_allowed(text, allows_loopback=False)


@pytest.mark.parametrize(
    "text", ["142.250.180.106", "2a00:1450:400d:80c::200a", "64:ff9b::8efa:b46a"]
)
def test_a_public_address_is_allowed(text: str) -> None:
    assert is_allowed(text, allows_loopback=False)


def test_a_name_that_leads_inside_is_not_connected_to(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = service.device()
    calls = service.received()["calls"]
    with closing(PushSender(service.vapid)) as deployed:
        # http is for the stack of this machine alone
        assert deployed.send(job) == PushOutcome("refused", "address")
        # a public name whose second address is private
        port = service.url.rpartition(":")[2]

        def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
            ipv4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
            return [(*ipv4, ("142.250.180.106", 443)), (*ipv4, ("127.0.0.1", int(port)))]

        monkeypatch.setattr(guarded.socket, "getaddrinfo", resolve)
        named = job.model_copy(update={"endpoint": f"https://push.example:{port}/push/1"})
        assert deployed.send(named) == PushOutcome("refused", "address")
    monkeypatch.undo()
    assert service.received()["calls"] == calls
    with pytest.raises(AddressRefused):
        GuardedBackend(allows_loopback=False).connect_tcp("localhost", int(port))


def test_an_answer_that_trickles_ends_with_the_exchange(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "EXCHANGE", 0.3)
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def trickle() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 201 Created\r\n")
                while not stop.wait(0.02):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        break

        thread = threading.Thread(target=trickle)
        thread.start()
        port = server.getsockname()[1]
        job = service.device().model_copy(update={"endpoint": f"http://127.0.0.1:{port}/1"})
        assert service.sender.send(job) == PushOutcome("retry", "ReadTimeout")
        stop.set()
        thread.join()


def test_a_signature_serves_its_own_push_service() -> None:
    key = new_private_key()
    vapid = Vapid(key, "mailto:desk@rapport.example")
    first = vapid.header("https://a.example")
    assert vapid.header("https://a.example") == first
    assert vapid.header("https://b.example") != first
    point = point_of(
        ec.derive_private_key(int.from_bytes(from_base64url(key), "big"), CURVE).public_key()
    )
    assert first.endswith(f"k={to_base64url(point)}")
    for wrong in ("", "AAAA", "not base64!"):
        with pytest.raises(ValueError):  # noqa: PT011 - any of its kinds
            Vapid(wrong, "mailto:desk@rapport.example")
