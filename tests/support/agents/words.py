"""Text, tools and calls of made-up coding work, all of it drawn from a seed."""

from random import Random
from typing import Any

Json = dict[str, Any]

_NOUNS = [
    "parser",
    "router",
    "cache",
    "index",
    "token",
    "block",
    "session",
    "replica",
    "queue",
    "writer",
    "reader",
    "store",
]
_VERBS = [
    "read",
    "check",
    "move",
    "split",
    "merge",
    "rename",
    "drop",
    "count",
    "sort",
    "guard",
    "bound",
    "trace",
]
_ENDS = ("", " first", " again", " before the release", " in every test", " and say why")


def sentence(random: Random) -> str:
    verb, noun, other = random.choice(_VERBS), random.choice(_NOUNS), random.choice(_NOUNS)
    return f"{verb.capitalize()} the {noun} of the {other}{random.choice(_ENDS)}."


def prose(random: Random, sentences: int) -> str:
    return " ".join(sentence(random) for _ in range(sentences))


def code(random: Random, lines: int) -> str:
    return "\n".join(
        f"{number:4}  def {random.choice(_VERBS)}_{random.choice(_NOUNS)}_{random.randrange(99)}"
        f"(self, {random.choice(_NOUNS)}: int) -> int:"
        for number in range(1, lines + 1)
    )


def path(random: Random) -> str:
    return f"src/{random.choice(_NOUNS)}/{random.choice(_VERBS)}_{random.randrange(40)}.py"


def arguments(random: Random) -> Json:
    """Of a call that reads part of a file: three keys, so that they have an order."""
    start = random.randrange(500)
    return {"path": path(random), "offset": start, "limit": start + random.randrange(1, 200)}


def schema(random: Random) -> Json:
    """JSON schema of a tool's parameters."""
    return {
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": sentence(random)},
            "offset": {"type": "integer", "description": sentence(random), "minimum": 0},
            "limit": {"type": "integer", "description": sentence(random)},
        },
        "required": ["path"],
        "additionalProperties": False,
    }
