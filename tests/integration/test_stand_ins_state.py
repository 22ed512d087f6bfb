"""What the stand-ins for WhatsApp and Metakocka know outlives them, however they end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from rapport.local.stack import children
from rapport.local.stack.ports import choose_any
from rapport.local.stack.running import METAKOCKA_PATH, Stack
from rapport.local.stack.state import PREFERRED_PORTS, forget, new_stack, settings_file
from rapport.local.stack.supervisor import Supervisor

NUMBER = "1003427786179738"
PARTNER = {
    "customer": "Novak Čili d.o.o.",
    "street": "Slovenska cesta 1",
    "post_number": "1000",
    "place": "Ljubljana",
    "country": "Slovenija",
    "partner_contact": {"name": "Ana", "email": "ana@example.com"},
}


class StandIns:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._token = {"authorization": f"Bearer {stack.whatsapp_token}"}

    @contextmanager
    def running(self) -> Iterator[psutil.Process]:
        with Supervisor(self.stack.folder) as supervisor:
            supervisor.start(children.fakes(self.stack))
            yield psutil.Process(supervisor.processes[0].pid)

    def graph(self, method: str, path: str, **request: Any) -> httpx.Response:
        url = path if path.startswith("http") else f"{self.stack.graph_url}/{path}"
        return httpx.request(method, url, headers=self._token, timeout=30, **request)

    def send(self, text: str) -> str:
        body = {"messaging_product": "whatsapp", "to": "38640111222", "text": {"body": text}}
        id_ = self.graph("POST", f"{NUMBER}/messages", json=body).json()["messages"][0]["id"]
        assert isinstance(id_, str)
        return id_

    def messages(self) -> Any:
        return httpx.get(f"{self.stack.whatsapp_url}/_fake/messages").json()

    def templates(self) -> Any:
        return self.graph("GET", "16/message_templates").json()["data"]

    def metakocka(self, what: str, **order: Any) -> Any:
        url = f"{self.stack.metakocka_fake_url}/_fake/{what}"
        answer = httpx.post(url, json={"company_id": "16", **order}, timeout=30)
        assert answer.is_success, answer.text
        return answer.json()

    def operate(self, operation: str, **body: Any) -> Any:
        secret = {"secret_key": self.stack.metakocka_secret_key, "company_id": "16"}
        url = f"{self.stack.metakocka_fake_url}{METAKOCKA_PATH}/{operation}"
        return httpx.post(url, json=secret | body, timeout=30).json()

    def partners(self) -> Any:
        url = f"{self.stack.metakocka_fake_url}/_fake/partners"
        return httpx.get(url, params={"company_id": "16"}, timeout=30).json()["partners"]


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StandIns:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    stack = new_stack(tmp_path, choose_any(*PREFERRED_PORTS))
    stack.save(settings_file(tmp_path))
    return StandIns(stack)


def test_messages_files_and_templates_are_there_after_a_kill(stand_ins: StandIns) -> None:
    content = b"\xff\xd8\nphoto\n"
    with stand_ins.running() as process:
        ids = [stand_ins.send(text) for text in ("one", "two č")]
        upload = stand_ins.graph(
            "POST",
            f"{NUMBER}/media",
            data={"messaging_product": "whatsapp"},
            files={"file": ("a.jpg", content, "image/jpeg")},
        ).json()["id"]
        new = {
            "name": "thanks",
            "language": "sl",
            "category": "UTILITY",
            "components": [{"type": "BODY", "text": "Hvala, {{1}}."}],
        }
        assert stand_ins.graph("POST", "16/message_templates", json=new).is_success
        before, templates = stand_ins.messages(), stand_ins.templates()
        process.kill()
    with stand_ins.running() as process:
        after = stand_ins.messages()
        assert [one["id"] for one in after["messages"]] == ids
        assert [one["text_shown"] for one in after["messages"]] == ["one", "two č"]
        assert after["reads"] == before["reads"]
        assert stand_ins.templates() == templates
        assert "thanks" in {one["name"] for one in templates}
        described = stand_ins.graph("GET", upload).json()
        assert stand_ins.graph("GET", described["url"]).content == content
        # what is forgotten stays so
        assert stand_ins.graph("DELETE", upload).is_success
        process.kill()
    with stand_ins.running() as process:
        assert stand_ins.graph("GET", upload).is_error
        httpx.post(f"{stand_ins.stack.whatsapp_url}/_fake/reset").raise_for_status()
        process.kill()
    with stand_ins.running():
        assert stand_ins.messages()["messages"] == []


def test_partners_and_documents_are_there_after_a_kill(stand_ins: StandIns) -> None:
    with stand_ins.running() as process:
        made = stand_ins.metakocka("partners", partners=[PARTNER] * 4)["partners"]
        first, second, third, fourth = [one["mk_id"] for one in made]
        renamed = stand_ins.operate(
            "update_partner", partner={"mk_id": first, "customer": "Renamed"}
        )
        assert "partner_list" in renamed
        stand_ins.metakocka("document", partner=second, doc_type="sales_order")
        stand_ins.metakocka("merge", keep=first, drop=second)
        stand_ins.metakocka("remove", mk_id=fourth)
        stand_ins.metakocka("fill", count=20)
        before = stand_ins.partners()
        search = {"doc_type": "sales_order", "result_type": "doc"}
        documents = stand_ins.operate("search", **search)
        assert documents["result_count"] == "1"
        process.kill()
    with stand_ins.running() as process:
        assert stand_ins.partners() == before
        assert stand_ins.operate("search", **search) == documents
        assert before[0]["customer"] == "Renamed"
        assert third in {one["mk_id"] for one in before}
        # an id that was given is never given again
        (another,) = stand_ins.metakocka("partners", partners=[PARTNER])["partners"]
        assert int(another["mk_id"]) > int(before[-1]["mk_id"])
        process.kill()
    forget(stand_ins.stack.folder)
    stand_ins.stack.save(settings_file(stand_ins.stack.folder))
    with stand_ins.running():
        assert stand_ins.partners() == []
