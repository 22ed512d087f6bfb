"""The Graph API's answers about files and templates, and what is made of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import httpx
import pytest
from pydantic import HttpUrl, SecretStr

from rapport.errors import ConfigError, WhatsAppError, WhatsAppRefused, WhatsAppUnavailable
from rapport.settings import GraphSettings
from rapport.whatsapp.graph import FileAddress, GraphMedia

Respond = Callable[[httpx.Request], httpx.Response]
SETTINGS = GraphSettings(
    whatsapp_graph_url=HttpUrl("https://graph.example/v26.0"), whatsapp_token=SecretStr("token")
)


@pytest.fixture
def graphs() -> Iterator[Callable[[Respond], GraphMedia]]:
    opened: list[GraphMedia] = []

    def opens(respond: Respond) -> GraphMedia:
        opened.append(GraphMedia(SETTINGS, httpx.MockTransport(respond)))
        return opened[-1]

    yield opens
    for graph in opened:
        graph.close()


Graphs = Callable[[Respond], GraphMedia]


def answers(status: int, value: object) -> Respond:
    return lambda _request: httpx.Response(status, json=value)


def error(code: object, status: int = 400) -> Respond:
    return answers(status, {"error": {"message": "Ana's file", "code": code}})


def breaks(_request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("too late")


def address(url: str) -> FileAddress:
    return FileAddress(url=HttpUrl(url))


def download(graph: GraphMedia, url: str) -> bytes:
    with graph.download("106", address(url)) as chunks:
        return b"".join(chunks)


def test_a_file_is_asked_for_with_the_token(graphs: Graphs) -> None:
    requests: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"url": "https://x.fbsbx.com/1", "file_size": "12"})

    found = graphs(respond).find("106", "77")
    assert (found.url.host, found.file_size) == ("x.fbsbx.com", 12)
    assert requests[0].url == "https://graph.example/v26.0/77"
    assert requests[0].headers["authorization"] == "Bearer token"


@pytest.mark.parametrize(
    ("respond", "kind", "code"),
    [
        (error(131000), WhatsAppUnavailable, 131000),
        (error(130429), WhatsAppUnavailable, 130429),
        (error(190, 401), WhatsAppRefused, 190),
        (error(100), WhatsAppRefused, 100),
        (error("100"), WhatsAppRefused, 100),
        (error(100, 500), WhatsAppUnavailable, 100),
        (answers(503, "busy"), WhatsAppUnavailable, None),
        (answers(429, []), WhatsAppUnavailable, None),
        (answers(404, None), WhatsAppRefused, None),
        (answers(302, {}), WhatsAppRefused, None),
        (breaks, WhatsAppUnavailable, None),
        (answers(200, {"url": 7}), WhatsAppError, None),
        (answers(200, "Ana"), WhatsAppError, None),
    ],
)
def test_a_refusal_is_told_by_its_code_and_quotes_nothing(
    graphs: Graphs, respond: Respond, kind: type[WhatsAppError], code: int | None
) -> None:
    with pytest.raises(WhatsAppError) as caught:
        graphs(respond).find("106", "77")
    assert type(caught.value) is kind
    assert caught.value.graph_code == code
    assert "Ana" not in str(caught.value)
    assert "token" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1",
        "https://mmg.whatsapp.net/1",
        "https://graph.example/v26.0/file",
    ],
)
def test_a_file_is_taken_from_whatsapps_own_hosts(graphs: Graphs, url: str) -> None:
    assert download(graphs(lambda _: httpx.Response(200, content=b"photo")), url) == b"photo"


@pytest.mark.parametrize(
    "url",
    [
        "http://lookaside.fbsbx.com/1",
        "http://graph.example/v26.0/file",
        "https://fbsbx.com.example/1",
        "https://evilfbsbx.com/1",
        "https://169.254.169.254/latest/meta-data",
        "https://fbsbx.com@evil.example/1",
    ],
)
def test_the_token_is_sent_nowhere_else(graphs: Graphs, url: str) -> None:
    def respond(_request: httpx.Request) -> httpx.Response:
        raise AssertionError("asked")

    with pytest.raises(WhatsAppError):
        download(graphs(respond), url)


@pytest.mark.parametrize("status", [302, 401, 404, 503])
def test_a_file_that_is_not_given_is_for_another_try(graphs: Graphs, status: int) -> None:
    with pytest.raises(WhatsAppUnavailable):
        download(
            graphs(lambda _: httpx.Response(status, headers={"location": "https://x.example"})),
            "https://x.fbsbx.com/1",
        )


def test_a_file_is_given_with_its_name_and_type(graphs: Graphs) -> None:
    requests: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        request.read()
        requests.append(request)
        return httpx.Response(200, json={"id": "991"})

    graph = graphs(respond)
    assert graph.upload("106", io.BytesIO(b"%PDF"), mime_type="application/pdf", file_name="a.pdf")
    (request,) = requests
    assert request.url.path == "/v26.0/106/media"
    for part in (b"messaging_product", b"whatsapp", b'filename="a.pdf"', b"application/pdf"):
        assert part in request.content
    assert "content-length" in request.headers


class Tokens:
    """A token for each number, told anew once it was forgotten; one number has none."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []

    def token(self, phone_number_id: str) -> SecretStr:
        if phone_number_id == "108":
            raise ConfigError("There is no parameter.")
        return SecretStr(f"token {self.forgotten.count(phone_number_id)} of {phone_number_id}")

    def forget(self, phone_number_id: str) -> None:
        self.forgotten.append(phone_number_id)


def own_tokens(respond: Respond, tokens: Tokens) -> GraphMedia:
    """A deployment has a token for each number, and none for all."""
    settings = GraphSettings(
        whatsapp_graph_url=HttpUrl("https://graph.example/v26.0"),
        whatsapp_token=None,
        whatsapp_token_parameter="/whatsapp/{phone_number_id}",
    )
    return GraphMedia(settings, httpx.MockTransport(respond), tokens)


def upload(graph: GraphMedia, number: str) -> object:
    return graph.upload(number, io.BytesIO(b"%PDF"), mime_type="application/pdf", file_name="a")


def find(graph: GraphMedia, number: str) -> object:
    return graph.find(number, "77")


def listed(graph: GraphMedia, number: str) -> object:
    return graph.templates("501", [number])


def downloaded(graph: GraphMedia, number: str) -> None:
    with graph.download(number, address("https://x.fbsbx.com/1")):
        pass


@pytest.mark.parametrize("call", [upload, find, listed, downloaded])
def test_every_call_has_the_token_of_its_number(
    call: Callable[[GraphMedia, str], object],
) -> None:
    """One that is not accepted is read anew, of that number alone."""
    used: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        used.append(request.headers["authorization"])
        return error(190, 401)(request)

    graph = own_tokens(respond, Tokens())
    for number in ("106", "106", "107"):
        with pytest.raises(WhatsAppError):
            call(graph, number)
    assert used == ["Bearer token 0 of 106", "Bearer token 1 of 106", "Bearer token 0 of 107"]
    with pytest.raises(ConfigError):
        call(graph, "108")
    assert len(used) == 3
    graph.close()


def test_templates_are_read_with_the_first_token_that_opens_them() -> None:
    def respond(request: httpx.Request) -> httpx.Response:
        if request.headers["authorization"] != "Bearer token 0 of 107":
            return error(200, 403)(request)
        return httpx.Response(200, json={"data": [{"name": "t1"}]})

    graph = own_tokens(respond, Tokens())
    # the first has none, the second may not
    assert graph.templates("501", ["108", "106", "107"]) == [{"name": "t1"}]
    with pytest.raises(WhatsAppRefused):
        graph.templates("501", ["108", "106"])
    with pytest.raises(ConfigError):
        graph.templates("501", [])
    graph.close()


def test_templates_are_read_page_by_page_to_the_last(graphs: Graphs) -> None:
    asked: list[str | None] = []

    def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("after"))
        page = len(asked)
        paging: dict[str, object] = {"cursors": {"after": f"c{page}"}}
        if page < 3:
            # of another's making: it is not followed
            paging["next"] = "https://evil.example/next"
        return httpx.Response(200, json={"data": [{"name": f"t{page}"}], "paging": paging})

    assert graphs(respond).templates("102", ["106"]) == [
        {"name": "t1"},
        {"name": "t2"},
        {"name": "t3"},
    ]
    assert asked == [None, "c1", "c2"]


def test_a_list_without_an_end_is_refused(graphs: Graphs) -> None:
    endless = {"data": [], "paging": {"next": "x", "cursors": {"after": "same"}}}
    with pytest.raises(WhatsAppError):
        graphs(answers(200, endless)).templates("102", ["106"])


def test_a_page_that_fails_fails_the_list(graphs: Graphs) -> None:
    """A half list would mark the other half as gone."""

    def respond(request: httpx.Request) -> httpx.Response:
        if "after" in request.url.params:
            return httpx.Response(503)
        page = {"data": [{"name": "t1"}], "paging": {"next": "x", "cursors": {"after": "c"}}}
        return httpx.Response(200, json=page)

    with pytest.raises(WhatsAppUnavailable):
        graphs(respond).templates("102", ["106"])
