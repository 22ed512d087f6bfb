"""Which servers are trusted, and how they are called."""

from __future__ import annotations

import base64
import json
import os
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from pathlib import Path
from select import select
from socket import AF_INET, AF_UNIX, SOCK_STREAM, socket, socketpair
from threading import Event, Thread
from typing import Any

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL.crypto import FILETYPE_PEM, X509Store, X509StoreContext, load_certificate

from rapport.commands.package.certificates import write_certificates
from rapport.connections import Connections, Unreachable, trusted

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names no certificates, as it does on some machines."""
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(variable, raising=False)


class Authority:
    """Signs certificates; its own is a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.file = folder / f"{name}.pem"
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Rapport's  Tests ✓"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        own = self._certificate(self._name, self._key, is_authority=True)
        self.file.write_bytes(own.public_bytes(Encoding.PEM))

    def server(self) -> ssl.SSLContext:
        """A server whose certificate this authority has signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        public = self._certificate(name, key, is_authority=False).public_bytes(Encoding.PEM)
        file = self._folder / f"server-of-{self.file.name}"
        file.write_bytes(private + public)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _certificate(
        self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_authority: bool
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        public = key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if is_authority:
            usage = x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            )
            builder = builder.add_extension(usage, critical=True)
        else:
            address = x509.IPAddress(IPv4Address(HOST))
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        return builder.sign(self._key, hashes.SHA256())


def connect(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    """Greets the server as a client that calls 127.0.0.1."""
    here, there = socketpair(AF_UNIX, SOCK_STREAM)

    def serve() -> None:
        # what the client refuses is the client's to tell
        with there, suppress(OSError), server.wrap_socket(there, server_side=True) as talking:
            talking.recv(1)

    with ThreadPoolExecutor() as threads, here:
        threads.submit(serve)
        with client.wrap_socket(here, server_hostname=HOST):
            pass


def test_servers_of_the_authorities_in_the_folder_are_trusted_and_no_others(tmp_path: Path) -> None:
    known, second, foreign = (Authority(tmp_path, name) for name in ("known", "second", "foreign"))
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(f"# Two\n{known.file.read_text()}\n# of them\n{second.file.read_text()}")
    folder = tmp_path / "certificates"
    write_certificates(bundle, folder)
    assert len(list(folder.iterdir())) == 2
    context = trusted(folder)
    # nothing is read before it is needed
    assert context.cert_store_stats()["x509"] == 0
    connect(context, known.server())
    connect(context, second.server())
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        connect(context, foreign.server())


def test_two_authorities_of_one_name_are_both_found(tmp_path: Path) -> None:
    """As where an authority has a new key under its old name."""
    (tmp_path / "old").mkdir()
    old, new = Authority(tmp_path / "old", "same"), Authority(tmp_path, "same")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(old.file.read_bytes() + new.file.read_bytes())
    folder = tmp_path / "certificates"
    write_certificates(bundle, folder)
    assert {file.suffix for file in folder.iterdir()} == {".0", ".1"}
    connect(trusted(folder), old.server())
    connect(trusted(folder), new.server())


def test_each_of_certifi_s_certificates_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "certificates"
    write_certificates(Path(certifi.where()), folder)
    files = list(folder.iterdir())
    assert len(files) == Path(certifi.where()).read_text().count("BEGIN CERTIFICATE") > 100
    store = X509Store()
    store.load_locations(None, str(folder))
    for file in files:
        certificate = load_certificate(FILETYPE_PEM, file.read_bytes())
        # it has signed itself, and so is good where it is found
        X509StoreContext(store, certificate).verify_certificate()


def test_what_the_environment_names_comes_before_the_folder(tmp_path: Path) -> None:
    told, packed = Authority(tmp_path, "told"), Authority(tmp_path, "packed")
    write_certificates(packed.file, tmp_path / "folder")
    write_certificates(told.file, tmp_path / "named")
    for variable, path in (("SSL_CERT_FILE", told.file), ("SSL_CERT_DIR", tmp_path / "named")):
        trusted.cache_clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(variable, str(path))
            context = trusted(tmp_path / "folder")
        connect(context, told.server())
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(context, packed.server())


def test_without_a_folder_they_are_certifi_s(tmp_path: Path) -> None:
    context = trusted(tmp_path / "none")
    assert context.cert_store_stats()["x509"] > 100


class _Service(BaseHTTPRequestHandler):
    """Behaves as the last word of the path says."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def _answer(self) -> None:
        given = self.rfile.read(int(self.headers.get("content-length", 0)))
        told = {
            "method": self.command,
            "target": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": given.decode(),
            "connection": self.client_address[1],
        }
        match self.path.rpartition("/")[2]:
            case "moved":
                self._send(302, b"", Location="/echo")
            case "cut":
                self._send(200, b'{"a":', length=100)
                self.close_connection = True
            case "silent":
                self.server.ended.wait()
                self.close_connection = True
            case "garbage":
                self.wfile.write(b"SSH-2.0 and more\r\n\r\n")
                self.close_connection = True
            case "hangs-up":
                self._send(200, b"{}")
                self.close_connection = True
            case _:
                self._send(200, json.dumps(told).encode(), ETag='"1"')

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 - the names that it calls

    def _send(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__((HOST, 0), _Service)
        self.ended = Event()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"


@pytest.fixture(scope="module")
def server() -> Iterator[_Server]:
    with _Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.ended.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def http(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connections]:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with closing(Connections(timeout=5)) as http:
        yield http


def told(http: Connections, method: str, url: str, body: bytes = b"") -> dict[str, Any]:
    answer = http.send(method, url, {"X-Any": "1"}, body)
    assert (answer.status, answer.is_success, answer.headers["etag"]) == (200, True, '"1"')
    found = answer.json()
    assert isinstance(found, dict)
    return found


def test_calls_say_what_they_have_to_and_share_a_connection(
    server: _Server, http: Connections
) -> None:
    posted = told(http, "POST", f"{server.url}/a?b=%20c", b'{"a":1}')
    assert (posted["method"], posted["target"], posted["body"]) == (
        "POST",
        "/a?b=%20c",
        '{"a":1}',
    )
    headers = posted["headers"]
    assert (headers["host"], headers["content-length"], headers["x-any"]) == (
        f"{HOST}:{server.server_port}",
        "7",
        "1",
    )
    # what is compressed isn't unpacked here
    assert (headers["accept-encoding"], headers["user-agent"]) == ("identity", "rapport")
    assert told(http, "POST", f"{server.url}/a")["headers"]["content-length"] == "0"
    read = told(http, "GET", f"{server.url}/a")
    assert "content-length" not in read["headers"]
    assert read["connection"] == posted["connection"]


def test_a_redirection_is_an_answer(server: _Server, http: Connections) -> None:
    answer = http.send("GET", f"{server.url}/moved", {})
    assert (answer.status, answer.is_success, answer.content) == (302, False, b"")


def test_an_idle_connection_that_was_closed_is_not_used_again(
    server: _Server, http: Connections
) -> None:
    assert http.send("GET", f"{server.url}/hangs-up", {}).json() == {}
    # unless its end was seen already
    for idle in http._pools[None].connections:
        stream = idle._connection._network_stream  # type: ignore[attr-defined]  # httpcore's own
        assert select([stream.get_extra_info("socket")], [], [], 20)[0]
    assert told(http, "GET", f"{server.url}/echo")["method"] == "GET"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/cut", "RemoteProtocolError"),
        ("/garbage", "RemoteProtocolError"),
        ("/silent", "ReadTimeout"),
    ],
)
def test_without_a_whole_answer_the_service_can_t_be_reached(
    server: _Server, http: Connections, path: str, name: str
) -> None:
    with (
        closing(Connections(timeout=5 if path != "/silent" else 0.1)) as calling,
        pytest.raises(Unreachable) as caught,
    ):
        calling.send("GET", f"{server.url}{path}", {})
    # neither a host nor a word of the answer
    assert str(caught.value) == name
    assert caught.value.__suppress_context__
    # and the next call goes
    assert told(http, "GET", f"{server.url}/echo")


def test_where_nobody_listens_and_what_is_no_http(http: Connections) -> None:
    with socket(AF_INET, SOCK_STREAM) as bound:
        bound.bind((HOST, 0))
        with pytest.raises(Unreachable, match=r"^ConnectError$"):
            http.send("GET", f"http://{HOST}:{bound.getsockname()[1]}/", {})
    with pytest.raises(Unreachable, match=r"^UnsupportedProtocol$"):
        http.send("GET", "ftp://service.example/", {})


def test_a_proxy_that_the_environment_names_is_asked(
    server: _Server, http: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://ana:p%40ss%C4%8D@{HOST}:{server.server_port}")
    asked = told(http, "GET", "http://service.example/echo")
    assert asked["target"] == "http://service.example/echo"
    login = base64.b64encode("ana:p@ssč".encode()).decode()
    assert asked["headers"]["proxy-authorization"] == f"Basic {login}"
    # what the environment excepts is called itself
    monkeypatch.setenv("NO_PROXY", HOST)
    assert told(http, "GET", f"{server.url}/echo")["target"] == "/echo"
    # one that is named without a scheme, for every address
    monkeypatch.delenv("HTTP_PROXY")
    monkeypatch.setenv("ALL_PROXY", f"{HOST}:{server.server_port}")
    assert told(http, "GET", "http://other.example/echo")["target"] == "http://other.example/echo"
