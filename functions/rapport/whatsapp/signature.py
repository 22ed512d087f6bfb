"""The signature that Meta puts on a webhook."""

from __future__ import annotations

import hashlib
import hmac
import re

HEADER = "X-Hub-Signature-256"


def sign(body: bytes, secret: str) -> str:
    """The header's value for `body`: HMAC-SHA256 with the app's secret.

    Source: developers.facebook.com, "Create a webhook endpoint".
    """
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def is_well_formed(signature: str) -> bool:
    """Whether it could be a signature of Meta's, of whatever bytes and with whatever secret."""
    return re.fullmatch(r"sha256=[0-9a-f]{64}", signature) is not None


def is_signed(body: bytes, signature: str, secret: str) -> bool:
    """Whether `signature` is that of exactly these bytes, compared in constant time."""
    # as bytes: compare_digest takes no text beyond ASCII, and a header may hold any
    return hmac.compare_digest(sign(body, secret).encode(), signature.encode())
