"""The trusted certificates as a folder. OpenSSL reads the ones that a connection needs.

To read all of them takes as long as to import what calls the database. In a folder, OpenSSL finds a
certificate by the hash of its subject.

Source: docs.openssl.org, "openssl-rehash".
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from OpenSSL.crypto import FILETYPE_PEM, load_certificate

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", re.DOTALL)


def write_certificates(bundle: Path, folder: Path) -> None:
    """Writes each certificate of a PEM file to a file of its own in a new folder."""
    folder.mkdir()
    # certificates of one subject, and subjects of one hash, are counted
    named: Counter[str] = Counter()
    for certificate in _CERTIFICATE.findall(bundle.read_bytes()):
        subject = load_certificate(FILETYPE_PEM, certificate).subject_name_hash()
        name = f"{subject:08x}"
        (folder / f"{name}.{named[name]}").write_bytes(certificate)
        named[name] += 1
