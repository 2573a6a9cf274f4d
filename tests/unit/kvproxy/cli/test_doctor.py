import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from click.testing import CliRunner, Result

from kvproxy.cli.doctor import doctor
from loadgen.emulator import EmulatorSettings
from tests.support.certificates import write_ca
from tests.support.doctor import planted
from tests.support.emulated import emulated


class _Models(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"data": [{"id": "m"}]}'
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving_models(tls: ssl.SSLContext) -> Iterator[int]:
    """A port where every page, with TLS, is a list of models."""

    class Server(http.server.ThreadingHTTPServer):
        def get_request(self) -> tuple[socket.socket, Any]:
            accepted, address = super().get_request()
            return tls.wrap_socket(accepted, server_side=True), address

        def handle_error(self, *_: object) -> None:
            pass

    with Server(("127.0.0.1", 0), _Models) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(doctor, list(arguments))


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    """Nobody waits four seconds for an idle connection."""
    file = tmp_path / "kvproxy.yaml"
    file.write_text("upstream: {keepalive_s: 0.01}\n")
    return file


def test_a_well_replica(settings_file: Path) -> None:
    with emulated(planted()) as url:
        shown = run("--replica", url, "--config", str(settings_file), "--probe")
    assert shown.exit_code == 0, shown.output
    assert "Nothing found." in shown.stdout
    assert "… probing" in shown.stderr


def test_a_fault_as_json(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINE_KEY", "secret")
    given = ("--config", str(settings_file), "--json", "--api-key-env", "ENGINE_KEY")
    with emulated(EmulatorSettings(prefix_caching=False)) as url:
        shown = run("--replica", url, *given)
    assert shown.exit_code == 3
    found = json.loads(shown.stdout)["findings"]
    assert found[0]["code"] == "prefix_caching_off"
    assert "--enable-prefix-caching" in found[0]["mend"]


def test_certificates_of_replicas_are_those_of_the_settings(tmp_path: Path) -> None:
    """Else every replica with a certificate of one's own would be said not to be reached."""
    ca = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(tls)
    with serving_models(tls) as port:
        file = tmp_path / "kvproxy.yaml"
        known = f"upstream: {{keepalive_s: 0.01, tls_ca: {write_ca(ca, tmp_path)}}}"
        for upstream, reached in (("{}", False), (known, True)):
            file.write_text(upstream)
            shown = run("--replica", f"https://127.0.0.1:{port}", "--config", str(file), "--json")
            assert json.loads(shown.stdout)["replicas"][0]["reached"] is reached, shown.output
    file.write_text("upstream: {tls_ca: /no/such/file}")
    told = run("--replica", "https://127.0.0.1:1", "--config", str(file)).output
    assert "/no/such/file" in told


def test_replicas_that_are_discovered_have_to_be_named(tmp_path: Path) -> None:
    file = tmp_path / "kvproxy.yaml"
    file.write_text("discovery: {dns: [http://engines:8000]}\n")
    shown = run("--config", str(file))
    assert (shown.exit_code, "--replica URL; GET /admin/replicas" in shown.output) == (2, True)


def test_mistakes_in_typing(tmp_path: Path) -> None:
    assert "--replica URL" in run().output
    unset = run("--replica", "http://h", "--api-key-env", "NO_SUCH_VARIABLE")
    assert (unset.exit_code, "NO_SUCH_VARIABLE" in unset.output) == (2, True)
    bad = tmp_path / "config.json"
    bad.write_text("{}")
    config = run("--replica", "http://h", "--model-config", str(bad))
    assert (config.exit_code, "num_hidden_layers" in config.output) == (2, True)
