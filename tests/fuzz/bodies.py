"""Bodies made from a corpus: bytes and values changed, cut, repeated and nested."""

import json
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import orjson

CORPUS = Path(__file__).parents[1] / "corpus" / "bodies.jsonl"
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses")
# What parsers trip over, spliced in anywhere.
_TOKENS = (
    b"null", b"true", b"0", b"-0.0", b"1e400", b"[]", b"{}", b'""', b'"\\ud800"', b'"\\u0000"',
    b"\xff", b"\x00", b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"NaN", b"9" * 400,
    b'"model"', b'"messages"', b'"content":', b'{"role":"user"}', b'"tools":[null],',
    b"\xef\xbb\xbf",
    b'"role":null', b'"input":[[]]', b'"cache_control":{"type":"ephemeral","ttl":"9h"}',
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**18, "", "x" * 5000, [], {}, [None], [[]], {"": None},
    {"role": "user"}, [{"type": "text"}], [{"type": "text", "text": 7}], "\u2028", "🙂",
    {"type": "tool_use", "input": []}, [{"role": None, "content": {"a": [1]}}],
)  # fmt: skip


class Case(NamedTuple):
    path: str
    body: bytes


def corpus() -> list[Case]:
    """Bodies that were odd enough to keep; bytes stand as Latin-1."""
    lines = CORPUS.read_text().splitlines()
    rows = [json.loads(line) for line in lines if line]
    return [Case(row["path"], row["body"].encode("latin-1")) for row in rows]


def keep(case: Case, why: str) -> None:
    """Adds a body to the corpus."""
    row = {"path": case.path, "why": why, "body": case.body.decode("latin-1")}
    with CORPUS.open("a") as file:
        file.write(json.dumps(row) + "\n")


def mutated(random: Random, cases: list[Case]) -> Case:
    """One more body; a third of them stay JSON."""
    case = random.choice(cases)
    path = case.path if random.random() < 0.8 else random.choice(PATHS)
    if random.random() < 0.4:
        try:
            value = orjson.loads(case.body)
        except orjson.JSONDecodeError:
            pass
        else:
            for _ in range(random.randrange(1, 4)):
                value = _other_value(random, value)
            return Case(path, json.dumps(value, ensure_ascii=random.random() < 0.5).encode())
    body = case.body
    for _ in range(random.randrange(1, 5)):
        body = _other_bytes(random, body, cases)
    return Case(path, body[:100_000])


def _other_bytes(random: Random, body: bytes, cases: list[Case]) -> bytes:
    at, to = sorted((random.randrange(len(body) + 1), random.randrange(len(body) + 1)))
    match random.randrange(6):
        case 0:
            return body[:at] + body[to:]
        case 1:
            return body[:at] + random.choice(_TOKENS) + body[at:]
        case 2:
            return body[:at] + random.choice(_TOKENS) + body[to:]
        case 3:
            return body[:to] + body[at:to] * random.randrange(1, 4) + body[to:]
        case 4:
            other = random.choice(cases).body
            return body[:at] + other[random.randrange(len(other) + 1) :]
    return body[:at] + bytes([random.randrange(256)]) + body[at + 1 :]


def _other_value(random: Random, value: Any) -> Any:
    """Somewhere inside, something else."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        name = random.choice(list(value))
        match random.randrange(5):
            case 0:
                return {key: each for key, each in value.items() if key != name}
            case 1:
                return value | {random.choice(list(value)): value[name]}
        return value | {name: _other_value(random, value[name])}
    if isinstance(value, list) and value and random.random() < 0.9:
        at = random.randrange(len(value))
        match random.randrange(5):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value + value[at:]
        return [*value[:at], _other_value(random, value[at]), *value[at + 1 :]]
    return random.choice(_VALUES)
