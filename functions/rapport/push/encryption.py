"""Encrypts a notification for one device: only its browser reads it, no push service.

Sources: RFC 8291, "Message Encryption for Web Push"; RFC 8188, "Encrypted Content-Encoding".
"""

from __future__ import annotations

import base64
import os
import struct

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CURVE = ec.SECP256R1()
RECORD_SIZE = 4096
# of one record: what push services have to take, without header, tag and delimiter
LONGEST = RECORD_SIZE - 86 - 16 - 1
_LAST_RECORD = b"\x02"


def to_base64url(value: bytes) -> str:
    """As browsers write keys: without "="."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """The bytes of base64url. Raises ValueError for any other text."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def point_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """A public key as an uncompressed point, 65 bytes."""
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def encrypted(
    payload: bytes,
    p256dh: bytes,
    auth: bytes,
    *,
    salt: bytes | None = None,
    sender: ec.EllipticCurvePrivateKey | None = None,
) -> bytes:
    """The body of a push (aes128gcm) for the device with this public key and secret.

    `salt` and `sender` are new ones for each push; tests give their own. Raises ValueError for a
    payload above `LONGEST` bytes, and for a key that is no point of the curve.
    """
    if len(payload) > LONGEST:
        raise ValueError(f"A push has at most {LONGEST} bytes.")
    receiver = ec.EllipticCurvePublicKey.from_encoded_point(CURVE, p256dh)
    sender = sender or ec.generate_private_key(CURVE)
    salt = salt or os.urandom(16)
    point = point_of(sender.public_key())
    shared = sender.exchange(ec.ECDH(), receiver)
    key, nonce = content_keys(shared, auth, salt, p256dh, point)
    record = AESGCM(key).encrypt(nonce, payload + _LAST_RECORD, None)
    return salt + struct.pack("!IB", RECORD_SIZE, len(point)) + point + record


def content_keys(
    shared: bytes, auth: bytes, salt: bytes, receiver: bytes, sender: bytes
) -> tuple[bytes, bytes]:
    """The key and the nonce of the only record, from what both sides know."""
    secret = _derived(shared, auth, b"WebPush: info\0" + receiver + sender, 32)
    return (
        _derived(secret, salt, b"Content-Encoding: aes128gcm\0", 16),
        _derived(secret, salt, b"Content-Encoding: nonce\0", 12),
    )


def _derived(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)
