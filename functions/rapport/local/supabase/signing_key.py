"""The private key by which a stack signs users' access tokens."""

from __future__ import annotations

import base64
import json
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, JsonValue

COORDINATE_BYTES = 32


class SigningKey(BaseModel):
    """A key on the curve P-256 for ES256. Source of the names: RFC 7517 and RFC 7518, section 6.2.

    It is only kept here, so that reading a stack's settings does not load the cryptography.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kid: str
    x: str
    y: str
    d: str = Field(repr=False)

    def public_jwk(self) -> dict[str, JsonValue]:
        """The public half, as projects publish it."""
        return {
            "alg": "ES256",
            "crv": "P-256",
            "ext": True,
            "key_ops": ["verify"],
            "kid": self.kid,
            "kty": "EC",
            "use": "sig",
            "x": self.x,
            "y": self.y,
        }

    @property
    def private_number(self) -> int:
        """The secret half; the public one follows from it."""
        return int.from_bytes(base64.urlsafe_b64decode(f"{self.d}="))


def new_signing_key() -> SigningKey:
    """Makes a key, at the first start of a stack."""
    # not above: every process of a stack reads the key, and one of them uses it
    from cryptography.hazmat.primitives.asymmetric import ec

    numbers = ec.generate_private_key(ec.SECP256R1()).private_numbers()
    return SigningKey(
        kid=str(uuid4()),
        x=_base64(numbers.public_numbers.x),
        y=_base64(numbers.public_numbers.y),
        d=_base64(numbers.private_value),
    )


def published_keys(key: SigningKey) -> dict[str, JsonValue]:
    """The keys that everybody may see, as a JWK set."""
    return {"keys": [key.public_jwk()]}


def service_keys(key: SigningKey, jwt_secret: str) -> str:
    """The keys of all tokens as a JWK set in JSON, with the shared secret: for PostgREST alone."""
    shared = base64.urlsafe_b64encode(jwt_secret.encode()).decode().rstrip("=")
    secret_jwk: JsonValue = {"kty": "oct", "alg": "HS256", "k": shared}
    return json.dumps({"keys": [key.public_jwk(), secret_jwk]})


def _base64(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(COORDINATE_BYTES)).decode().rstrip("=")
