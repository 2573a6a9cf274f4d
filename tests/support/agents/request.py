"""One request of a coding agent, and the ways in which clients spoil its prefix for nothing."""

import json
from dataclasses import dataclass
from random import Random
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AgentRequest:
    """`kind` is what the agent does with it: turn, sub-agent, title, count, compaction, ..."""

    kind: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Habits:
    """How a client writes what it has to say. A tidy one writes equal things equally; any other
    draws the order of tools, of keys in schemas and arguments, and of members, and its white
    space anew for every request, as clients with hash maps and reconnecting tool servers do."""

    random: Random
    tidy: bool

    def tools(self, tools: list[Json], schema: str) -> list[Json]:
        """`schema` is the member of a tool whose keys may be in any order."""
        if self.tidy:
            return tools
        written = [tool | {schema: self.shuffled(tool[schema])} for tool in tools if schema in tool]
        written += [tool for tool in tools if schema not in tool]
        self.random.shuffle(written)
        return written

    def shuffled(self, value: Any) -> Any:
        """The same JSON value with the keys of every object in another order."""
        if self.tidy:
            return value
        if isinstance(value, list):
            return [self.shuffled(each) for each in value]
        if not isinstance(value, dict):
            return value
        keys = list(value)
        self.random.shuffle(keys)
        return {key: self.shuffled(value[key]) for key in keys}

    def body(self, fields: Json) -> bytes:
        """`fields` as JSON text; members in any order, lists and what they hold as they are."""
        if self.tidy:
            return json.dumps(fields).encode()
        names = list(fields)
        self.random.shuffle(names)
        compact = self.random.random() < 0.5
        return json.dumps(
            {name: fields[name] for name in names},
            ensure_ascii=self.random.random() < 0.5,
            separators=(",", ":") if compact else None,
        ).encode()

    def arguments(self, arguments: Json) -> str:
        """The text of a call's arguments."""
        return json.dumps(self.shuffled(arguments))

    def billing(self) -> str:
        """The line before a system prompt that is another in every request; nothing if tidy."""
        if self.tidy:
            return ""
        cch = f"{self.random.getrandbits(20):05x}"
        return f"x-anthropic-billing-header: cc_version=2.1.150; cc_entrypoint=cli; cch={cch};\n"
