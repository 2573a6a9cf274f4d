"""Settings from a YAML file: every value with its line, `${NAME}` and secret files filled in."""

import re
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import yaml
from pydantic import BaseModel

from kvproxy.settings.errors import Problem
from kvproxy.settings.source import Layer
from kvproxy.settings.tree import Path, dotted, is_secret

FILE_MAX_BYTES = 1 << 20
SECRET_MAX_BYTES = 1 << 16
# Aliases make a small file a huge tree, so what is walked is bounded, not just what is read.
VALUES_MAX = 100_000
DEPTH_MAX = 16

_REFERENCE = re.compile(r"\$(?:(\$)|\{([^}]*)\})")


def from_yaml(model: type[BaseModel], file: FilePath, env: Mapping[str, str]) -> Layer:
    """The file's values as a layer; whatever is wrong with it is among the layer's problems."""
    layer = Layer()
    try:
        if file.stat().st_size > FILE_MAX_BYTES:
            raise ValueError(f"larger than {FILE_MAX_BYTES} bytes")
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        layer.problems.append(Problem(str(file), "", f"cannot be read: {reason}"))
        layer.unreadable = True
        return layer
    loader = yaml.CSafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            layer.values = _Walk(model, file, env, loader, layer).root(node)
    except yaml.YAMLError as error:
        layer.problems.append(_yaml_problem(file, error))
        layer.unreadable = True
    finally:
        loader.dispose()
    return layer


def _yaml_problem(file: FilePath, error: yaml.YAMLError) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    where = f"{file}:{mark.line + 1}" if mark else str(file)
    return Problem(where, "", f"not usable YAML: {what}")


class _Walk:
    """One pass over the nodes of a file: builds values, notes lines, collects problems."""

    def __init__(
        self,
        model: type[BaseModel],
        file: FilePath,
        env: Mapping[str, str],
        loader: yaml.CSafeLoader,
        layer: Layer,
    ) -> None:
        self.model = model
        self.file = file
        self.env = env
        self.loader = loader
        self.layer = layer
        self.values_left = VALUES_MAX

    def root(self, node: yaml.Node) -> dict[str, Any]:
        value = self.value(node, ())
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.problem(node, (), "expected keys and values at the top of the file")
            return {}
        return value

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.values_left -= 1
        if self.values_left < 0 or len(path) > DEPTH_MAX:
            mark = node.start_mark
            raise yaml.MarkedYAMLError(problem="too deep or too large", problem_mark=mark)
        self.layer.origins[path] = self.where(node)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        try:
            value = self.loader.construct_object(node)
        except ValueError as error:  # a date such as 2001-99-99
            mark = node.start_mark
            raise yaml.MarkedYAMLError(problem=str(error), problem_mark=mark) from None
        return self.filled_in(node, path, value) if isinstance(value, str) else value

    def mapping(self, node: yaml.MappingNode, path: Path) -> Any:
        values: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in lines:
                message = f"given twice, first in line {lines[key]}"
                self.problem(key_node, (*path, key), message)
                continue
            lines[key] = line
            values[key] = self.value(value_node, (*path, key))
            self.layer.origins[(*path, key)] = self.where(key_node)
        if set(values) == {"file"} and is_secret(self.model, path):
            return self.secret(node, path, values["file"])
        return values

    def filled_in(self, node: yaml.Node, path: Path, text: str) -> str:
        """`${NAME}` replaced from the environment; `$$` stands for a dollar sign."""

        def replace(match: re.Match[str]) -> str:
            dollar, name = match.groups()
            if dollar:
                return "$"
            if name not in self.env:
                self.problem(node, path, f"environment variable {name!r} is not set")
            return self.env.get(name, "")

        return _REFERENCE.sub(replace, text)

    def secret(self, node: yaml.Node, path: Path, name: object) -> str | None:
        """First line-trimmed content of a file; relative names start at the settings file."""
        try:
            with (self.file.parent / str(name)).open(encoding="utf-8") as opened:
                return opened.read(SECRET_MAX_BYTES).strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            self.problem(node, path, f"secret file {str(name)!r} cannot be read: {reason}")
            return None

    def where(self, node: yaml.Node) -> str:
        return f"{self.file}:{node.start_mark.line + 1}"

    def problem(self, node: yaml.Node, path: Path, message: str) -> None:
        self.layer.problems.append(Problem(self.where(node), dotted(path), message))
