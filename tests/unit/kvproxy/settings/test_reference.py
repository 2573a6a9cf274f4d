import json
import re
from pathlib import Path
from typing import Any

import pytest

from kvproxy.settings.__main__ import write
from kvproxy.settings.diff import LIVE
from kvproxy.settings.load import load
from kvproxy.settings.model import Settings
from kvproxy.settings.reference import generated_files, json_schema, reference_page
from kvproxy.settings.source import env_name
from kvproxy.settings.tree import dotted, known_keys, leaves

CONFIG = Path(__file__).resolve().parents[4] / "config"


@pytest.mark.parametrize("name", sorted(generated_files()))
def test_committed_files_are_current(name: str) -> None:
    assert (CONFIG / name).read_text() == generated_files()[name], "run `make settings`"


def test_module_command_writes_them_all(tmp_path: Path) -> None:
    write(tmp_path / "config")
    written = {path.name: path.read_text() for path in (tmp_path / "config").iterdir()}
    assert written == generated_files()


def test_full_file_states_the_defaults() -> None:
    settings = load(CONFIG / "kvproxy.yaml").settings
    defaults = Settings.model_validate({"replicas": ["http://127.0.0.1:8000"]})
    assert settings == defaults


def test_full_file_names_every_key() -> None:
    text = (CONFIG / "kvproxy.yaml").read_text()
    for path in known_keys(Settings):
        key = str(path[-1]).removesuffix("[]")
        assert re.search(rf"^[ #-]*{key}:", text, re.MULTILINE), path


def test_minimal_file_is_enough() -> None:
    assert len(load(CONFIG / "minimal.yaml").settings.replicas) == 2


def test_page_has_every_key_and_variable() -> None:
    page = reference_page()
    for leaf in leaves(Settings):
        assert f"| `{'.'.join(leaf.path)}` |" in page
        assert f"`{env_name(leaf.path)}`" in page
    assert "--upstream-api-key" not in page, "secrets have no flags"


def test_page_calls_required_only_what_is() -> None:
    required = re.findall(r"^\| `([a-z_0-9.]+)` \| required", reference_page(), re.MULTILINE)
    assert sorted(required) == ["name", "name", "serves", "sha256", "url"]
    assert "| `server.tls_cert` | none |" in reference_page()


def test_tables_of_the_page_have_rows() -> None:
    assert not re.search(r"\|---\|\n\n", reference_page())


def test_page_names_what_a_reload_takes_over() -> None:
    told = reference_page().partition("SIGHUP")[2].partition("## server")[0]
    assert {f"`{dotted(path)}`" for path in LIVE} <= set(re.findall(r"`[a-z_.]+`", told))


def test_schema_knows_short_forms_and_refuses_unknown_keys() -> None:
    schema: Any = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["additionalProperties"] is False
    kinds = [one.get("type") for one in schema["properties"]["replicas"]["items"]["anyOf"]]
    assert "string" in kinds
    key = schema["$defs"]["ReplicaSettings"]["properties"]["api_key"]
    assert "file" in json.dumps(key)
