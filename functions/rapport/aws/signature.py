"""Signs requests to AWS, by Signature Version 4.

Source: docs.aws.amazon.com, "Create a signed AWS API request" and "Authenticating Requests: Using
Query Parameters (AWS Signature Version 4)".
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple, Self
from urllib.parse import parse_qsl, quote, urlsplit

from rapport.errors import ConfigError

UNSIGNED = "UNSIGNED-PAYLOAD"
_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True)
class Credentials:
    """Who we are to AWS; a role has a session token."""

    key_id: str
    secret: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)

    @classmethod
    def of_environment(cls) -> Self:
        """The credentials of the function's role, which Lambda puts into the environment.

        Raises:
            ConfigError: There are none.
        """
        key_id, secret = (
            os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        )
        if not key_id or not secret:
            raise ConfigError(
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set. Lambda sets them;"
                " elsewhere set them in the environment, or leave out what needs AWS."
            )
        return cls(key_id, secret, os.environ.get("AWS_SESSION_TOKEN") or None)


class Signer(NamedTuple):
    """Signs for one service in one region."""

    credentials: Credentials
    service: str
    region: str

    def headers(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | str,
        now: datetime | None = None,
    ) -> dict[str, str]:
        """The headers of a request, with those that sign it; `body` may be UNSIGNED."""
        time = _time(now)
        digest = body if isinstance(body, str) else hashlib.sha256(body).hexdigest()
        signed = {name.lower(): value.strip() for name, value in headers.items()}
        signed |= {"host": urlsplit(url).netloc, "x-amz-date": time}
        if self.service == "s3":
            signed["x-amz-content-sha256"] = digest
        if self.credentials.session_token:
            signed["x-amz-security-token"] = self.credentials.session_token
        names = ";".join(sorted(signed))
        canonical = self._canonical(method, url, urlsplit(url).query, signed, digest)
        credential = f"{self.credentials.key_id}/{self._scope(time)}"
        signature = self._signature(time, canonical)
        signed["authorization"] = (
            f"{_ALGORITHM} Credential={credential},SignedHeaders={names},Signature={signature}"
        )
        return signed

    def presigned(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        seconds: int,
        now: datetime | None = None,
    ) -> str:
        """An address that needs no credentials for so long; the request must have these headers."""
        time = _time(now)
        signed = {name.lower(): value.strip() for name, value in headers.items()}
        signed["host"] = urlsplit(url).netloc
        parameters = {
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{self.credentials.key_id}/{self._scope(time)}",
            "X-Amz-Date": time,
            "X-Amz-Expires": str(seconds),
            "X-Amz-SignedHeaders": ";".join(sorted(signed)),
        }
        if self.credentials.session_token:
            parameters["X-Amz-Security-Token"] = self.credentials.session_token
        plain, _, given = url.partition("?")
        query = "&".join(part for part in (given, query_string(parameters)) if part)
        signature = self._signature(time, self._canonical(method, plain, query, signed, UNSIGNED))
        return f"{plain}?{query}&X-Amz-Signature={signature}"

    def _canonical(
        self, method: str, url: str, query: str, headers: Mapping[str, str], digest: str
    ) -> str:
        path = urlsplit(url).path or "/"
        # S3 takes the path as it is sent; the other services encode it once more
        if self.service != "s3":
            path = quote(path, safe="/~")
        pairs = sorted(
            (quote(name, safe="~"), quote(value, safe="~"))
            for name, value in parse_qsl(query, keep_blank_values=True)
        )
        lines = [f"{name}:{' '.join(headers[name].split())}" for name in sorted(headers)]
        return "\n".join(
            [
                method,
                path,
                "&".join(f"{name}={value}" for name, value in pairs),
                *lines,
                "",
                ";".join(sorted(headers)),
                digest,
            ]
        )

    def _signature(self, time: str, canonical: str) -> str:
        told = "\n".join(
            [_ALGORITHM, time, self._scope(time), hashlib.sha256(canonical.encode()).hexdigest()]
        )
        key = f"AWS4{self.credentials.secret}".encode()
        for part in (time[:8], self.region, self.service, "aws4_request", told):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key.hex()

    def _scope(self, time: str) -> str:
        return f"{time[:8]}/{self.region}/{self.service}/aws4_request"


def query_string(parameters: Mapping[str, str]) -> str:
    """Parameters as AWS encodes them: a space is %20."""
    return "&".join(
        f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in parameters.items()
    )


def _time(now: datetime | None) -> str:
    return (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
