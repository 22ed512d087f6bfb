"""Which servers are trusted."""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socketpair

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL.crypto import FILETYPE_PEM, X509Store, X509StoreContext, load_certificate

from rapport.commands.package.certificates import write_certificates
from rapport.connections import trusted

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
