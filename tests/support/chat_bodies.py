"""Chat conversations as clients send them: random content, tools, layouts and ways to go on."""

import copy
import json
from dataclasses import dataclass, field
from random import Random
from typing import Any

Json = dict[str, Any]

_WORDS = [
    "the",
    "file",
    "é",
    "naïve",
    "🚀",
    '"quoted"',
    "back\\slash",
    "line\nbreak",
    "\u2028",
    "def",
]


def some_text(random: Random, words: int) -> str:
    return " ".join(random.choice(_WORDS) for _ in range(words))


def some_arguments(random: Random, depth: int = 2) -> Json:
    keys = random.sample(["path", "limit", "old", "new", "flags", "größe"], random.randint(1, 4))
    return {key: _some_value(random, depth) for key in keys}


def _some_value(random: Random, depth: int) -> Any:
    kind = random.randrange(6 if depth else 4)
    if kind == 4:
        return some_arguments(random, depth - 1)
    if kind == 5:
        return [_some_value(random, depth - 1) for _ in range(random.randint(0, 3))]
    return [some_text(random, 3), random.randint(-5, 10**20), random.random(), None][kind]


def some_tool(random: Random, name: str) -> Json:
    properties = {
        key: {"type": "string", "description": some_text(random, 4)}
        for key in random.sample(["path", "limit", "pattern", "command"], random.randint(1, 4))
    }
    parameters = {"type": "object", "properties": properties, "required": sorted(properties)}
    function = {"name": name, "description": some_text(random, 5), "parameters": parameters}
    return {"type": "function", "function": function}


def some_message(random: Random) -> Json:
    kind = random.randrange(5)
    if kind == 0:
        return {"role": "user", "content": some_text(random, random.randint(0, 30))}
    if kind == 1:
        parts = [
            {"type": "text", "text": some_text(random, 9)} for _ in range(random.randint(1, 3))
        ]
        return {"role": "user", "content": parts}
    if kind == 2:
        calls = [
            {
                "id": f"call_{random.randrange(10**6)}",
                "type": "function",
                "function": {"name": "read", "arguments": json.dumps(some_arguments(random))},
            }
            for _ in range(random.randint(1, 2))
        ]
        return {"role": "assistant", "content": None, "tool_calls": calls}
    if kind == 3:
        content = some_text(random, random.randint(1, 60))
        return {"role": "tool", "tool_call_id": "call_1", "content": content}
    return {
        "role": "assistant",
        "content": some_text(random, 12),
        "reasoning": some_text(random, 3),
    }


@dataclass
class Conversation:
    """A client with its habits: `tools_last`, `indent` and `ascii` are how it writes bodies."""

    random: Random
    tools_last: bool = False
    indent: int | None = None
    ascii: bool = False
    model: str = "m"
    system: list[Json] = field(default_factory=list)
    messages: list[Json] = field(default_factory=list)
    tools: list[Json] = field(default_factory=list)
    extra: Json = field(default_factory=dict)

    @classmethod
    def start(cls, random: Random) -> "Conversation":
        names = random.sample(["read", "write", "grep", "bash"], random.randint(0, 4))
        return cls(
            random,
            tools_last=random.random() < 0.4,
            indent=random.choice([None, None, 1]),
            ascii=random.random() < 0.5,
            model=random.choice(["m", "other"]),
            system=[{"role": "system", "content": some_text(random, 40)}],
            messages=[some_message(random) for _ in range(random.randint(1, 4))],
            tools=[some_tool(random, name) for name in names],
            extra=random.choice([{}, {"stream": True}, {"cache_salt": "s1", "stream": False}]),
        )

    def fork(self) -> "Conversation":
        random, self.random = self.random, Random(0)
        twin = copy.deepcopy(self)
        twin.random = self.random = random
        return twin

    def value(self) -> Json:
        tools = {"tools": self.tools} if self.tools else {}
        messages = {"messages": self.system + self.messages}
        ordered = messages | tools if self.tools_last else tools | messages
        return {"model": self.model} | ordered | self.extra

    def body(self) -> bytes:
        return json.dumps(self.value(), indent=self.indent, ensure_ascii=self.ascii).encode()

    def go_on(self) -> str:
        """Change the conversation in one of the ways clients do; returns which."""
        random = self.random
        name = random.choices(list(_WAYS), weights=[weight for _, weight in _WAYS.values()])[0]
        _WAYS[name][0](self)
        return name


def _append(c: Conversation) -> None:
    c.messages += [some_message(c.random) for _ in range(c.random.randint(1, 3))]


def _edit_middle(c: Conversation) -> None:
    c.messages[c.random.randrange(len(c.messages))] = some_message(c.random)


def _move_cache_mark(c: Conversation) -> None:
    for message in c.messages:
        message.pop("cache_control", None)
    for message in c.messages[-2:]:
        message["cache_control"] = {"type": "ephemeral"}


def _truncate(c: Conversation) -> None:
    del c.messages[c.random.randint(1, len(c.messages)) :]


def _change_tools(c: Conversation) -> None:
    c.tools = [some_tool(c.random, name) for name in c.random.sample(["read", "ls", "cat"], 2)]


def _shuffle_tools(c: Conversation) -> None:
    c.tools = shuffled(c.tools, c.random)
    c.random.shuffle(c.tools)


def _shuffle_arguments(c: Conversation) -> None:
    """For good: the client goes on to send what another order was seen of."""
    for message in c.messages:
        for call in message.get("tool_calls", ()):
            arguments = shuffled(json.loads(call["function"]["arguments"]), c.random)
            call["function"] = {**call["function"], "arguments": json.dumps(arguments)}


def _toggle_stream(c: Conversation) -> None:
    c.extra = {**c.extra, "stream": not c.extra.get("stream", False)}


def _change_model(c: Conversation) -> None:
    c.model = c.random.choice(["m", "other", "modèle"])


_WAYS = {
    "append": (_append, 8),
    "again": (lambda c: None, 1),
    "edit_middle": (_edit_middle, 2),
    "move_cache_mark": (_move_cache_mark, 2),
    "truncate": (_truncate, 1),
    "change_tools": (_change_tools, 1),
    "shuffle_tools": (_shuffle_tools, 2),
    "shuffle_arguments": (_shuffle_arguments, 2),
    "toggle_stream": (_toggle_stream, 1),
    "change_model": (_change_model, 1),
}


def shuffled(value: Any, random: Random) -> Any:
    """The same value with all object keys in another order; lists keep theirs."""
    if isinstance(value, dict):
        items = list(value.items())
        random.shuffle(items)
        return {key: shuffled(inner, random) for key, inner in items}
    return [shuffled(inner, random) for inner in value] if isinstance(value, list) else value


def same_meaning(body: Json, random: Random) -> bytes:
    """Another body that a model must see as the same: all orders and layouts shuffled."""
    body = shuffled(body, random)
    random.shuffle(body.get("tools", []))
    for message in body["messages"]:
        for call in message.get("tool_calls", ()):
            arguments = shuffled(json.loads(call["function"]["arguments"]), random)
            indent = random.choice([None, 2])
            call["function"]["arguments"] = json.dumps(
                arguments, indent=indent, ensure_ascii=random.random() < 0.5
            )
    indent = random.choice([None, 1])
    return json.dumps(body, indent=indent, ensure_ascii=random.random() < 0.5).encode()


def prompt_view(body: bytes) -> tuple[str, list[str]]:
    """What a template prints of tools and arguments, in the order of the bytes sent."""
    value = json.loads(body)
    arguments = [
        json.dumps(json.loads(call["function"]["arguments"]))
        for message in value["messages"]
        for call in message.get("tool_calls") or ()
    ]
    printed = [
        [tool["function"].get(fact) for fact in ("name", "description", "parameters")]
        for tool in value.get("tools", [])
    ]
    return json.dumps(printed), arguments


def unordered(body: bytes) -> Any:
    """The value of a body with arguments parsed and the tools list as a set of sorted texts."""
    value = json.loads(body)
    for message in value["messages"]:
        for call in message.get("tool_calls") or ():
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    if "tools" in value:
        value["tools"] = sorted(json.dumps(tool, sort_keys=True) for tool in value["tools"])
    return value
