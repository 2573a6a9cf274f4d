import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvproxy.cli.explain import explain

HELLO = {"model": "m", "messages": [{"role": "user", "content": "hello " * 100}]}
BYE = {"model": "m", "messages": [{"role": "user", "content": "bye " * 100}]}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = []
    for name, body in (("one", HELLO), ("other", BYE)):
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(body))
        paths.append(str(path))
    return paths


def run(*arguments: str) -> Result:
    return CliRunner().invoke(explain, list(arguments))


def test_two_files(files: list[str]) -> None:
    shown = run(*files)
    assert shown.exit_code == 0
    assert "chat: history edited" in shown.output
    assert "differs at          /messages/0" in shown.output
    assert "hello" not in shown.output
    assert "hello" in run(*files, "--show-text").output


def test_json(files: list[str]) -> None:
    found = json.loads(run(*files, "--json").output)
    assert (found["cause"], found["place"]["pointer"]) == ("history_edited", "/messages/0")


@pytest.mark.parametrize("count", [0, 1])
def test_neither_files_nor_a_request(files: list[str], count: int) -> None:
    assert run(*files[:count]).exit_code == 2
    assert run(*files, "--request-id", "x").exit_code == 2


def test_a_file_that_is_no_prompt(files: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    shown = run(files[0], str(bad))
    assert shown.exit_code == 1
    assert "Traceback" not in shown.output


class _Admin(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.path == "/admin/explain?request_id=mine%2F1"
        key = self.headers.get("authorization", "Bearer right")
        self.send_response((200 if known else 404) if key == "Bearer right" else 403)
        self.end_headers()
        self.wfile.write(b'{"request_id": "mine/1"}' if known else b'{"error": "unknown"}')

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def admin() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Admin)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_request_of_a_running_proxy(admin: str) -> None:
    shown = run("--request-id", "mine/1", "--url", admin)
    assert (shown.exit_code, shown.output) == (0, '{"request_id": "mine/1"}\n')
    assert run("--request-id", "other", "--url", admin).exit_code == 1


def test_an_admin_key_is_sent(admin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, code in (("right", 0), ("wrong", 1)):
        monkeypatch.setenv("OPS_KEY", key)
        arguments = ["--request-id", "mine/1", "--url", admin, "--api-key-env", "OPS_KEY"]
        assert run(*arguments).exit_code == code


def test_nobody_listens() -> None:
    shown = run("--request-id", "x", "--url", "http://127.0.0.1:9")
    assert shown.exit_code == 1
    assert "does not answer" in shown.output
