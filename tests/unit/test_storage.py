"""Where files are, in services that are not AWS's own."""

from __future__ import annotations

import pytest
from pydantic import HttpUrl
from tests.aws import KEY

from rapport.settings import MediaSettings
from rapport.storage import Storage


def test_a_bucket_of_supabase_is_beneath_the_path_of_its_endpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in KEY.items():
        monkeypatch.setenv(name, value)
    endpoint = "https://project.storage.supabase.co/storage/v1/s3"
    storage = Storage(MediaSettings(media_bucket="files", aws_endpoint_url_s3=HttpUrl(endpoint)))
    for link in (
        storage.link("a/1.jpg", disposition="attachment", content_type="image/jpeg"),
        storage.upload_link("a/1.jpg", content_type="image/jpeg", size=3),
    ):
        assert link.startswith(f"{endpoint}/files/a/1.jpg?")
        assert "X-Amz-Signature=" in link
        assert KEY["AWS_SECRET_ACCESS_KEY"] not in link
