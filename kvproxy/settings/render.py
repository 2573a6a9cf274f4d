"""Settings as YAML text: the effective ones with their origins, for --print-config."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr

from kvproxy.core.units import format_count
from kvproxy.settings.load import Loaded
from kvproxy.settings.tree import Path

MASK = "********"


def effective_yaml(loaded: Loaded) -> str:
    """Every key with its value; what is not a default says where it was given; secrets masked."""
    return "\n".join(_group(loaded.settings, (), loaded.origins)) + "\n"


def yaml_value(value: Any) -> str:
    """One value in YAML's flow style; numbers as a person would write them."""
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, SecretStr):
        return f'"{MASK}"'
    if isinstance(value, int):
        return format_count(value)
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, tuple):
        return "[" + ", ".join(yaml_value(item) for item in value) + "]"
    return _text(str(value))


def _text(text: str) -> str:
    """Words stay bare; whatever YAML could take for something else is quoted."""
    bare = text.replace("_", "").replace("-", "").replace(".", "")
    plain = bare.isalnum() and bare[0].isalpha() and bare.lower() not in _YAML_WORDS
    if plain and text.isascii():
        return text
    quoted: str = yaml.safe_dump(text, default_style='"', width=float("inf"), allow_unicode=True)
    return quoted.strip()


_YAML_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def _group(group: BaseModel, at: Path, origins: Mapping[Path, str]) -> Iterator[str]:
    indent = "  " * len(at)
    for name in type(group).model_fields:
        value = getattr(group, name)
        path = (*at, name)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _group(value, path, origins)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            yield f"{indent}{name}:" + _comment(path, origins)
            for index, item in enumerate(value):
                lines = _group(item, (*path, index), origins)
                yield from (_item(number, line) for number, line in enumerate(lines))
        else:
            yield f"{indent}{name}: {yaml_value(value)}" + _comment(path, origins)


def _item(number: int, line: str) -> str:
    """Keys of a list item stand two levels in; the first one carries the dash."""
    return "  - " + line.lstrip() if number == 0 else line


def _comment(path: Path, origins: Mapping[Path, str]) -> str:
    return f"  # {origins[path]}" if path in origins else ""
