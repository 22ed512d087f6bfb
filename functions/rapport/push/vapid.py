"""Signs pushes as ours, so that a push service takes them for our subscriptions alone.

Source: RFC 8292, "Voluntary Application Server Identification".
"""

from __future__ import annotations

import threading
import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from rapport.push.encryption import CURVE, from_base64url, point_of, to_base64url

# seconds: a push service takes 24 hours at most
LIFETIME = 12 * 3600
RENEWAL = 3600


def new_private_key() -> str:
    """A private key in base64url, as all tools for VAPID write it."""
    number = ec.generate_private_key(CURVE).private_numbers().private_value
    return to_base64url(number.to_bytes(32, "big"))


class Vapid:
    """The header that says who pushes; a signature serves one push service for an hour.

    Raises ValueError for a private key that is no number of 32 bytes in base64url.
    """

    def __init__(self, private_key: str, contact: str) -> None:
        secret = from_base64url(private_key)
        if len(secret) != 32:
            raise ValueError("A private key of VAPID has 32 bytes.")
        self._key = ec.derive_private_key(int.from_bytes(secret, "big"), CURVE)
        self._contact = contact
        self._lock = threading.Lock()
        # by the origin of a push service: the token, and until when it is used
        self._tokens: dict[str, tuple[str, float]] = {}
        self.public_key = to_base64url(point_of(self._key.public_key()))

    def header(self, origin: str) -> str:
        """The value of Authorization for a push service."""
        now = time.time()
        with self._lock:
            token, renewed_at = self._tokens.get(origin, ("", 0.0))
            if renewed_at <= now:
                claims = {"aud": origin, "exp": int(now) + LIFETIME, "sub": self._contact}
                token = jwt.encode(claims, self._key, algorithm="ES256")
                # endpoints are named by users: they fill no memory
                if len(self._tokens) >= 100:
                    self._tokens.clear()
                self._tokens[origin] = (token, now + RENEWAL)
        return f"vapid t={token}, k={self.public_key}"
