"""Checks the signatures of requests to AWS, since any web page can send requests.

Source: docs.aws.amazon.com, "Signature Version 4" and "Authenticating Requests: Using Query
Parameters".
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from werkzeug.wrappers import Request

# the largest accepted difference between clocks
TOLERANCE = timedelta(minutes=15)
LONGEST_LIFE = timedelta(days=7)
BODY_LIMIT = 2 * 1024 * 1024  # bytes, except S3's bodies, which carry their own digest

_TIME = "%Y%m%dT%H%M%SZ"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<credential>[^,\s]+),\s*"
    r"SignedHeaders=(?P<headers>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]+)"
)


class Verifier:
    """Knows the one key, and checks whether a request was signed with it."""

    def __init__(self, key_id: str, secret: str, host: str) -> None:
        self._credentials = Credentials(key_id, secret)
        # by which functions sign; a telephone in the network has another name for it
        self._host = host

    def is_signed(self, request: Request) -> bool:
        """Whether the header or the address was signed with the key and is still valid."""
        query = parse_qs(request.query_string.decode("latin-1"), keep_blank_values=True)
        if "X-Amz-Signature" in query:
            return self._is_presigned(request, {name: value[0] for name, value in query.items()})
        found = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
        time = request.headers.get("x-amz-date", "")
        if found is None or not _is_between(time, TOLERANCE, TOLERANCE):
            return False
        scope = self._scope(found["credential"])
        if scope is None:
            return False
        service, region = scope
        if service == "s3":
            auth: SigV4Auth = S3SigV4Auth(self._credentials, service, region)
            body = b""
        else:
            auth = SigV4Auth(self._credentials, service, region)
            body = _body(request)
        return self._is_right(
            auth, request, found["headers"].split(";"), time, found["signature"], body
        )

    def _is_presigned(self, request: Request, query: dict[str, str]) -> bool:
        time, life = query.get("X-Amz-Date", ""), query.get("X-Amz-Expires", "")
        scope = self._scope(query.get("X-Amz-Credential", ""))
        if scope is None or not life.isdecimal():
            return False
        lives = min(timedelta(seconds=int(life[:7])), LONGEST_LIFE)
        if not _is_between(time, lives, TOLERANCE):
            return False
        auth = S3SigV4QueryAuth(self._credentials, *scope, expires=int(life[:7]))
        headers = query.get("X-Amz-SignedHeaders", "").split(";")
        return self._is_right(auth, request, headers, time, query["X-Amz-Signature"])

    def _scope(self, credential: str) -> tuple[str, str] | None:
        """The service and the region of a request, if it names the key."""
        parts = credential.split("/")
        if len(parts) != 5 or parts[0] != self._credentials.access_key:
            return None
        return parts[3], parts[2]

    def _is_right(
        self,
        auth: SigV4Auth,
        request: Request,
        headers: Iterable[str],
        time: str,
        signature: str,
        body: bytes = b"",
    ) -> bool:
        target = urlsplit(request.environ["RAW_URI"])
        kept = [part for part in target.query.split("&") if not part.startswith("X-Amz-Signature=")]
        # signed for the name that the request gives, or for the one that functions know
        for host in (request.host, self._host):
            signed = AWSRequest(
                method=request.method,
                url=f"http://{host}{target.path}?{'&'.join(kept)}",
                headers={
                    name: host if name == "host" else request.headers.get(name, "")
                    for name in headers
                },
                data=body,
            )
            signed.context["timestamp"] = time
            expected = auth.signature(
                auth.string_to_sign(signed, auth.canonical_request(signed)), signed
            )
            if hmac.compare_digest(expected.encode(), signature.encode()):
                return True
        return False


def _body(request: Request) -> bytes:
    """The body; it can be read again afterwards."""
    length = request.content_length or 0
    if length > BODY_LIMIT:
        return b""
    body = request.environ["wsgi.input"].read(length)
    request.environ["wsgi.input"] = BytesIO(body)
    return bytes(body)


def _is_between(time: str, before: timedelta, after: timedelta) -> bool:
    """Whether it is at most `before` in the past or `after` in the future."""
    try:
        moment = datetime.strptime(time, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return False
    return -after <= datetime.now(UTC) - moment <= before
