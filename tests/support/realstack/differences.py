"""Two bodies that differ in one thing: what an engine sees of it, and what kvproxy can heal.

Every pair is a conversation of its own, told by its number, so that caches need not be emptied.
"""

import copy
import json
from collections.abc import Callable
from enum import Enum
from typing import Any, NamedTuple

from tests.support.realstack.engine import MODEL

Body = dict[str, Any]


class Kind(Enum):
    """HEALED is another order that an engine prints and kvproxy puts right. UNSEEN never reaches
    the prompt. SEEN changes it. TEMPLATE is printed by some templates, though not by this one: that
    has to be found out. REFUSED is no request."""

    HEALED = 1
    UNSEEN = 2
    SEEN = 3
    TEMPLATE = 4
    REFUSED = 5


class Difference(NamedTuple):
    name: str
    kind: Kind
    change: Callable[[Body], object]


RULES = " ".join(
    f"Rule {n}: prefer small, tested changes to module_{n}.py and say why." for n in range(60)
)
_CALL = {"name": "read_file", "arguments": '{"path": "test_router.py", "limit": 20}'}


def _tool(name: str, description: str, **properties: Any) -> Body:
    parameters = {"type": "object", "properties": properties, "required": list(properties)[:1]}
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def base(number: int) -> Body:
    path = {"type": "string", "description": "Path relative to the root"}
    limit = {"type": "integer", "description": "Lines at most"}
    call = {"id": "call_1", "type": "function", "function": _CALL}
    return {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": f"{number:05} You are a coding agent. {RULES}"},
            {"role": "user", "content": "Fix the failing test in test_router.py."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": "assert route('a') == 1\n" * 40},
            {"role": "user", "content": "Now write the fix, please. " * 10},
        ],
        "tools": [
            _tool("read_file", "Read a file from the workspace", path=path, limit=limit),
            _tool("bash", "Run a command", command={"type": "string"}, wait={"type": "number"}),
        ],
        "tool_choice": "none",
        "max_tokens": 2,
        "temperature": 0,
    }


def written(body: Body) -> bytes:
    """`raw` stands for a way of writing that a value cannot have."""
    how = body.pop("raw", None)
    return how(body) if how else json.dumps(body).encode()


def changed(number: int, difference: Difference) -> bytes:
    body = copy.deepcopy(base(number))
    difference.change(body)
    return written(body)


def backwards(value: Body) -> Body:
    return {key: value[key] for key in reversed(value)}


def _function(index: int) -> Callable[[Body], Body]:
    return lambda b: b["tools"][index]["function"]


_first = _function(0)


def _flip(inner: Body, key: str) -> None:
    inner[key] = backwards(inner[key])


def _properties(b: Body) -> Body:
    found: Body = _first(b)["parameters"]["properties"]
    return found


def _says(index: int, **members: Any) -> Callable[[Body], object]:
    return lambda b: b["messages"][index].update(members)


def _as_part(index: int, **more: Any) -> Callable[[Body], object]:
    def change(b: Body) -> None:
        text = b["messages"][index]["content"]
        b["messages"][index]["content"] = [{"type": "text", "text": text, **more}]

    return change


def _split_system(b: Body) -> None:
    text = b["messages"][0]["content"]
    parts = [{"type": "text", "text": piece} for piece in (text[:2000], text[2000:])]
    b["messages"][0]["content"] = parts


def _arguments(text: str) -> Callable[[Body], object]:
    return lambda b: b["messages"][2]["tool_calls"][0]["function"].update(arguments=text)


def _reorder(b: Body) -> None:
    turned = backwards(b)
    b.clear()
    b.update(turned)


def _other_ids(b: Body) -> None:
    b["messages"][2]["tool_calls"][0]["id"] = b["messages"][3]["tool_call_id"] = "call_xyz"


def _system(change: Callable[[str], str]) -> Callable[[Body], object]:
    return lambda b: b["messages"][0].update(content=change(b["messages"][0]["content"]))


H, U, S, T, R = Kind.HEALED, Kind.UNSEEN, Kind.SEEN, Kind.TEMPLATE, Kind.REFUSED
MARK = {"type": "ephemeral"}
DIFFERENCES = [
    Difference(*row)
    for row in (
        ("identical", U, lambda b: None),
        ("order of members", U, _reorder),
        ("indentation", U, lambda b: b.update(raw=lambda v: json.dumps(v, indent=2).encode())),
        (
            "escapes",
            U,
            lambda b: b.update(raw=lambda v: json.dumps(v).replace("Fix", r"\u0046ix").encode()),
        ),
        (
            "order within messages",
            U,
            lambda b: b.update(messages=[backwards(m) for m in b["messages"]]),
        ),
        ("order of a schema", H, lambda b: _flip(_first(b), "parameters")),
        ("order of properties", H, lambda b: _flip(_first(b)["parameters"], "properties")),
        ("order within a property", H, lambda b: _flip(_properties(b), "path")),
        ("order within a function", U, lambda b: _flip(b["tools"][0], "function")),
        ("order within a tool", U, lambda b: b.update(tools=[backwards(t) for t in b["tools"]])),
        ("order of tools", H, lambda b: b["tools"].reverse()),
        ("description null", S, lambda b: _function(1)(b).update(description=None)),
        ("strict false", S, lambda b: _first(b).update(strict=False)),
        ("unknown member of a function", U, lambda b: _first(b).update(x_extra=1)),
        ("unknown member of a tool", U, lambda b: b["tools"][0].update(x_extra=1)),
        ("cache mark on a tool", U, lambda b: b["tools"][1].update(cache_control=MARK)),
        ("no tools", S, lambda b: [b.pop("tools"), b.pop("tool_choice")]),
        ("tool choice", U, lambda b: b.update(tool_choice="auto")),
        ("spaces in arguments", U, _arguments('{"path":"test_router.py","limit":20}')),
        ("order of arguments", H, _arguments('{"limit": 20, "path": "test_router.py"}')),
        ("form of a number", S, _arguments('{"path": "test_router.py", "limit": 20.0}')),
        ("arguments that are no JSON", S, _arguments("{broken")),
        ("arguments escaped", U, _arguments('{"path": "test\\u005frouter.py", "limit": 20}')),
        ("id of a call", T, _other_ids),
        ("content empty", U, _says(2, content="")),
        ("content absent", U, lambda b: b["messages"][2].pop("content")),
        ("refusal null", U, _says(2, refusal=None, audio=None, function_call=None)),
        ("name null", R, _says(2, name=None)),
        ("reasoning", T, _says(2, reasoning="I think so")),
        ("unknown member of a message", U, _says(1, x_trace="abc")),
        ("name of a user", T, _says(1, name="bob")),
        ("unknown members", U, lambda b: b.update(metadata={"a": "b"}, user="u1", x_foo=1)),
        ("null members", U, lambda b: b.update(stop=None, logprobs=None, n=1)),
        ("sampling", U, lambda b: b.update(temperature=0.7, top_p=0.9, seed=7, max_tokens=3)),
        ("user content as a part", U, _as_part(1)),
        ("system content as a part", U, _as_part(0)),
        ("tool content as a part", U, _as_part(3)),
        ("a part with a cache mark", U, _as_part(0, cache_control=MARK)),
        ("system content in two parts", S, _split_system),
        ("cache mark on a message", U, _says(0, cache_control=MARK)),
        ("a space behind the system text", S, _system(lambda text: text + " ")),
        ("another first character", S, _system(lambda text: "x" + text[1:])),
        ("role developer", T, _says(0, role="developer")),
        ("salt", S, lambda b: b.update(cache_salt="s1")),
        (
            "template arguments",
            T,
            lambda b: b.update(chat_template_kwargs={"enable_thinking": False}),
        ),
        ("effort", T, lambda b: b.update(reasoning_effort="high")),
        ("no generation prompt", U, lambda b: b.update(add_generation_prompt=False)),
        ("session id", U, lambda b: b.update(session_id="s-9")),
        ("request id", U, lambda b: b.update(request_id="r-1", kv_transfer_params=None)),
        ("response format", U, lambda b: b.update(response_format={"type": "json_object"})),
        (
            "a member twice",
            U,
            lambda b: b.update(raw=lambda v: b'{"model":"zzz",' + json.dumps(v).encode()[1:]),
        ),
    )
]
