from pathlib import Path

from click.testing import CliRunner

from kvproxy.cli.check_config import check_config


def test_good_file(tmp_path: Path) -> None:
    file = tmp_path / "k.yaml"
    file.write_text("replicas: [http://a:1]\n")
    result = CliRunner().invoke(check_config, [str(file)])
    assert (result.exit_code, result.output) == (0, f"{file}: ok, 1 replica, policy seconds\n")


def test_what_may_not_be_meant_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "k.yaml"
    file.write_text("replicas: [http://a:1]\nserver: {host: 0.0.0.0}\n")
    result = CliRunner().invoke(check_config, [str(file)])
    assert (result.exit_code, "note: no access.keys" in result.stderr) == (0, True)


def test_certificates_that_serve_could_not_read(tmp_path: Path) -> None:
    file = tmp_path / "k.yaml"
    file.write_text("replicas: [http://a:1]\nserver: {tls_cert: /no/such.pem}\n")
    result = CliRunner().invoke(check_config, [str(file)])
    assert (result.exit_code, "/no/such.pem" in result.output) == (2, True)


def test_bad_file_shows_every_mistake(tmp_path: Path) -> None:
    file = tmp_path / "k.yaml"
    file.write_text("replicas: [http://a:1]\nserver:\n  prot: 1\nlog: {level: loud}\n")
    result = CliRunner().invoke(check_config, [str(file)])
    assert result.exit_code == 2
    assert f"{file}:3: server.prot: unknown key; did you mean server.port?" in result.output
    assert f"{file}:4: log.level: expected 'debug'" in result.output
