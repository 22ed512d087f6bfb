"""A browser's half of Web Push: it makes the keys of a subscription, and opens what comes."""

from __future__ import annotations

import os
import struct
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import BaseModel

from rapport.push.encryption import (
    CURVE,
    content_keys,
    from_base64url,
    point_of,
    to_base64url,
)
from rapport.push.vapid import new_private_key

_HEADER = 16 + 4 + 1


class UnreadablePush(Exception):  # noqa: N818 - what has happened
    """A push that the browser can't open."""


class Device(BaseModel):
    """A subscription, with the private key that no browser tells."""

    # the page's key, with which pushes are to be signed
    public_key: str
    private_key: str
    p256dh: str
    auth: str

    @classmethod
    def new(cls, public_key: str) -> Self:
        """Subscribes with a page's key."""
        private_key = new_private_key()
        return cls(
            public_key=public_key,
            private_key=private_key,
            p256dh=to_base64url(point_of(_private(private_key).public_key())),
            auth=to_base64url(os.urandom(16)),
        )

    def opened(self, body: bytes) -> bytes:
        """The payload of a push. Raises UnreadablePush."""
        if len(body) < _HEADER:
            raise UnreadablePush("it has no header")
        salt, (_, length) = body[:16], struct.unpack("!IB", body[16:_HEADER])
        sender, record = body[_HEADER : _HEADER + length], body[_HEADER + length :]
        try:
            shared = _private(self.private_key).exchange(
                ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(CURVE, sender)
            )
            key, nonce = content_keys(
                shared, from_base64url(self.auth), salt, from_base64url(self.p256dh), sender
            )
            padded = AESGCM(key).decrypt(nonce, record, None)
        except (ValueError, InvalidTag) as error:
            raise UnreadablePush(type(error).__name__) from None
        payload, delimiter, padding = padded.rpartition(b"\x02")
        if not delimiter or padding.strip(b"\0"):
            raise UnreadablePush("it is not the last record")
        return payload


def _private(text: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(from_base64url(text), "big"), CURVE)
