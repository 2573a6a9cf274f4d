"""Values from the environment and from flags. Each source of settings gives one layer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

from kvproxy.settings.errors import Problem, unknown_key
from kvproxy.settings.tree import Leaf, Path, dotted, leaves

ENV_PREFIX = "KVPROXY_"
# What is typed most often has a short name too.
ALIASES = {
    ("server", "host"): "--host",
    ("server", "port"): "--port",
    ("server", "workers"): "--workers",
    ("policy", "name"): "--policy",
}


@dataclass(slots=True)
class Layer:
    """Raw values as a tree, where each stands, and what is wrong before validation.

    `unreadable`: nothing is known of the values, so that what is missing tells nothing.
    """

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    unreadable: bool = False

    def put(self, path: tuple[str, ...], value: Any, origin: str) -> None:
        group = self.values
        for name in path[:-1]:
            group = group.setdefault(name, {})
        group[path[-1]] = value
        self.origins[path] = origin


def env_name(path: tuple[str, ...]) -> str:
    """("server", "port") -> KVPROXY_SERVER__PORT"""
    return ENV_PREFIX + "__".join(path).upper()


def has_flag(leaf: Leaf) -> bool:
    return not leaf.is_secret and (leaf.item is None or leaf.path == ("replicas",))


def flag_names(path: tuple[str, ...]) -> list[str]:
    """("server", "port") -> --server-port, --port"""
    if path == ("replicas",):
        return ["--replica"]
    long = "--" + "-".join(path).replace("_", "-")
    return [long, ALIASES[path]] if path in ALIASES else [long]


def from_env(model: type[BaseModel], env: Mapping[str, str]) -> Layer:
    """Variables `KVPROXY_SECTION__KEY`; lists are JSON. Unknown ones with `__` are mistakes.

    Others are left alone: Kubernetes sets KVPROXY_PORT and the like for a service of that name.
    """
    layer = Layer()
    known = {env_name(leaf.path): leaf for leaf in leaves(model)}
    for name, text in env.items():
        if not name.startswith(ENV_PREFIX):
            continue
        if leaf := known.get(name):
            layer.put(leaf.path, _from_text(leaf, name, text, layer.problems), name)
        elif "__" in name:
            path = tuple(name.removeprefix(ENV_PREFIX).lower().split("__"))
            layer.problems.append(Problem(name, dotted(path), unknown_key(model, path)))
        elif near := get_close_matches(name, [n for n in known if "__" not in n], cutoff=0.9):
            layer.problems.append(Problem(name, "", f"unknown variable; did you mean {near[0]}?"))
    return layer


def _from_text(leaf: Leaf, name: str, text: str, problems: list[Problem]) -> Any:
    if not leaf.is_list:
        return text
    try:
        return json.loads(text)
    except ValueError:
        hint = 'expected a JSON list, such as ["a", "b"]'
        problems.append(Problem(name, dotted(leaf.path), hint))
        return []


def from_flags(model: type[BaseModel], flags: Mapping[tuple[str, ...], tuple[str, Any]]) -> Layer:
    """Flags as path -> (the flag as typed, its value)."""
    layer = Layer()
    for path, (flag, value) in flags.items():
        assert any(leaf.path == path for leaf in leaves(model)), f"no setting {path}"
        layer.put(path, list(value) if isinstance(value, tuple) else value, flag)
    return layer
