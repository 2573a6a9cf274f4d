"""What is wrong with settings, said so that it can be found and corrected at once."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError

from kvproxy.settings.tree import Path, dotted, fields_at, is_secret, known_keys

# What pydantic says, where it can be said more plainly; {names} come from the error's context.
_MESSAGES = {
    "missing": "required, and not given",
    "string_too_short": "must not be empty",
    "string_pattern_mismatch": "does not match {pattern}",
    "tuple_type": "expected a list",
    "model_type": "expected a group of keys",
    "model_attributes_type": "expected a group of keys",
    "literal_error": "expected {expected}",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
}
_CREDENTIALS = re.compile(r"//[^/@\s]*@")
_SENTENCE_END = re.compile(r"\.(?: (?=[A-Z])|$)")
# Where the key itself is easily put in its digest's place.
_NOT_REPEATED = "sha256"
NO_REPLICA = "at least one is needed: --replica URL, KVPROXY_REPLICAS, or `replicas:` in a file"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `where` is `file:line`, a variable or a flag; empty when nothing was given."""

    where: str
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.path, self.message) if part)


class SettingsError(Exception):
    """Settings that cannot be used; `problems` holds every mistake found, not just the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        assert self.problems
        super().__init__("\n".join(str(problem) for problem in self.problems))


def problems_of(
    error: ValidationError, model: type[BaseModel], origins: Mapping[Path, str]
) -> list[Problem]:
    """Pydantic's findings as problems; `origins` tells for each path where its value stands."""
    problems = []
    for found in error.errors(include_url=False):
        if found["type"] == "too_short" and found["input"]:
            continue  # items were given; each that is wrong is a finding of its own
        path = tuple(found["loc"]) + tuple(found.get("ctx", {}).get("at", ()))
        if found["type"] == "extra_forbidden":
            message = unknown_key(model, path)
        elif path == ("replicas",) and found["type"] in ("missing", "too_short"):
            message = NO_REPLICA
        else:
            message = _message(found["type"], found["msg"], found.get("ctx", {}))
            message += _got(model, path, found["type"], found["input"])
            message += _meaning(model, path) if found["type"] == "string_pattern_mismatch" else ""
        problems.append(Problem(_origin(path, origins), dotted(path), message))
    return problems


def unknown_key(model: type[BaseModel], path: Path) -> str:
    """The message for a key that does not exist, with the nearest one that does.

    The same key of another group comes first, then like ones in its own group, then anywhere.
    """
    *parents, last = path
    siblings = {str(name): (*parents, name) for name in fields_at(model, tuple(parents))}
    anywhere = {dotted(known): known for known in known_keys(model)}
    by_last: dict[str, Path] = {str(known[-1]): known for known in reversed(anywhere.values())}
    for names, cutoff in ((by_last, 1.0), (siblings, 0.6), (by_last, 0.75), (anywhere, 0.6)):
        if near := get_close_matches(str(last), names, n=1, cutoff=cutoff):
            return f"unknown key; did you mean {dotted(names[near[0]])}?"
    return f"unknown key; known here: {', '.join(sorted(siblings)) or 'none'}"


def _message(kind: str, message: str, context: Mapping[str, object]) -> str:
    if kind in _MESSAGES:
        plain = {k: f"{v:.12g}" if isinstance(v, float) else v for k, v in context.items()}
        return _MESSAGES[kind].format(**plain)
    return message.removeprefix("Value error, ")


def _got(model: type[BaseModel], path: Path, kind: str, value: object) -> str:
    """The offending value, unless it says nothing, was said already, or may be a secret."""
    said_already = kind in ("missing", "too_short", "value_error", "replica_url", "duplicate")
    hidden = is_secret(model, path) or path[-1:] == (_NOT_REPEATED,)
    if said_already or hidden or isinstance(value, dict | list | tuple):
        return ""
    return f", got {without_credentials(repr(value)):.60}"


def without_credentials(text: str) -> str:
    """What stands before the host of an address may be a password."""
    return _CREDENTIALS.sub("//…@", text)


def _meaning(model: type[BaseModel], path: Path) -> str:
    """What the key is for, where a pattern alone would have to be read."""
    named = path[:-1] if isinstance(path[-1], int) else path
    field = fields_at(model, named[:-1]).get(str(named[-1])) if named else None
    return f" ({_SENTENCE_END.split(field.description)[0]})" if field and field.description else ""


def _origin(path: Path, origins: Mapping[Path, str]) -> str:
    """Where the value stands, or else the nearest group around it that stands somewhere."""
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            return origins[path[:length]]
    return ""
