"""Settings from all their sources: default < file < environment < flag."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel, ValidationError

from kvproxy.settings.errors import Problem, SettingsError, problems_of
from kvproxy.settings.model import Settings
from kvproxy.settings.source import Layer, from_env, from_flags
from kvproxy.settings.tree import Path
from kvproxy.settings.yaml_file import from_yaml

Flags = Mapping[tuple[str, ...], tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Valid settings, and for each path that was given: `file:line`, a variable or a flag."""

    settings: Settings
    origins: Mapping[Path, str]


def load(
    file: FilePath | None = None, env: Mapping[str, str] | None = None, flags: Flags | None = None
) -> Loaded:
    """Raises SettingsError with every mistake of every source. `flags`: path -> (flag, value)."""
    env = env or {}
    layers = [from_yaml(Settings, file, env)] if file else []
    layers += [from_env(Settings, env), from_flags(Settings, flags or {})]
    values, origins = _merge(layers)
    problems = [problem for layer in layers for problem in layer.problems]
    if any(layer.unreadable for layer in layers):
        raise SettingsError(problems)
    try:
        settings = _validate(Settings, values)
    except ValidationError as error:
        problems += _new(problems, problems_of(error, Settings, origins))
        raise SettingsError(problems) from None
    if problems:
        raise SettingsError(problems)
    return Loaded(settings, origins)


def _validate(model: type[Settings], values: dict[str, Any]) -> Settings:
    # A group whose keys are all commented out reads as null: it means the defaults.
    groups = {name for name, field in model.model_fields.items() if _is_group(field.annotation)}
    given = {k: v for k, v in values.items() if not (v is None and k in groups)}
    return model.model_validate(given)


def _is_group(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _merge(layers: list[Layer]) -> tuple[dict[str, Any], dict[Path, str]]:
    """Later layers win key by key; a list is one value and is replaced whole."""
    values: dict[str, Any] = {}
    origins: dict[Path, str] = {}
    for layer in layers:
        for path in _overlay(values, layer.values, ()):
            replaced = [old for old in origins if old[: len(path)] == path]
            for old in replaced:
                del origins[old]
        origins |= layer.origins
    return values, origins


def _overlay(onto: dict[str, Any], values: dict[str, Any], at: Path) -> list[Path]:
    """Writes `values` over `onto`; returns the paths that were written as a whole."""
    written: list[Path] = []
    for key, value in values.items():
        below = onto.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            written += _overlay(below, value, (*at, key))
        else:
            onto[key] = value
            written.append((*at, key))
    return written


def _new(known: list[Problem], found: list[Problem]) -> list[Problem]:
    """Without what follows from a mistake already reported for the same path."""
    paths = {problem.path for problem in known}
    return [problem for problem in found if problem.path not in paths]
