"""The stand-in without a server: a transport for HTTP clients of the same process."""

from __future__ import annotations

import httpx

from rapport.local.fakes.metakocka.fake import Fake


class FakeTransport(httpx.BaseTransport):
    """Answers at once; a delay beyond the client's patience is a time-out, at once as well."""

    def __init__(self, fake: Fake) -> None:
        self._fake = fake

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        operation = request.url.path.rpartition("/")[2]
        reply = self._fake.reply(operation, request.read())
        patience = request.extensions.get("timeout", {}).get("read")
        if patience is not None and reply.delay_ms / 1000 > patience:
            raise httpx.ReadTimeout("The answer came too late.", request=request)
        if reply.is_dropped:
            raise httpx.RemoteProtocolError("The connection was closed.", request=request)
        headers = {"content-type": reply.media_type}
        if reply.retry_after is not None:
            headers["retry-after"] = str(reply.retry_after)
        return httpx.Response(reply.status, content=reply.content, headers=headers)
