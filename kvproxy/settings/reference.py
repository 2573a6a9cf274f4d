"""The pages and files about settings, made from the model so that they cannot drift from it."""

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from kvproxy.settings.diff import LIVE
from kvproxy.settings.model import Settings
from kvproxy.settings.render import yaml_value
from kvproxy.settings.replica import ReplicaSettings
from kvproxy.settings.source import env_name, flag_names, has_flag
from kvproxy.settings.tree import Leaf, dotted, leaves

_EXAMPLE_URL = "http://127.0.0.1:8000"
_SCHEMA_LINE = "# yaml-language-server: $schema=kvproxy.schema.json"
_GENERATED = "Made by `make settings` from kvproxy/settings/model.py; a test keeps it current."


def generated_files() -> dict[str, str]:
    """Name inside config/ -> its text."""
    return {
        "kvproxy.yaml": full_yaml(),
        "minimal.yaml": minimal_yaml(),
        "kvproxy.schema.json": json.dumps(json_schema(), indent=2) + "\n",
        "README.md": reference_page(),
    }


def json_schema() -> dict[str, Any]:
    """JSON Schema of a settings file, in which a replica may also be a plain URL."""
    schema = Settings.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    one = schema["properties"]["replicas"]["items"]
    short = {"type": "string", "format": "uri", "description": "short for {url: ...}"}
    schema["properties"]["replicas"]["items"] = {"anyOf": [one, short]}
    models = schema["properties"]["models"]
    named = dict(schema["$defs"]["ModelSettings"], required=["serves"])
    named["properties"] = {k: v for k, v in named["properties"].items() if k != "name"}
    serves = named["properties"]["serves"]
    serves["anyOf"] = [{"type": "array", "items": serves.pop("items")}, {"type": "string"}]
    for key in ("type", "minItems", "maxItems"):
        serves.pop(key, None)
    mapping = {"type": "object", "additionalProperties": {"anyOf": [named, *serves["anyOf"]]}}
    listed = {"type": models.pop("type"), "items": models.pop("items")}
    models["anyOf"] = [listed, mapping]
    return schema


def minimal_yaml() -> str:
    return f"{_SCHEMA_LINE}\nreplicas:\n  - {_EXAMPLE_URL}\n  - http://127.0.0.1:8001\n"


def full_yaml() -> str:
    """Every key with its default and why to change it; keys without a default are comments."""
    lines = [_SCHEMA_LINE, *_wrapped(f"{_GENERATED} Every key is at its default.", "")]
    for name, field in Settings.model_fields.items():
        lines.append("")
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            lines += [*_wrapped(_doc(group), ""), f"{name}:"]
            lines += _keys(group, "  ")
        else:
            lines += _wrapped(field.description or "", "")
            if name == "replicas":
                lines += [f"{name}:", *_replica_example()]
            else:
                lines += _list(name, field)
    return "\n".join(lines) + "\n"


def _replica_example() -> Iterator[str]:
    for line in _keys(ReplicaSettings, "    "):
        yield f"  - url: {_EXAMPLE_URL}" if line == "    # url:" else line


def _list(name: str, field: FieldInfo) -> Iterator[str]:
    """A list of groups at its default, and what an entry may have."""
    yield f"{name}: {yaml_value(_default(field))}"
    item = Leaf((name,), field).item
    assert item is not None
    yield "# An entry:"
    yield from (f"#   {line.removeprefix('# ')}" for line in _keys(item, ""))


def _keys(group: type[BaseModel], indent: str) -> Iterator[str]:
    for name, field in group.model_fields.items():
        yield from _wrapped(field.description or "", indent)
        value = _default(field)
        unset = value is None or value == ""
        yield f"{indent}# {name}:" if unset else f"{indent}{name}: {yaml_value(value)}"
        item = Leaf((name,), field).item
        if item is not None:
            yield f"{indent}# An entry:"
            yield from (f"{indent}#   {line.removeprefix('# ')}" for line in _keys(item, ""))


def reference_page() -> str:
    lines = ["# Settings", "", _GENERATED, "", *_INTRODUCTION]
    group, begun = "", False
    for leaf in leaves(Settings):
        if leaf.path[0] != group:
            group, begun = leaf.path[0], False
            field = Settings.model_fields[group]
            lines += ["", f"## {group}", "", _doc(field.annotation) or field.description or ""]
        if not begun:
            begun = True
            lines += ["", "| key | default | environment, flag | |", "|---|---|---|---|"]
        lines.append(_row(leaf))
        item = leaf.item
        if item is not None:
            lines += ["", f"Keys of one of `{'.'.join(leaf.path)}`:", ""]
            lines += ["| key | default | |", "|---|---|---|"]
            lines += [_short_row(name, field) for name, field in item.model_fields.items()]
            begun = False
    return "\n".join(lines) + "\n"


_INTRODUCTION = [
    "`kvproxy.yaml` holds every key with its default, `minimal.yaml` is enough to start, and",
    "`kvproxy.schema.json` lets editors complete and check. Try a file with",
    "`kvproxy check-config FILE`; see what is in force with `kvproxy serve --print-config`.",
    "",
    "- Order: default < file < environment < flag. A list is one value and is replaced whole.",
    "- Counts may be written `128k`, `1.5M`, `64Mi`; durations `250ms`, `30s`, `5m`, `4h`.",
    "- In files `${NAME}` is replaced from the environment and `$$` is a dollar sign. A secret may",
    "  also be `{file: PATH}`, relative to the settings file. Secrets have no flags: command lines",
    "  can be read by others.",
    "- In the environment lists are JSON: `KVPROXY_REPLICAS='[\"http://10.0.0.1:8000\"]'`.",
    "- An unknown key is an error. All errors are shown at once, each with file and line.",
    *textwrap.wrap(
        "- SIGHUP and `POST /admin/reload` take over "
        + ", ".join(f"`{dotted(path)}`" for path in sorted(LIVE, key=dotted))
        + ", and certificates under the names they had. The others wait for a restart, which the "
        "log says.",
        98, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False,
    ),
]  # fmt: skip


def _row(leaf: Leaf) -> str:
    names = f"`{env_name(leaf.path)}`"
    if has_flag(leaf):
        names += "".join(f"<br>`{flag}`" for flag in flag_names(leaf.path))
    return f"| `{'.'.join(leaf.path)}` | {_shown(leaf.field)} | {names} | {_cell(leaf.field)} |"


def _short_row(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {_shown(field)} | {_cell(field)} |"


def _shown(field: FieldInfo) -> str:
    """The default as the page has it."""
    if field.is_required():
        return "required"
    return "none" if field.default in (None, "") else f"`{yaml_value(field.default)}`"


def _cell(field: FieldInfo) -> str:
    return (field.description or "").replace("|", "\\|")


def _default(field: FieldInfo) -> Any:
    """The default, "" for a required key."""
    return "" if field.default is PydanticUndefined else field.default


def _doc(group: Any) -> str:
    return (group.__doc__ or "") if isinstance(group, type) and issubclass(group, BaseModel) else ""


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, 96, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ",
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip
