"""Signatures, by AWS's own examples and by its own library."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from rapport.aws.signature import Credentials, Signer, query_string
from rapport.errors import ConfigError

# docs.aws.amazon.com, "Signature Calculations for the Authorization Header" and "Authenticating
# Requests: Using Query Parameters"
S3 = Signer(
    Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    "s3",
    "us-east-1",
)
IN_2013 = datetime(2013, 5, 24, tzinfo=UTC)
BUCKET = "https://examplebucket.s3.amazonaws.com"


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "signature"),
    [
        (
            "GET",
            "/test.txt",
            {"Range": "bytes=0-9"},
            b"",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "/test%24file.text",
            {
                "Date": "Fri, 24 May 2013 00:00:00 GMT",
                "x-amz-storage-class": "REDUCED_REDUNDANCY",
            },
            b"Welcome to Amazon S3.",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "/?lifecycle",
            {},
            b"",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "/?max-keys=2&prefix=J",
            {},
            b"",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_the_examples_of_s3(
    method: str, path: str, headers: dict[str, str], body: bytes, signature: str
) -> None:
    signed = S3.headers(method, BUCKET + path, headers, body, IN_2013)
    assert signed["authorization"].endswith(f"Signature={signature}")


def test_the_example_of_a_presigned_address() -> None:
    url = S3.presigned("GET", f"{BUCKET}/test.txt", {}, 86400, IN_2013)
    assert parse_qs(urlsplit(url).query)["X-Amz-Signature"] == [
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    ]


def test_the_example_of_another_service() -> None:
    """docs.aws.amazon.com, "Create a signed AWS API request"."""
    iam = Signer(
        Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"), "iam", "us-east-1"
    )
    signed = iam.headers(
        "GET",
        "https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
        {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        b"",
        datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
    )
    assert signed["authorization"].endswith(
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


# what a header may hold
PRINTABLE = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)
TOKENS = st.none() | PRINTABLE


@given(key=TEXT, value=TEXT, name=TEXT, token=TOKENS, body=st.binary(max_size=50))
def test_headers_are_those_of_the_official_library(
    key: str, value: str, name: str, token: str | None, body: bytes
) -> None:
    for service, official in (("s3", S3SigV4Auth), ("ssm", SigV4Auth)):
        # only paths in S3 may have empty parts or dots: the library takes these away elsewhere
        path = key if service == "s3" else key.replace("/", "").replace(".", "")
        url = f"https://host.example:8443/{quote(path, safe='/~')}?{query_string({name: value})}"
        signer = Signer(Credentials("id", "secret", token), service, "eu-central-1")
        ours = signer.headers("POST", url, {"x-amz-target": "T.x"}, body)
        request = AWSRequest("POST", url, {}, body)
        request.context["timestamp"] = ours["x-amz-date"]
        theirs = official(BotoCredentials("id", "secret", token), service, "eu-central-1")
        for header, value_ in ours.items():
            if header not in ("host", "authorization"):
                request.headers[header] = value_
        canonical = theirs.canonical_request(request)
        expected = theirs.signature(theirs.string_to_sign(request, canonical), request)
        assert ours["authorization"].endswith(f"Signature={expected}")


@given(key=TEXT, disposition=TEXT, token=TOKENS)
def test_addresses_are_those_of_the_official_library(
    key: str, disposition: str, token: str | None
) -> None:
    told = query_string({"response-content-disposition": disposition})
    url = f"https://host.example/{quote(key, safe='/~')}?{told}"
    signer = Signer(Credentials("id", "secret", token), "s3", "eu-central-1")
    ours = parse_qs(urlsplit(signer.presigned("GET", url, {}, 300)).query, keep_blank_values=True)
    request = AWSRequest("GET", signer.presigned("GET", url, {}, 300).rpartition("&")[0])
    request.context["timestamp"] = ours["X-Amz-Date"][0]
    theirs = S3SigV4QueryAuth(BotoCredentials("id", "secret", token), "s3", "eu-central-1")
    canonical = theirs.canonical_request(request)
    expected = theirs.signature(theirs.string_to_sign(request, canonical), request)
    assert ours["X-Amz-Signature"] == [expected]
    assert ours["response-content-disposition"] == [disposition]


def test_credentials_are_the_functions_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
        Credentials.of_environment()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-show")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "nor-this")
    found = Credentials.of_environment()
    assert found.session_token == "nor-this"
    assert "not-show" not in repr(found)
    assert "nor-this" not in repr(found)
