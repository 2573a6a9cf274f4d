"""Request bodies as odd as clients write them, from a seed; and what they mean."""

import json
from contextlib import suppress
from random import Random
from typing import Any

_TEXTS = (
    "", "plain", "two\nlines\t", 'quote " and \\ slash', "naïve café", "日本語のテキスト", "🙂🚀",
    "\u2028\u2029", "\x00\x1f\x7f", "a" * 3000, "</s><|im_start|>", '{"looks": "like json"}',
)  # fmt: skip
_NUMBERS = ("0", "-0.0", "1.0", "1", "1e3", "1E-7", "12345678901234567890123", "0.1000", "-17.250")
_SPACES = ("", "", "", " ", "\n  ", "\t", " \r\n ")
_UNKNOWN = ("x_trace", "extra", "énigme", "logit_bias", "metadata2", "vllm_xargs", "")


class BodyWriter:
    """Writes JSON with free white space, escapes and number forms. One seed, one sequence."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def space(self) -> str:
        return self._random.choice(_SPACES)

    def string(self, text: str) -> str:
        written = json.dumps(text, ensure_ascii=self._random.random() < 0.5)
        return written.replace("/", "\\/") if self._random.random() < 0.2 else written

    def write(self, value: object) -> str:
        if isinstance(value, Number):
            return value.text
        if isinstance(value, str):
            return self.string(value)
        if isinstance(value, dict):
            pairs = (
                f"{self.space()}{json.dumps(key, ensure_ascii=False)}{self.space()}:"
                f"{self.space()}{self.write(member)}{self.space()}"
                for key, member in value.items()
            )
            return "{" + (",".join(pairs) or self.space()) + "}"
        if isinstance(value, list):
            items = (f"{self.space()}{self.write(item)}{self.space()}" for item in value)
            return "[" + (",".join(items) or self.space()) + "]"
        return json.dumps(value)

    def body(self, value: object) -> bytes:
        return f"{self.space()}{self.write(value)}{self.space()}".encode()

    def shuffled(self, value: Any) -> Any:
        """The same meaning: keys of every object in another order, and so the tools."""
        if isinstance(value, list):
            return [self.shuffled(item) for item in value]
        if not isinstance(value, dict):
            return value
        keys = list(value)
        self._random.shuffle(keys)
        turned = {key: self.shuffled(value[key]) for key in keys}
        if isinstance(turned.get("tools"), list):
            self._random.shuffle(turned["tools"])
        if isinstance(turned.get("arguments"), str):
            turned["arguments"] = self._arguments(turned["arguments"])
        return turned

    def _arguments(self, text: str) -> str:
        try:
            parsed = json.loads(text)
        except ValueError:
            return text
        return json.dumps(self.shuffled(parsed)) if isinstance(parsed, dict) else text

    def chat(self) -> dict[str, Any]:
        """A body of /v1/chat/completions; some shapes in it no engine would take."""
        random = self._random
        body: dict[str, Any] = {"model": "tiny", "messages": self._messages()}
        if random.random() < 0.6:
            body["tools"] = [self._tool(name) for name in random.sample("abcdef", 3)]
        for name in random.sample(_UNKNOWN, random.randrange(3)):
            body[name] = self.value(3)
        if random.random() < 0.5:
            body["stream"] = random.random() < 0.5
        if random.random() < 0.5:
            body["temperature"] = Number(random.choice(_NUMBERS))
        keys = list(body)
        random.shuffle(keys)
        return {key: body[key] for key in keys}

    def value(self, depth: int) -> object:
        kind = self._random.randrange(7 if depth else 4)
        if kind == 0:
            return self._random.choice([True, False, None])
        if kind == 1:
            return Number(self._random.choice(_NUMBERS))
        if kind in (2, 3):
            return self._random.choice(_TEXTS)
        if kind == 4:
            return [self.value(depth - 1) for _ in range(self._random.randrange(4))]
        names = self._random.sample(["zeta", "alpha", "k", "ключ", "type"], 3)
        return {name: self.value(depth - 1) for name in names}

    def _messages(self) -> list[dict[str, Any]]:
        return [self._message() for _ in range(1 + self._random.randrange(5))]

    def _message(self) -> dict[str, Any]:
        random = self._random
        role = random.choice(["system", "user", "assistant", "tool", "developer"])
        text = random.choice(_TEXTS)
        message: dict[str, Any] = {"role": role, "content": text}
        if random.random() < 0.3:
            message["content"] = [{"type": "text", "text": text}, {"type": "image_url", "u": "x"}]
        if role == "tool":
            message["tool_call_id"] = "call_1"
        if role == "assistant" and random.random() < 0.7:
            arguments = json.dumps({"path": text, "limit": 3, "all": [1, 2.5]})
            function = {"name": "read", "arguments": random.choice([arguments, "", "{broken"])}
            message["tool_calls"] = [{"id": "call_1", "type": "function", "function": function}]
            message["content"] = None
        if random.random() < 0.2:
            message["cache_control"] = {"type": "ephemeral"}
        return message

    def _tool(self, name: str) -> dict[str, Any]:
        parameters = {"type": "object", "required": ["a"], "properties": self.value(2)}
        told = f"does {self._random.random()}"
        function = {"name": name, "description": told, "parameters": parameters}
        return {"type": "function", "function": function}


class Number:
    """A number with the very digits that are to be sent."""

    def __init__(self, text: str) -> None:
        self.text = text


def meaning(body: bytes) -> str:
    """Canonical text of a body's JSON: equal for bodies that differ in key or tool order only.

    Whole and floating numbers stay apart; argument strings count by what they parse to.
    """
    return json.dumps(_normal(json.loads(body)), sort_keys=True)


def _normal(value: Any) -> Any:
    if isinstance(value, list):
        return [_normal(item) for item in value]
    if not isinstance(value, dict):
        return value
    normal = {key: _normal(member) for key, member in value.items()}
    if isinstance(normal.get("tools"), list):
        normal["tools"].sort(key=lambda tool: json.dumps(tool, sort_keys=True))
    arguments = normal.get("arguments")
    if isinstance(arguments, str) and arguments.startswith("{"):
        with suppress(ValueError):
            normal["arguments"] = json.loads(arguments)
    return normal
